import { describe, expect, test } from 'vitest';
import { modelIdentity, TargetsFile, toTargets } from '../../src/core/target.ts';

const PLAIN = { model: 'bge-m3', dimensions: 1_024 };

describe('the identity of a model', () => {
  test('is canonical JSON of what a vector depends on, whatever the order in the file', () => {
    expect(modelIdentity(PLAIN)).toBe('{"dimensions":1024,"model":"bge-m3"}');
    const full = {
      ...PLAIN,
      prefix: 'passage: ',
      request: { task: 'x', input_type: { b: [1, null], a: 'd' } },
    };
    expect(modelIdentity(full)).toBe(
      '{"dimensions":1024,"model":"bge-m3","prefix":"passage: ","request":{"input_type":{"a":"d","b":[1,null]},"task":"x"}}',
    );
    const reordered = {
      request: { input_type: { a: 'd', b: [1, null] }, task: 'x' },
      prefix: 'passage: ',
      ...PLAIN,
    };
    expect(modelIdentity(reordered)).toBe(modelIdentity(full));
  });

  test('is the same without further fields as with none of them, and another for each setting that counts', () => {
    expect(modelIdentity({ ...PLAIN, prefix: '', request: {} })).toBe(modelIdentity(PLAIN));
    const others = [
      { ...PLAIN, model: 'bge-m4' },
      { ...PLAIN, dimensions: 512 },
      { ...PLAIN, prefix: 'passage: ' },
      { ...PLAIN, request: { input_type: 'document' } },
      { ...PLAIN, request: { input_type: 'query' } },
    ];
    expect(new Set([PLAIN, ...others].map(modelIdentity)).size).toBe(others.length + 1);
  });
});

describe('a target', () => {
  const ENTRY = { table: 'notes', id: 'id', text: ['content'], embedding: 'embedding', ...PLAIN };
  const parse = (more: object) => TargetsFile.safeParse({ targets: { notes: { ...ENTRY, ...more } } });

  test('carries further fields of the request, a prefix, and whether the dimensions are sent', () => {
    const more = { request: { input_type: 'document' }, prefix: 'passage: ', sendDimensions: 'always' };
    const parsed = parse(more);
    expect(parsed.success && toTargets(parsed.data).get('notes')).toMatchObject(more);
  });

  test.each(['model', 'input', 'dimensions', 'encoding_format'])(
    'is refused with the further field %s, which Infill sets itself',
    (name) => {
      const parsed = parse({ request: { [name]: 'x' } });
      expect(parsed.success).toBe(false);
      expect(parsed.error?.issues[0]?.message).toBe(
        'expected fields other than model, input, dimensions, encoding_format: Infill sets those itself',
      );
    },
  );

  test('is refused with another word for whether the dimensions are sent', () => {
    expect(parse({ sendDimensions: 'sometimes' }).success).toBe(false);
  });
});
