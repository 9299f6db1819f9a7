import { createHash } from 'node:crypto';
import type { FastifyReply } from 'fastify';

/** HTML that may go out as it is. Only `html` makes it. */
export class Html {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Part = string | number | Html | null | readonly Html[];

/** Writes HTML. What is put in is escaped unless it is `Html` itself; null puts in nothing. */
export function html(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  const written = parts.map((part, index) => `${strings[index]}${textOf(part)}`);
  return new Html(`${written.join('')}${strings.at(-1)}`);
}

function textOf(part: Part): string {
  if (part === null) return '';
  if (part instanceof Html) return part.text;
  if (typeof part === 'object') return part.map((one) => one.text).join('');
  return String(part).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

const STYLE = `
:root { color-scheme: light dark; --page: light-dark(#fff, #121214); --ink: light-dark(#18181b, #f4f4f5);
  --line: light-dark(#c8c8cf, #4b4b54); --soft: light-dark(#f1f1f4, #26262b); --accent: #2563eb;
  --bad: light-dark(#b01e25, #fca5a5); --good: light-dark(#166534, #86efac); --link: light-dark(#1d4ed8, #a5b4fc); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: var(--page); color: var(--ink); }
a { color: var(--link); }
header { display: flex; gap: .75rem; align-items: center; padding: .75rem 1.5rem; border-bottom: 1px solid var(--line); }
header strong { font-size: 1.1rem; }
header nav { margin-left: auto; display: flex; gap: 1rem; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem; }
main.narrow { max-width: 26rem; padding-top: 4rem; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.badge { padding: .1rem .6rem; border-radius: 1rem; background: var(--soft); border: 1px solid var(--line); font-size: .85rem; }
.succeeded { color: var(--good); } .failed, .incomplete, .error { color: var(--bad); }
.error { border-left: 4px solid; padding: .25rem .75rem; }
label { display: block; font-weight: 600; margin-bottom: .25rem; }
input, select { background: var(--page); color: var(--ink); }
input, button { font: inherit; width: 100%; padding: .6rem .75rem; border-radius: .4rem; border: 1px solid var(--line); }
button { margin-top: 1rem; background: var(--accent); color: #fff; border-color: transparent; cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
progress { width: 100%; height: 1.25rem; }
header nav a { white-space: nowrap; }
header { flex-wrap: wrap; } header nav { flex-wrap: wrap; }
.said { border-left: 4px solid var(--good); padding: .25rem .75rem; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .25rem 1rem; margin: 0 0 1rem; }
.card h2 { margin: .75rem 0 .25rem; overflow-wrap: anywhere; } .card p { margin: .35rem 0; }
.bar { width: 100%; height: 1.25rem; border-radius: .3rem; background: var(--soft); }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .4rem; border: 1px solid var(--line); }
.part-embedded { fill: #15803d; background: #15803d; } .part-stale { fill: #a16207; background: #a16207; }
.part-missing { fill: #c0262d; background: #c0262d; } .part-unverified { fill: #2563eb; background: #2563eb; }
.part-quarantined { fill: #7e22ce; background: #7e22ce; } .part-unembeddable { fill: #6b7280; background: #6b7280; }
form.inline { display: inline; } form.inline button { width: auto; margin: 0 .25rem .25rem 0; padding: .3rem .8rem; }
form.filter { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .4rem .75rem; align-items: end; margin: 0 0 1rem; }
.field label { margin: 0 0 .15rem; font-size: .9rem; } form.filter button { margin-top: 0; }
button.second { background: none; color: inherit; border-color: var(--line); }
select { font: inherit; width: 100%; padding: .6rem .75rem; border-radius: .4rem; border: 1px solid var(--line); }
label.pick { font-weight: 400; margin: 0; } label.pick input { width: auto; }
caption { text-align: left; font-size: .85rem; padding: .25rem 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1rem 0; }
dl div { background: var(--soft); border-radius: .4rem; padding: .5rem .75rem; }
dt { font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
tbody th { overflow-wrap: anywhere; }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
`;

// The hash of exactly what stands in <style>, so that no other style and no script at all can run on these pages.
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64');
const PAGE_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${STYLE_HASH}'`,
  "img-src 'self' data:",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

export type Page = {
  readonly title: string;
  /** Shown beside the name, so that nobody mistakes one system for another. */
  readonly environment: string;
  readonly body: Html;
  readonly links?: readonly { readonly text: string; readonly href: string }[];
  readonly narrow?: boolean;
  /** Loads the page again after so many seconds. */
  readonly refreshSeconds?: number;
};

/** Answers with a page that needs no script, with the headers that keep others from framing it or adding to it. */
export function sendPage(reply: FastifyReply, page: Page): FastifyReply {
  protect(reply, PAGE_POLICY);
  if (page.refreshSeconds !== undefined) reply.header('refresh', String(page.refreshSeconds));
  return reply.type('text/html; charset=utf-8').send(documentOf(page).text);
}

/** Sets the security headers of everything under `/admin`. `policy` is its Content-Security-Policy. */
export function protect(reply: FastifyReply, policy: string): void {
  reply.headers({
    'content-security-policy': policy,
    'x-frame-options': 'DENY',
    'x-content-type-options': 'nosniff',
    // Not no-referrer: browsers would then send `Origin: null` with our own forms.
    'referrer-policy': 'same-origin',
    'cache-control': 'no-store',
  });
}

function documentOf({ title, environment, body, links = [], narrow = false }: Page): Html {
  const nav = links.map(({ text, href }) => html`<a href="${href}">${text}</a>`);
  return html`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${title} · Infill</title>
<link rel="icon" href="data:,">
<style>${new Html(STYLE)}</style>
</head>
<body>
<header><strong>Infill</strong><span class="badge">${environment}</span>${nav.length === 0 ? null : html`<nav>${nav}</nav>`}</header>
<main${narrow ? html` class="narrow"` : null}>
${body}
</main>
</body>
</html>
`;
}
