/** Each target: what is there, what is missing, what is under way, and what to do next. */
import type { FastifyInstance } from 'fastify';
import { homeOf } from '../home.ts';
import { type Html, html } from '../html.ts';
import {
  after,
  type ConsoleDeps,
  confirmForm,
  count,
  isRefused,
  type Json,
  moment,
  refusal,
  sendConsolePage,
} from './frame.ts';

const REFRESH_SECONDS = 10;
const RUNS_LOOKED_AT = 200;
const SETTLED: readonly string[] = ['succeeded', 'incomplete', 'cancelled', 'failed'];

export function addOverview(scope: FastifyInstance, deps: ConsoleDeps): void {
  const { environment, call, recent } = deps;
  addAdopt(scope, deps);
  scope.get('/', { schema: { hide: true } }, async (request, reply) => {
    const frame = { request, reply, environment };
    const [counted, runs, switches] = await Promise.all([
      recent.of('targets', () => call(request, 'GET', '/targets')),
      call(request, 'GET', '/backfill-embeddings', { query: { limit: String(RUNS_LOOKED_AT) } }),
      call(request, 'GET', '/switches'),
    ]);
    if (counted === undefined) {
      const body = html`<p>The rows are being counted. This page tries again by itself.</p>`;
      return sendConsolePage(frame, { title: 'Overview', body, refreshSeconds: 1 });
    }
    const { answer: targets, atMs } = counted;
    if (isRefused(targets)) {
      return sendConsolePage(frame, {
        title: 'Overview',
        body: refusal(targets),
        refreshSeconds: REFRESH_SECONDS,
      });
    }
    const home = homeOf(request);
    const held: Json[] = isRefused(switches) ? [] : switches.body.items;
    const known: Json[] = isRefused(runs) ? [] : runs.body.items;
    const cards = targets.body.items.map((target: Json) =>
      cardOf(target, { home, held, runs: known.filter((run) => run.target === target.name) }),
    );
    return sendConsolePage(frame, {
      title: 'Overview',
      body: html`${heldLine(held, home)}${cards}${ageLine(atMs)}`,
      refreshSeconds: REFRESH_SECONDS,
    });
  });
}

/** Only where the figures are not of this moment. */
function ageLine(atMs: number): Html | null {
  const seconds = Math.round((Date.now() - atMs) / 1_000);
  return seconds < 2 ? null : html`<p>Counted ${seconds} s ago; the next count is under way.</p>`;
}

/** Declares embeddings without a stamp right, after asking. */
function addAdopt(scope: FastifyInstance, { environment, call }: ConsoleDeps): void {
  scope.get<{ Querystring: { target?: string } }>(
    '/adopt',
    { schema: { hide: true } },
    async (request, reply) => {
      const { target = '' } = request.query;
      const home = homeOf(request);
      const question = html`Declare the embeddings of <strong>${target}</strong> that have no stamp to be those of the present texts and model? Nothing is sent to the provider. Do this only if you know that they are.`;
      const body = confirmForm(request, `${home}/adopt`, {
        question,
        button: 'They are right',
        fields: { target },
        back: home,
      });
      return sendConsolePage({ request, reply, environment }, { title: 'Adopt embeddings?', body });
    },
  );
  scope.post('/adopt', { schema: { hide: true } }, async (request, reply) => {
    const { target = '', sure } = (request.body ?? {}) as { target?: string; sure?: string };
    if (sure !== 'yes')
      return reply.redirect(`${homeOf(request)}/adopt?target=${encodeURIComponent(target)}`, 303);
    const adopted = await call(request, 'POST', `/targets/${encodeURIComponent(target)}/adopt`);
    if (!isRefused(adopted)) return reply.redirect(after(request, '', 'adopted'), 303);
    return sendConsolePage(
      { request, reply, environment },
      { title: 'It was not done', body: refusal(adopted) },
    );
  });
}

function heldLine(held: readonly Json[], home: string): Html | null {
  const all = held.find(({ scope }) => scope === 'global');
  if (all === undefined) return null;
  return html`<p class="error">Everything is held since ${moment(all.since)} by ${all.actor}${all.reason ? `: ${all.reason}` : ''}. <a href="${home}/switches">Let it go on</a></p>`;
}

type Known = { readonly home: string; readonly held: readonly Json[]; readonly runs: readonly Json[] };

