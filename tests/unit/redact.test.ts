import { describe, expect, test } from 'vitest';
import { withoutSecrets } from '../../src/openai/redact.ts';

const KEY = 'sk-planted-key';
const clean = (message: string, ...texts: string[]) => withoutSecrets(message, KEY, texts);

describe('a provider’s message keeps nothing of a text', () => {
  const text = 'Grüße an "Zoë" 日本\nvon der Straße';

  test.each([
    ['as it is', text],
    ['as PHP writes JSON', String.raw`"Gr\u00FC\u00DFe an \"Zo\u00EB\" \u65E5\u672C\nvon der Stra\u00DFe"`],
    ['as JavaScript writes JSON', JSON.stringify(text)],
    [
      'as Python writes JSON',
      String.raw`"Gr\u00fc\u00dfe an \"Zo\u00eb\" \u65e5\u672c\nvon der Stra\u00dfe"`,
    ],
  ])('that it quotes in full: %s', (_name, quoted) => {
    const said = clean(`bad input: ${quoted}, sorry`, text);

    expect(said).toMatch(/^bad input: "?\[text\]"?, sorry$/);
  });

  test('that holds a backslash itself, quoted as it is and as JSON writes it', () => {
    const path = String.raw`C:\new\users\zoe\notes`;

    expect(clean(`bad: ${path}!`, path)).toBe('bad: [text]!');
    expect(clean(`bad: ${JSON.stringify(path)}!`, path)).toBe('bad: "[text]"!');
  });

  test('that is short and quoted as Python writes JSON', () => {
    expect(clean(String.raw`bad: \u65e5\u672c\u8a9e\u65e5`, '日本語日')).toBe('bad: [text]');
  });

  test.each([
    ['single quotes', "cannot take 'patient 4711'", "cannot take '[text]'"],
    ['double quotes', 'cannot take "patient 4711"', 'cannot take "[text]"'],
    ['backticks', 'cannot take `patient 4711`', 'cannot take `[text]`'],
    ['curly quotes', 'cannot take “patient 4711”', 'cannot take “[text]”'],
    ['an ellipsis within the quotes', "cannot take 'patient 4711...'", "cannot take '[text]'"],
    ['other quotations before', "'a' of 'b' cannot be 'patient 4711'", "'a' of 'b' cannot be '[text]'"],
    ['a sentence with an apostrophe before', "can't take 'patient 4711'", "can't take '[text]'"],
  ])('of which it quotes fewer than sixteen characters: %s', (_name, message, masked) => {
    expect(clean(message, 'about patient 4711, who was seen on Monday')).toBe(masked);
  });

  test('that is cut in the middle of an escape', () => {
    expect(clean(String.raw`bad: "Zo\u00eb M\u00f"`, 'Zoë Müller war am Montag da')).toBe('bad: "[text]"');
  });
});

test('escapes that hide no text stay as the provider wrote them', () => {
  expect(clean(String.raw`no \u00fc in C:\new`, 'a note on patient 4711')).toBe(
    String.raw`no \u00fc in C:\new`,
  );
});

test('quotations that stand in no text stay, and so do words without quotation marks', () => {
  const message = "'$.input' is invalid: see 'input' of patient data";

  expect(clean(message, 'a note on patient 4711')).toBe(message);
});

test('the key is taken out', () => {
  expect(clean(`no such key: ${KEY}`)).toBe('no such key: [key]');
});

test('a full request is looked through within a second', () => {
  const texts = Array.from({ length: 2_000 }, (_, index) => `text ${index} é `.repeat(40));
  const message = Array.from({ length: 300 }, (_, index) => `'w${index}x'`).join(' ');

  const startedMs = performance.now();
  withoutSecrets(message, KEY, texts);

  expect(performance.now() - startedMs).toBeLessThan(1_000);
});

describe('masking', () => {
  const text = 'The patient Zoë Müller was <unwell> today';

  test.each([
    ['in upper case', text.toUpperCase()],
    ['in lower case', text.toLowerCase()],
    ['as a URL writes it', encodeURIComponent(text)],
    ['as HTML writes it', 'The patient Zo&#235; M&#xfc;ller was &lt;unwell&gt; today'],
    ['with escapes of two digits', String.raw`The patient Zo\xeb M\xfcller was \x3cunwell\x3e today`],
  ])('finds a text %s', (_name, quoted) => {
    const said = clean(`refused: ${quoted}`, text);
    expect(said.toLowerCase()).not.toContain('patient');
    expect(said.toLowerCase()).not.toContain('ller');
  });

  test('finds a short text in another case', () => {
    expect(clean('bad value ZOË HERE', 'zoë here')).toBe('bad value [text]');
  });

  test('takes a bounded time, however much a server quotes and however much was sent', () => {
    const texts = Array.from({ length: 2_048 }, (_, index) =>
      `${index} `.padEnd(140, 'some words of a row '),
    );
    const message = Array.from({ length: 400 }, (_, index) => `'q${index}'`).join('');
    const began = performance.now();

    const said = clean(message.repeat(200), ...texts);

    // Some 100 ms alone; 18 s and more when each quotation was looked up in each text.
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(said.length).toBeLessThanOrEqual(2_600);
  });
});
