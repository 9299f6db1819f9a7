import type { Credential } from '../core/credential.ts';
import type { SendDimensions } from '../core/target.ts';

/** How a request is put to a server. */
export type RequestForm = { readonly base64: boolean; readonly dimensions: boolean };

type Traits = {
  form: RequestForm;
  /** The form was answered once: it is right, whatever is refused later. */
  isProven: boolean;
  /** Forms that are left to try; undefined while none was looked for. */
  untried: RequestForm[] | undefined;
  /** When all forms had been refused. */
  exhaustedAtMs: number;
  dimensionsRefusedAtMs: number;
  inputsMax: number;
  /** An inferred limit is forgotten then: it may have been a bad hour of the server. */
  inputsMaxUntilMs: number;
  /** The largest request that was answered of late. */
  passedMax: number;
  passedUntilMs: number;
  /** Requests that failed as a whole and passed in parts, by the size that passed. */
  doubts: number[];
};

/** Accounts remembered. The oldest is forgotten, and found out again. */
const ACCOUNTS_MAX = 10_000;
const INFERRED_MS = 30 * 60_000;
/** What was refused, in whatever form, is tried again after this time. */
const FORGOTTEN_MS = 10 * 60_000;
/** So often something else than a refusal has to speak for a limit before it counts. */
const DOUBTS_MIN = 3;

type Asked = {
  readonly model: string;
  readonly sendDimensions?: SendDimensions | undefined;
};

/**
 * What was found out about the servers behind accounts: which form of a request they take, and how many inputs.
 *
 * Servers that call themselves compatible differ in both, and say so in as many words as there are servers. Kept in memory:
 * a process finds out once for each account.
 */
export class ServerTraits {
  readonly #byAccount = new Map<string, Traits>();
  readonly #sendsDimensions: (model: string) => boolean;
  readonly #now: () => number;

  /** @param sendsDimensions whether requests for a model name the dimensions at first. */
  constructor(sendsDimensions: (model: string) => boolean, now: () => number = Date.now) {
    this.#sendsDimensions = sendsDimensions;
    this.#now = now;
  }

  formOf(credential: Credential, asked: Asked): RequestForm {
    return this.#traitsOf(credential, asked).form;
  }

  isProven(credential: Credential, asked: Asked): boolean {
    return this.#traitsOf(credential, asked).isProven;
  }

  /** Notes that a request in a form was answered as it should be. */
  noteAnswer(
    credential: Credential,
    asked: Asked & { readonly texts: readonly string[] },
    form: RequestForm,
  ): void {
    const traits = this.#traitsOf(credential, asked);
    const inputs = asked.texts.length;
    // More pass at once than that: what failed did so for another reason.
    traits.doubts = traits.doubts.filter((passed) => passed >= inputs);
    if (inputs >= traits.passedMax || this.#now() > traits.passedUntilMs) {
      traits.passedMax = inputs;
      traits.passedUntilMs = this.#now() + FORGOTTEN_MS;
    }
    if (traits.isProven) return;
    traits.form = form;
    traits.isProven = true;
  }

  /** Notes that base64 is refused. Returns whether that is news, and the request may be sent again without it. */
  refuseBase64(credential: Credential, asked: Asked, form: RequestForm): boolean {
    if (!form.base64) return false;
    const traits = this.#traitsOf(credential, asked);
    traits.form = { ...traits.form, base64: false };
    traits.isProven = false;
    return true;
  }

  /** Notes that the parameter `dimensions` is refused. Returns whether the request may be sent again without it. */
  refuseDimensions(credential: Credential, asked: Asked, form: RequestForm): boolean {
    if (!form.dimensions || (asked.sendDimensions ?? 'auto') !== 'auto') return false;
    const traits = this.#traitsOf(credential, asked);
    traits.dimensionsRefusedAtMs = this.#now();
    traits.form = { ...traits.form, dimensions: false };
    traits.isProven = false;
    return true;
  }

