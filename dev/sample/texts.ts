import { LEXICON, NUMBER_SLOTS } from './lexicon.ts';
import type { SeededRandom } from './random.ts';
import type { Topic } from './topics.ts';

/** One insight in 25 is a digest of a week, a page long instead of a sentence or three. */
const DIGEST_SHARE = 0.04;
const DIGEST_ITEMS_MIN = 6;
const DIGEST_ITEMS_MAX = 22;

/** Writes one insight about one of the topics, from a word or two up to some 2,500 characters. */
export function writeInsight(random: SeededRandom, topics: readonly Topic[]): string {
  return random.next() < DIGEST_SHARE
    ? writeDigest(random, topics)
    : writeFinding(random, random.pick(topics));
}

function writeFinding(random: SeededRandom, { observations, causes, actions }: Topic): string {
  const sentences = [random.pick(observations)];
  if (random.next() < 0.6) sentences.push(random.pick(causes));
  if (random.next() < 0.45) sentences.push(random.pick(actions));
  return fill(random, sentences.join(' '));
}

function writeDigest(random: SeededRandom, topics: readonly Topic[]): string {
  const items = Array.from({ length: random.integer(DIGEST_ITEMS_MIN, DIGEST_ITEMS_MAX) }, () => {
    return `- ${writeFinding(random, random.pick(topics))}`;
  });
  return `Weekly digest\n\n${items.join('\n')}`;
}

/**
 * Puts a word or a number into each `{slot}`: the same word wherever a slot occurs again, for a text is about one
 * supplier or one hub. A sentence that begins with a slot begins with a capital all the same.
 */
function fill(random: SeededRandom, template: string): string {
  const words = new Map<string, string>();
  const text = template.replace(/\{([^}]+)\}/g, (_match, slot: string) => {
    const range = NUMBER_SLOTS[slot];
    if (range !== undefined)
      return random.integer(...range).toLocaleString('en-US', { useGrouping: slot === 'many' });
    const choices = LEXICON[slot];
    if (choices === undefined) throw new Error(`no such slot: ${slot}`);
    const word = words.get(slot) ?? random.pick(choices);
    words.set(slot, word);
    return word;
  });
  return text.replace(
    /(^|[.!?] )(\p{Ll})/gu,
    (_match, before: string, letter: string) => before + letter.toUpperCase(),
  );
}
