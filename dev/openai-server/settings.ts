/** Everything that can be set from outside, as schemas: for the options, the configuration file and the control API. */
import { z } from 'zod';

const perMinute = z.number().positive().nullable();

/** Limits of an organisation, for every model apart. Null, or absent, is unlimited. */
export const Limits = z.strictObject({
  requestsPerMinute: perMinute.optional(),
  tokensPerMinute: perMinute.optional(),
  /** Seconds' worth of the limit that may be spent at once; 60 by default. */
  burstSeconds: z.number().positive().optional(),
});
export type Limits = z.infer<typeof Limits>;

/**
 * - `revoked`: 401 as for an unknown key. `quota_exhausted`: 429 `insufficient_quota`.
 * - `model_unavailable`: 403 `model_not_found`. `ip_refused`: 403 `ip_not_authorized`.
 */
export const KeyState = z.enum(['ok', 'revoked', 'quota_exhausted', 'model_unavailable', 'ip_refused']);
export type KeyState = z.infer<typeof KeyState>;

/** A key. Keys of one organisation share its limits; the last ones given count. Without one, a key is an organisation of its own. */
export const KeyConfig = z.strictObject({
  key: z.string().min(1),
  organization: z.string().optional(),
  state: KeyState.optional(),
  ...Limits.shape,
});
export type KeyConfig = z.infer<typeof KeyConfig>;

export const LimitsConfig = z.strictObject({
  organization: z.string(),
  model: z.string().optional(),
  ...Limits.shape,
});
export type LimitsConfig = z.infer<typeof LimitsConfig>;

/** Refuses a whole request for one text in it, as the API does with an input it cannot read. */
export const Poison = z.strictObject({
  /** Found anywhere in the text. */
  marker: z.string().min(1),
  status: z.number().int().min(400).max(599).optional(),
  message: z.string().optional(),
  type: z.string().nullable().optional(),
  param: z.string().nullable().optional(),
  code: z.string().nullable().optional(),
});
export type Poison = z.infer<typeof Poison>;

/** Time that an answer takes, in milliseconds, beyond the server's own work. Absent is none. */
export const Latency = z.strictObject({
  fixedMs: z.number().nonnegative().optional(),
  perTokenMs: z.number().nonnegative().optional(),
});
export type Latency = z.infer<typeof Latency>;

/** `unavailable`: every call is answered 503. `refuse`: the port is closed and open connections are reset. */
export const Outage = z.enum(['off', 'unavailable', 'refuse']);
export type Outage = z.infer<typeof Outage>;

/** Which calls a fault hits: those that meet every condition given. */
export const FaultCondition = z.strictObject({
  /** Call numbers as in the ledger, counted from 1 since its last reset. */
  calls: z.array(z.number().int().positive()).optional(),
  fromCall: z.number().int().positive().optional(),
  throughCall: z.number().int().positive().optional(),
  key: z.string().optional(),
  organization: z.string().optional(),
  model: z.string().optional(),
  /** Some input holds this. */
  textIncludes: z.string().min(1).optional(),
  inputsMin: z.number().int().positive().optional(),
  /** Share of the calls that meet all else, drawn from a generator of the rule's own: the same seed, the same calls. */
  probability: z.number().min(0).max(1).optional(),
  seed: z.number().int().optional(),
});

const item = z.number().int().nonnegative().optional();

/** What goes wrong. `item` is the position of the one spoiled vector, 0 by default; the others stay right. */
export const FaultAction = z.discriminatedUnion('kind', [
  // Answers without looking at the request any further.
  z.strictObject({
    kind: z.literal('status'),
    status: z.number().int().min(200).max(599),
    /** Of the error in the body; what is absent is made up from the status. */
    message: z.string().optional(),
    type: z.string().nullable().optional(),
    param: z.string().nullable().optional(),
    code: z.string().nullable().optional(),
    headers: z.record(z.string(), z.string()).optional(),
    /** Sent as `retry-after` (whole seconds) and `retry-after-ms`. */
    retryAfterMs: z.number().nonnegative().optional(),
  }),
  z.strictObject({ kind: z.literal('html'), status: z.number().int().default(502) }),
  z.strictObject({ kind: z.literal('error_in_200'), message: z.string().optional() }),
  z.strictObject({
    kind: z.literal('redirect'),
    status: z.union([z.literal(301), z.literal(302), z.literal(307), z.literal(308)]).default(307),
    location: z.url(),
  }),
  z.strictObject({ kind: z.literal('reset') }),
  z.strictObject({ kind: z.literal('hang') }),
  // Goes on as if nothing were wrong, later.
  z.strictObject({ kind: z.literal('delay'), delayMs: z.number().nonnegative() }),
  // Spoils, or in the case of `reordered` only shuffles, an answer that is paid for.
  z.strictObject({ kind: z.literal('cut') }),
  z.strictObject({ kind: z.literal('short') }),
  z.strictObject({ kind: z.literal('long') }),
  z.strictObject({ kind: z.literal('reordered') }),
  z.strictObject({ kind: z.literal('duplicate_index') }),
  z.strictObject({
    kind: z.literal('wrong_dimensions'),
    dimensions: z.number().int().nonnegative().optional(),
    item,
  }),
  z.strictObject({ kind: z.literal('nan'), item }),
  z.strictObject({ kind: z.literal('infinite'), item }),
  z.strictObject({ kind: z.literal('zeros'), item }),
]);
export type FaultAction = z.infer<typeof FaultAction>;
export type FaultKind = FaultAction['kind'];

export const FaultRule = z.strictObject({
  /** How often it strikes before it is spent; absent is without end. */
  times: z.number().int().positive().optional(),
  when: FaultCondition.optional(),
  action: FaultAction,
});

export const ServerConfig = z.strictObject({
  host: z.string().optional(),
  port: z.number().int().min(0).max(65_535).optional(),
  encoder: z.enum(['hash', 'use']).optional(),
  tokens: z.enum(['estimate', 'exact']).optional(),
  acceptAnyKey: z.boolean().optional(),
  keys: z.array(KeyConfig).optional(),
  /** For organisations that have none of their own. */
  defaultLimits: Limits.optional(),
  /** False: no headers about limits, and refusals that name neither a limit nor a time. True by default. */
  tellsLimits: z.boolean().optional(),
  faults: z.array(FaultRule).optional(),
  poison: z.array(Poison).optional(),
  latency: Latency.optional(),
  outage: Outage.optional(),
  ledgerTexts: z.boolean().optional(),
});
export type ServerConfig = z.input<typeof ServerConfig>;
