/**
 * Numbers in plain decimal digits, from text that somebody wrote. `Number` would take an empty text, ` 5`, `0x10`, `1e3` and
 * `007` too.
 *
 * Both give back what they were given when it is no such number, for a schema to refuse.
 */
export function plainWholeNumber(given: unknown): unknown {
  return typeof given === 'string' && /^(0|-?[1-9]\d{0,14})$/.test(given) ? Number(given) : given;
}

/** Also with a fraction: `0.25`. */
export function plainDecimal(given: unknown): unknown {
  return typeof given === 'string' && /^(0|[1-9]\d{0,14})(\.\d{1,12})?$/.test(given) ? Number(given) : given;
}
