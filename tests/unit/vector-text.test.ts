import fc from 'fast-check';
import { expect, test } from 'vitest';
import { vectorText } from '../../src/core/vector-text.ts';

const read = (text: string): Float32Array => Float32Array.from(JSON.parse(text) as number[]);

test('every vector is read back as the very same 32-bit floats', () => {
  const usual = fc.float({ min: -1, max: 1, noNaN: true });
  const any = fc.float({ noNaN: true, noDefaultInfinity: true });
  fc.assert(
    fc.property(
      fc.float32Array({ minLength: 1, maxLength: 50, noNaN: true, noDefaultInfinity: true }),
      (vector) => {
        expect(read(vectorText(vector)).map((value) => value + 0)).toEqual(vector.map((value) => value + 0));
      },
    ),
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(usual, any), { minLength: 1, maxLength: 50 }), (values) => {
      const vector = Float32Array.from(values, (value) => value + 0);
      expect(read(vectorText(vector))).toEqual(vector);
    }),
  );
});

test('the floats beside each power of ten keep to nine digits', () => {
  for (const power of [1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5]) {
    const bits = new Uint32Array(Float32Array.of(power).buffer)[0] ?? 0;
    for (const step of [-2, -1, 0, 1, 2]) {
      const [value = 0] = new Float32Array(Uint32Array.of(bits + step).buffer);
      for (const signed of [value, -value]) {
        const text = vectorText(Float32Array.of(signed));
        expect(read(text)[0], text).toBe(signed);
        expect(text).toMatch(/^\[-?(\d{9}e-\d+|\d+(\.\d+)?(e-\d+)?)\]$/);
      }
    }
  }
});

test('zeros, ones, the smallest and the largest floats are read back too', () => {
  const vector = Float32Array.of(
    0,
    -0,
    1,
    -1,
    1.401298464324817e-45,
    -3.4028234663852886e38,
    1.1754943508222875e-38,
  );
  expect([...read(vectorText(vector))].map((value) => value + 0)).toEqual(
    [...vector].map((value) => value + 0),
  );
  expect(vectorText(new Float32Array(0))).toBe('[]');
});