function cardOf(target: Json, { home, held, runs }: Known): Html {
  const { name, state, detail, table, model, dimensions, coverage } = target;
  const present = runs.find(({ status }) => !SETTLED.includes(status));
  const last = runs.find(({ status }) => SETTLED.includes(status));
  return html`<section class="card" aria-label="${name}">
<h2>${name}</h2>
<p>${table}, ${model}, ${dimensions} dimensions</p>
${coverage === null ? html`<p class="error">${detail ?? `The target is ${state}.`}</p>` : coverageOf(coverage)}
${runLine('Under way', present, home)}${runLine('Last run', last, home)}
<p class="next"><strong>${nextStep(target, { held, present, last })}</strong></p>
<p><a href="${home}/start?target=${encodeURIComponent(name)}">Start a run</a> · <a href="${home}/runs?target=${encodeURIComponent(name)}">Runs</a> · <a href="${home}/quarantine?target=${encodeURIComponent(name)}">Quarantine</a>${(coverage?.unverified ?? 0) > 0 ? html` · <a href="${home}/adopt?target=${encodeURIComponent(name)}">Adopt the unverified</a>` : null}</p>
</section>`;
}

function runLine(label: string, run: Json, home: string): Html | null {
  if (run === undefined) return null;
  return html`<p>${label}: <a href="${home}/runs/${run.runId}">${moment(run.createdAt)}</a> <span class="badge ${run.status}">${run.status}</span> ${run.message}</p>`;
}

const PARTS = [
  ['embedded', 'embedded'],
  ['stale', 'stale'],
  ['missing', 'missing'],
  ['unverified', 'unverified'],
  ['quarantined', 'quarantined'],
  ['unembeddable', 'blank'],
] as const;

/** Rows by kind, none of them counted twice: a stale row is also missing. */
export function partsOf(coverage: Json): { kind: string; label: string; rows: number }[] {
  const own: Readonly<Record<string, number>> = {
    ...coverage,
    missing: coverage.missing - (coverage.stale ?? 0),
  };
  return PARTS.map(([kind, label]) => ({ kind, label, rows: own[kind] ?? 0 }));
}

function coverageOf(coverage: Json): Html {
  const parts = partsOf(coverage);
  const whole = parts.reduce((sum, { rows }) => sum + rows, 0);
  const wanted = whole - (coverage.unembeddable ?? 0);
  const right = parts[0]?.rows ?? 0;
  let at = 0;
  const bars = parts.map(({ kind, rows }) => {
    const width = whole === 0 ? 0 : (rows / whole) * 100;
    const bar = html`<rect class="part-${kind}" x="${at.toFixed(3)}" y="0" width="${width.toFixed(3)}" height="4"></rect>`;
    at += width;
    return bar;
  });
  // A percentage alone would say 100 where a few of a million are missing.
  const percent = wanted === 0 || right === wanted ? 100 : Math.min(99, Math.floor((right / wanted) * 100));
  const about = coverage.estimated ? ', estimated' : '';
  return html`<p>${count(right)} of ${count(wanted)} rows have their embedding (${percent}%${about})</p>
<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label="${count(right)} of ${count(wanted)} rows have their embedding">${bars}</svg>
<dl>${parts.map(({ kind, label, rows }) => html`<div><dt><span class="dot part-${kind}"></span>${label}</dt><dd>${count(rows)}</dd></div>`)}</dl>`;
}

/** One sentence: what a person would do now. */
function nextStep(
  { name, state, coverage, missingIndex, missingIndexDdl }: Json,
  { held, present, last }: { held: readonly Json[]; present: Json; last: Json },
): string {
  if (state === 'absent') return 'Create the table, or take the target out of the file.';
  if (state !== 'ready' || coverage === null)
    return 'Correct the table or the file of targets, as said above.';
  const own = held.find((one) => one.scope === 'target' && one.name === name);
  if (own !== undefined) return 'The target is held: let it go on under Switches when the reason has passed.';
  if (present !== undefined)
    return present.status === 'paused'
      ? 'The run is paused: resume or cancel it.'
      : 'Nothing to do: the run is at work.';
  if (coverage.missing > 0 && last?.status === 'failed')
    return `Look why the last run failed, mend it, then retry it: ${last.reason ?? last.message}`;
  if (coverage.missing > 0)
    return `Start a run: ${count(coverage.missing)} ${coverage.missing === 1 ? 'row is' : 'rows are'} missing.`;
  if (coverage.quarantined > 0)
    return `Look at the ${count(coverage.quarantined)} quarantined rows: mend their texts, or release them.`;
  if ((coverage.unverified ?? 0) > 0)
    return 'Nothing is missing. Some embeddings have no stamp: adopt them, or embed them again.';
  if (missingIndex === false)
    return `Nothing to do now. Create the index that finds missing rows quickly: ${missingIndexDdl}`;
  return 'Nothing to do: nothing is missing.';
}
