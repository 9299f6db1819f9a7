/** How many inputs a server takes at once, as its refusals say it. */

/** Words that say that inputs were counted. "Input" alone is not one of them: an input may be too long. */
const COUNTED =
  /\b(batch|inputs|items?|texts|elements?|instances?|instance\(s\)|documents|strings|sentences|requests? can be|array|list|(?:length|number) of inputs?)\b/i;
const NUMBER_AFTER =
  /(?:at most|max(?:imum)?|limit(?:ed)?|larger than|bigger than|more than|greater than|exceed(?:s|ed|ing)?|up to|only|less than or equal to|≤|<=|> )\D{0,40}?(\d+)(?!\d)(\s*\w*)/gi;
const NUMBER_BEFORE =
  /(?<!\d)(\d{1,12})(?!\d)(\s{0,5}\S{0,40})\s(?:is |are |as )?(?:the )?(?:allowed|permitted|max(?:imum)?|limit)\b/gi;
const ONE_ALONE =
  /\b(?:only|just) (?:one|a single|1) (?:input|text|string|item|document)\b|\b(?:one|a single) (?:input|text|string) (?:at a time|per request|is supported)|\bsingle (?:input|text|string) only\b|\bdoes not support (?:batch|multiple|array)/i;
/** What the number counts is no input. */
const OTHER_UNIT = /^\s*(?:tokens?|char(?:acter)?s?|bytes?|[km]i?b|words?|dimensions?|seconds?|minutes?)\b/i;

/**
 * The number of inputs that a refusal names as the most a request may hold; undefined when it names none.
 *
 * @param sent how many inputs the refused request had: a limit that it kept is not what it was refused for.
 */
export function statedInputsMax(message: string | undefined, sent: number): number | undefined {
  if (message === undefined || sent < 2) return undefined;
  if (ONE_ALONE.test(message)) return 1;
  if (!COUNTED.test(message)) return undefined;
  for (const pattern of [NUMBER_AFTER, NUMBER_BEFORE]) {
    for (const [, digits = '', unit = ''] of message.matchAll(pattern)) {
      const max = Number(digits);
      if (max >= 1 && max < sent && !OTHER_UNIT.test(unit)) return max;
    }
  }
  return undefined;
}