  /** Notes that vectors have another length than was asked for without words. Returns whether to ask for it by name. */
  wantDimensions(credential: Credential, asked: Asked, form: RequestForm): boolean {
    if (form.dimensions || (asked.sendDimensions ?? 'auto') !== 'auto') return false;
    const traits = this.#traitsOf(credential, asked);
    if (this.#now() - traits.dimensionsRefusedAtMs < FORGOTTEN_MS) return false;
    traits.form = { ...form, dimensions: true };
    traits.isProven = false;
    return true;
  }

  /**
   * Changes to the next form that was not tried, when a server refuses a plain word without saying why.
   *
   * Returns false when all were tried, or when the present one was answered before: then the form is not the reason.
   */
  tryOtherForm(credential: Credential, asked: Asked): boolean {
    const traits = this.#traitsOf(credential, asked);
    if (traits.isProven) return false;
    const isExhausted = this.#now() - traits.exhaustedAtMs < FORGOTTEN_MS;
    traits.untried ??= isExhausted ? [] : otherForms(traits.form, asked);
    const next = traits.untried.shift();
    // When none is taken, the form is not what is wrong: it begins anew once that was mended.
    traits.form = next ?? this.#firstForm(asked);
    if (next !== undefined) return true;
    traits.untried = undefined;
    traits.exhaustedAtMs = isExhausted ? traits.exhaustedAtMs : this.#now();
    return false;
  }

  /** The most inputs of a request; infinite while no limit is known. */
  inputsMaxOf(credential: Credential, asked: Asked): number {
    const traits = this.#traitsOf(credential, asked);
    return this.#now() < traits.inputsMaxUntilMs ? traits.inputsMax : Number.POSITIVE_INFINITY;
  }

  /**
   * Notes the most inputs that a request may hold.
   *
   * @param source `stated`: the server said so. `refused`: it refused more and took so many. `failed`: it failed with more and
   *   took so many; that counts from the third time in a row on, since a failure may have had another reason.
   */
  learnInputsMax(
    credential: Credential,
    asked: Asked,
    inputsMax: number,
    source: 'stated' | 'refused' | 'failed',
  ): void {
    const traits = this.#traitsOf(credential, asked);
    // A limit that larger requests have kept is none.
    if (source !== 'stated' && traits.passedMax > inputsMax && this.#now() < traits.passedUntilMs) return;
    if (source === 'failed') {
      traits.doubts.push(inputsMax);
      if (traits.doubts.length < DOUBTS_MIN) return;
    }
    const known = this.inputsMaxOf(credential, asked);
    const found = source === 'failed' ? Math.max(...traits.doubts) : inputsMax;
    traits.doubts = [];
    if (found >= known) return;
    traits.inputsMax = found;
    traits.inputsMaxUntilMs = source === 'stated' ? Number.POSITIVE_INFINITY : this.#now() + INFERRED_MS;
  }

  #firstForm({ model, sendDimensions = 'auto' }: Asked): RequestForm {
    const dimensions = sendDimensions === 'auto' ? this.#sendsDimensions(model) : sendDimensions === 'always';
    return { base64: true, dimensions };
  }

  #traitsOf(credential: Credential, asked: Asked): Traits {
    const { baseUrl, fingerprint, organization } = credential;
    const { model, sendDimensions } = asked;
    const account = JSON.stringify([baseUrl, fingerprint, organization, model, sendDimensions ?? 'auto']);
    const traits = this.#byAccount.get(account) ?? newTraits(this.#firstForm(asked));
    this.#byAccount.delete(account);
    this.#byAccount.set(account, traits);
    const oldest = this.#byAccount.keys().next().value;
    if (this.#byAccount.size > ACCOUNTS_MAX && oldest !== undefined) this.#byAccount.delete(oldest);
    return traits;
  }
}

function newTraits(form: RequestForm): Traits {
  return {
    form,
    isProven: false,
    untried: undefined,
    exhaustedAtMs: Number.NEGATIVE_INFINITY,
    dimensionsRefusedAtMs: Number.NEGATIVE_INFINITY,
    inputsMax: Number.POSITIVE_INFINITY,
    inputsMaxUntilMs: 0,
    passedMax: 0,
    passedUntilMs: 0,
    doubts: [],
  };
}

/** The other forms, those that servers are known to want first. */
function otherForms(present: RequestForm, { sendDimensions = 'auto' }: Asked): RequestForm[] {
  const isFree = sendDimensions === 'auto' && present.dimensions;
  const forms = [
    { base64: false, dimensions: present.dimensions },
    ...(isFree
      ? [
          { base64: true, dimensions: false },
          { base64: false, dimensions: false },
        ]
      : []),
  ];
  return forms.filter((form) => form.base64 !== present.base64 || form.dimensions !== present.dimensions);
}
