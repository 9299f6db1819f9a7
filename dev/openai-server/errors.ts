/** Failures in the shape and words of OpenAI's API, so that a client's way of telling them apart is put to the test. */

export type ApiError = {
  readonly status: number;
  readonly message: string;
  readonly type: string | null;
  readonly param: string | null;
  readonly code: string | null;
  readonly headers?: Readonly<Record<string, string>>;
};

/** What a script may say about an error; absent leaves the usual. */
export type Wording = { readonly [Field in keyof ApiError]?: ApiError[Field] | undefined };

/** The body OpenAI sends with every status but 200. */
export function errorBody({ message, type, param, code }: ApiError): string {
  return JSON.stringify({ error: { message, type, param, code } });
}

export function invalidRequest(
  message: string,
  param: string | null = null,
  code: string | null = null,
): ApiError {
  return { status: 400, message, type: 'invalid_request_error', param, code };
}

/** What the API says of an empty string and of most other things in `input` that it cannot read. */
export function invalidInput(): ApiError {
  return invalidRequest(
    "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.",
  );
}

/**
 * Shows the ends of a key and stars between them, as OpenAI's messages do.
 *
 * So a part of the key travels in the provider's message, and whoever stores that message stores this part.
 */
export function maskKey(key: string): string {
  const head = Math.min(8, Math.floor(key.length / 3));
  const tail = Math.min(4, Math.floor(key.length / 4));
  return key.slice(0, head) + '*'.repeat(key.length - head - tail) + key.slice(key.length - tail);
}

export function invalidKey(key: string): ApiError {
  return {
    status: 401,
    message: `Incorrect API key provided: ${maskKey(key)}. You can find your API key at https://platform.openai.com/account/api-keys.`,
    type: 'invalid_request_error',
    param: null,
    code: 'invalid_api_key',
  };
}

export function missingKey(): ApiError {
  return {
    status: 401,
    message: 'Missing bearer authentication in header',
    type: 'invalid_request_error',
    param: null,
    code: null,
  };
}

export function mismatchedOrganization(): ApiError {
  return {
    status: 401,
    message: 'OpenAI-Organization header should match organization for API key',
    type: 'invalid_request_error',
    param: null,
    code: 'mismatched_organization',
  };
}

export function modelNotFound(model: string): ApiError {
  return {
    status: 404,
    message: `The model \`${model}\` does not exist or you do not have access to it.`,
    type: 'invalid_request_error',
    param: null,
    code: 'model_not_found',
  };
}

export function modelUnavailable(organization: string, model: string): ApiError {
  return {
    status: 403,
    message: `Project of organization \`${organization}\` does not have access to model \`${model}\``,
    type: 'invalid_request_error',
    param: null,
    code: 'model_not_found',
  };
}

export function ipRefused(): ApiError {
  return {
    status: 403,
    message: 'Your request IP does not match the allowlist of this project or organization.',
    type: 'invalid_request_error',
    param: null,
    code: 'ip_not_authorized',
  };
}

export function quotaExhausted(): ApiError {
  return {
    status: 429,
    message: 'You exceeded your current quota, please check your plan and billing details.',
    type: 'insufficient_quota',
    param: null,
    code: 'insufficient_quota',
  };
}

export function unavailable(): ApiError {
  return {
    status: 503,
    message: 'The engine is currently overloaded, please try again later',
    type: 'server_error',
    param: null,
    code: null,
  };
}

/** Stands for the text of a failure that a fault names by its status alone. */
export function errorOfStatus(status: number): ApiError {
  const type = status >= 500 ? 'server_error' : 'invalid_request_error';
  return { status, message: `Answer ${status} was asked for by a fault.`, type, param: null, code: null };
}

/** The failure as the script words it; what it leaves out stays. */
export function reworded(error: ApiError, given: Wording): ApiError {
  const words = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...error, ...Object.fromEntries(words) };
}
