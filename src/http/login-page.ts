import type { FastifyReply, FastifyRequest } from 'fastify';
import { homeOf } from './home.ts';
import { html, sendPage } from './html.ts';

/**
 * Asks for the admin secret, or the viewer's. `next` is the page to go on to; `error` says why the last attempt was refused.
 *
 * The secret is in a password field that no browser fills in or keeps unless its user wants it to.
 */
export function sendLoginPage(
  request: FastifyRequest,
  reply: FastifyReply,
  { environment, next, error }: { environment: string; next: string; error?: string },
): FastifyReply {
  const complaint = error === undefined ? null : html`<p class="error" id="error" role="alert">${error}</p>`;
  const described = error === undefined ? null : html` aria-invalid="true" aria-describedby="error"`;
  return sendPage(reply, {
    title: 'Log in',
    environment,
    narrow: true,
    body: html`<h1>Log in</h1>
${complaint}
<form method="post" action="${homeOf(request)}/login">
<label for="secret">Admin secret</label>
<input id="secret" name="secret" type="password" required autofocus autocomplete="current-password"${described}>
<input type="hidden" name="next" value="${next}">
<button type="submit">Log in</button>
</form>`,
  });
}

/** Asks before logging out, since a link alone must not end a session. */
export function sendLogoutPage(
  request: FastifyRequest,
  reply: FastifyReply,
  environment: string,
): FastifyReply {
  return sendPage(reply, {
    title: 'Log out',
    environment,
    narrow: true,
    links: [{ text: 'Overview', href: homeOf(request) }],
    body: html`<h1>Log out</h1>
<p>The session ends, also where somebody copied its cookie.</p>
<form method="post" action="${homeOf(request)}/logout"><button type="submit">Log out</button></form>`,
  });
}
