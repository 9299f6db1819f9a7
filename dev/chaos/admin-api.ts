/** Calls the admin API, which may be away at any moment. */

/** What came back; status 0 when nothing did. */
export type AdminAnswer = {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: an answer's shape is the API's business
  readonly body: any;
};

export type AdminApi = {
  /** Never rejects: the API being away is what the suite is about. */
  call(
    method: string,
    path: string,
    options?: { body?: unknown; headers?: Record<string, string> },
  ): Promise<AdminAnswer>;
  /** Answers with a status of 500, or any other that nobody planned: each is a bug. */
  readonly unplanned: string[];
  /** How many answers there were of each status. */
  readonly statuses: Map<number, number>;
};

const TIMEOUT_MS = 8_000;
/** Done, accepted; unknown (a run that was taken back); conflicts; unavailable for the moment. */
const PLANNED: readonly number[] = [0, 200, 202, 204, 404, 409, 503];

export function adminApi(url: string, secret: string): AdminApi {
  const unplanned: string[] = [];
  const statuses = new Map<number, number>();
  return {
    unplanned,
    statuses,
    async call(method, path, { body, headers = {} } = {}) {
      const json = body === undefined ? {} : { 'content-type': 'application/json' };
      try {
        const answer = await fetch(`${url}/api/v1/admin${path}`, {
          method,
          headers: { 'x-admin-secret': secret, 'x-actor': 'monkey', ...json, ...headers },
          ...(body !== undefined && { body: JSON.stringify(body) }),
          signal: AbortSignal.timeout(TIMEOUT_MS),
        });
        const text = await answer.text();
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
        if (!PLANNED.includes(answer.status))
          unplanned.push(`${method} ${path} was answered ${answer.status}: ${text.slice(0, 300)}`);
        return { status: answer.status, body: text === '' ? null : JSON.parse(text) };
      } catch {
        statuses.set(0, (statuses.get(0) ?? 0) + 1);
        return { status: 0, body: null };
      }
    },
  };
}
