/** What all pages of the console have in common. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { homeOf } from '../home.ts';
import { type Html, html, sendPage } from '../html.ts';
import type { Recent } from './recent.ts';

// biome-ignore lint/suspicious/noExplicitAny: the API describes its answers; each page takes what it shows
export type Json = any;

export type Answer = { readonly status: number; readonly body: Json };

/** Calls the API as the person of a request does: the same rules, the same audit. Paths are below `/api/v1/admin`. */
export type CallApi = (
  request: FastifyRequest,
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
  path: string,
  given?: {
    readonly query?: Readonly<Record<string, string | readonly string[] | undefined>>;
    readonly body?: unknown;
  },
) => Promise<Answer>;

export type ConsoleDeps = { readonly environment: string; readonly call: CallApi; readonly recent: Recent };

const PAGES = [
  ['Overview', ''],
  ['Runs', '/runs'],
  ['Start a run', '/start'],
  ['Keys', '/keys'],
  ['Quarantine', '/quarantine'],
  ['Switches', '/switches'],
  ['Audit', '/audit'],
  ['Health', '/health'],
  ['Queues', '/queues'],
  ['Log out', '/logout'],
] as const;

export type ConsolePage = {
  readonly title: string;
  readonly body: Html;
  /** Loads the page again after so many seconds. */
  readonly refreshSeconds?: number;
};

/** The links of every page. */
export function consoleLinks(request: FastifyRequest): { text: string; href: string }[] {
  const home = homeOf(request);
  return PAGES.map(([text, path]) => ({ text, href: `${home}${path}` }));
}

export function sendConsolePage(
  { request, reply, environment }: { request: FastifyRequest; reply: FastifyReply; environment: string },
  { title, body, refreshSeconds }: ConsolePage,
): FastifyReply {
  return sendPage(reply, {
    title,
    environment,
    links: consoleLinks(request),
    body: html`<h1>${title}</h1>
${saidIn(request)}
${body}`,
    ...(refreshSeconds !== undefined && { refreshSeconds }),
  });
}

/** What came of an action: the page that is shown after it finds it in its address, and nothing else is shown from there. */
const SAID: Readonly<Record<string, string>> = {
  pause: 'The run pauses: the batches in hand go on to their end.',
  resume: 'The run goes on.',
  cancel: 'The run is being cancelled: the batches in hand go on to their end.',
  retry: 'The run tries again what it left.',
  changed: 'The run goes on with the new settings.',
  started: 'The run has started.',
  'key-stored': 'The key is stored and was tried.',
  'key-removed': 'The key is removed.',
  'key-checked': 'The key was tried. The list shows what came of it.',
  released: 'The rows are released: the next run tries them again.',
  held: 'Nothing more is admitted until you let it go on.',
  'let-go': 'It goes on.',
  adopted: 'Embeddings without a stamp have one now. Repeat it while some are left.',
};

export function saidIn(request: FastifyRequest): Html | null {
  const { said } = request.query as { said?: unknown };
  const words = typeof said === 'string' && Object.hasOwn(SAID, said) ? SAID[said] : undefined;
  return words === undefined ? null : html`<p class="said" role="status">${words}</p>`;
}

/** Where to go after an action that succeeded. */
export function after(request: FastifyRequest, path: string, said: keyof typeof SAID): string {
  return `${homeOf(request)}${path}${path.includes('?') ? '&' : '?'}said=${said}`;
}

/** Why the API refused, in its own words. */
export function refusal(answer: Answer): Html {
  const { detail, title } = answer.body ?? {};
  return html`<p class="error" role="alert">${String(detail ?? title ?? `The API answered with status ${answer.status}.`)}</p>`;
}

export const isRefused = ({ status }: Answer): boolean => status >= 400;

/** Asks before something that costs money or data. A viewer is not asked. */
export function confirmForm(
  request: FastifyRequest,
  action: string,
  {
    question,
    button,
    fields = {},
    back,
  }: { question: Html | string; button: string; fields?: Readonly<Record<string, string>>; back: string },
): Html {
  const hidden = Object.entries(fields).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  );
  if (request.role === 'viewer')
    return html`<p>Log in with the admin secret to do this.</p><p><a href="${back}">Back</a></p>`;
  return html`<p>${question}</p>
<form method="post" action="${action}">${hidden}<input type="hidden" name="sure" value="yes">
<button type="submit">${button}</button></form>
<p><a href="${back}">No, go back</a></p>`;
}

/** One button that is a form, since it changes something. */
export function buttonForm(
  action: string,
  button: string,
  fields: Readonly<Record<string, string>> = {},
): Html {
  const hidden = Object.entries(fields).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  );
  return html`<form class="inline" method="post" action="${action}">${hidden}<button type="submit">${button}</button></form>`;
}

export function count(value: unknown): string {
  return typeof value === 'number' ? value.toLocaleString('en-US') : '–';
}

export function moment(iso: unknown): string {
  return typeof iso === 'string' ? `${iso.slice(0, 19).replace('T', ' ')} UTC` : '–';
}

export function dollars(value: unknown): string {
  if (typeof value !== 'number') return 'price not known';
  if (value > 0 && value < 0.0001) return 'under $0.0001';
  return `$${value.toFixed(value < 1 ? 4 : 2)}`;
}

/** A table with a heading for each column; on a narrow screen it scrolls by itself. */
export function tableOf(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly (string | number | Html | null)[])[],
): Html {
  if (rows.length === 0) return html`<p>None.</p>`;
  const isNumber = heads.map((_, column) => rows.every((row) => typeof row[column] === 'number'));
  const cellOf = (cell: string | number | Html | null, column: number) =>
    isNumber[column] ? html`<td class="number">${count(cell)}</td>` : html`<td>${cell}</td>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table><caption>${caption}</caption>
<thead><tr>${heads.map((head, column) => (isNumber[column] ? html`<th scope="col" class="number">${head}</th>` : html`<th scope="col">${head}</th>`))}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map(cellOf)}</tr>`)}</tbody></table></div>`;
}
