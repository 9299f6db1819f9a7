// biome-ignore lint/suspicious/noExplicitAny: what an answer holds is checked by what a test expects of it
export type Answer = { readonly status: number; readonly body: any; readonly headers: Headers };

/** Calls the API with its secret, unless the headers say otherwise; `none` sends none. */
export async function callApi(
  { url, secret }: { readonly url: string; readonly secret: string },
  method: string,
  path: string,
  init: RequestInit,
): Promise<Answer> {
  const headers = new Headers(init.headers);
  if (!headers.has('x-admin-secret')) headers.set('x-admin-secret', secret);
  if (headers.get('x-admin-secret') === 'none') headers.delete('x-admin-secret');
  const answer = await fetch(`${url}${path}`, { redirect: 'manual', ...init, method, headers });
  const text = await answer.text();
  const isJson = /json/.test(answer.headers.get('content-type') ?? '');
  return {
    status: answer.status,
    body: isJson && text !== '' ? JSON.parse(text) : text,
    headers: answer.headers,
  };
}
