/** The page on which a run is started: what it would cost first. */
import type { FastifyInstance } from 'fastify';
import { homeOf } from '../home.ts';
import { type Html, html } from '../html.ts';
import {
  after,
  type ConsoleDeps,
  count,
  dollars,
  isRefused,
  type Json,
  refusal,
  sendConsolePage,
  tableOf,
} from './frame.ts';

const hidden = { schema: { hide: true } };
const TENANTS_SHOWN_MAX = 200;

export function addStart(scope: FastifyInstance, { environment, call, recent }: ConsoleDeps): void {
  scope.get<{ Querystring: { target?: string; search?: string } }>(
    '/start',
    hidden,
    async (request, reply) => {
      const { target, search = '' } = request.query;
      const frame = { request, reply, environment };
      const [targets, estimate] = await Promise.all([
        recent.of('targets', () => call(request, 'GET', '/targets')),
        recent.of(`estimate ${target}`, () => call(request, 'GET', '/estimate', { query: { target } })),
      ]);
      if (targets === undefined || estimate === undefined) {
        const body = html`<p>The rows are being counted. This page tries again by itself.</p>`;
        return sendConsolePage(frame, { title: 'Start a run', body, refreshSeconds: 1 });
      }
      if (isRefused(targets.answer))
        return sendConsolePage(frame, { title: 'Start a run', body: refusal(targets.answer) });
      const home = homeOf(request);
      const names = targets.answer.body.items.map(({ name }: Json) => name);
      const choice = names.map(
        (name: string) =>
          html`<a class="badge" href="${home}/start?target=${encodeURIComponent(name)}">${name}</a> `,
      );
      const body = isRefused(estimate.answer)
        ? refusal(estimate.answer)
        : estimateOf(estimate.answer.body, { home, search, mayStart: request.role !== 'viewer' });
      return sendConsolePage(frame, { title: 'Start a run', body: html`<p>Target: ${choice}</p>${body}` });
    },
  );

  scope.post('/start', hidden, async (request, reply) => {
    const { target, tenantId, batchSize, limit, maxCostUsd, dryRun } = (request.body ?? {}) as Record<
      string,
      string | string[] | undefined
    >;
    const one = (value: string | string[] | undefined) =>
      typeof value === 'string' && value !== '' ? value : undefined;
    const tenants = [tenantId ?? []].flat().filter((id) => id !== '');
    const query = {
      ...{ target: one(target), batchSize: one(batchSize), limit: one(limit), maxCostUsd: one(maxCostUsd) },
      tenantId: tenants.length === 0 ? undefined : tenants,
      dryRun: dryRun === 'true' ? 'true' : undefined,
    };
    const started = await call(request, 'POST', '/backfill-embeddings', { query });
    if (!isRefused(started))
      return reply.redirect(after(request, `/runs/${started.body.runId}`, 'started'), 303);
    const { runId } = started.body ?? {};
    const home = homeOf(request);
    const there =
      runId === undefined
        ? null
        : html`<p><a href="${home}/runs/${runId}">Show the run that is under way</a></p>`;
    const body = html`${refusal(started)}${there}<p><a href="${home}/start">Back</a></p>`;
    return sendConsolePage({ request, reply, environment }, { title: 'No run was started', body });
  });
}

function estimateOf(
  found: Json,
  { home, search, mayStart }: { home: string; search: string; mayStart: boolean },
): Html {
  const { target, model, rows, tokens, costUsd, seconds, pricesAsOf } = found;
  if (rows === 0) return html`<p>No missing embeddings found in ${target}.</p>`;
  const cost = costOf(costUsd);
  const shown = found.tenants
    .filter(({ tenantId }: Json) => tenantId.includes(search))
    .slice(0, TENANTS_SHOWN_MAX);
  const lines = shown.map((one: Json) => [
    mayStart
      ? html`<label class="pick"><input type="checkbox" form="start" name="tenantId" value="${one.tenantId}"> ${one.tenantId}</label>`
      : one.tenantId,
    one.rows,
    costOf(one.costUsd),
    timeOf(one.seconds),
  ]);
  return html`<p>${count(rows)} ${rows === 1 ? 'row' : 'rows'} of ${count(found.tenants.length)} ${found.tenants.length === 1 ? 'tenant' : 'tenants'}: ${count(tokens.low)} to ${count(tokens.high)} tokens of ${model},
<strong>${cost}</strong>, about ${timeOf(seconds)}. Prices as of ${pricesAsOf}. Nothing was sent for this estimate.</p>
${mayStart ? startForm(target, cost, home) : null}
<h2>By tenant</h2>
<form class="filter" method="get" action="${home}/start"><input type="hidden" name="target" value="${target}"><div class="field"><label for="search">Tenant contains</label><input id="search" name="search" value="${search}"></div><button type="submit">Search</button></form>
${tableOf(`The tenants of ${target} with missing rows. Choose some, or none for all`, ['tenant', 'rows', 'cost', 'time'], lines)}
${shown.length < found.tenants.length ? html`<p>${count(shown.length)} of ${count(found.tenants.length)} tenants are shown: search for others.</p>` : null}`;
}

function startForm(target: string, cost: string, home: string): Html {
  return html`<form id="start" class="filter" method="post" action="${home}/start"><input type="hidden" name="target" value="${target}">
<div class="field"><label for="batchSize">Rows a batch</label><input id="batchSize" name="batchSize" type="number" min="1" max="2048" value="50"></div>
<div class="field"><label for="limit">Rows at most</label><input id="limit" name="limit" type="number" min="1"></div>
<div class="field"><label for="maxCostUsd">Dollars at most</label><input id="maxCostUsd" name="maxCostUsd" type="number" min="0" step="any"></div>
<button type="submit">Start the run (${cost})</button>
<button type="submit" name="dryRun" value="true" class="second">Dry run: costs the same, writes nothing</button></form>`;
}

function costOf(range: Json): string {
  if (range === null) return 'price not known';
  const [low, high] = [dollars(range.low), dollars(range.high)];
  return low === high ? low : `${low} to ${high}`;
}

function timeOf({ low, high }: Json): string {
  const words = (seconds: number) =>
    seconds < 1
      ? 'under 1 s'
      : seconds < 120
        ? `${Math.round(seconds)} s`
        : `${Math.round(seconds / 60)} min`;
  return words(low) === words(high) ? words(low) : `${words(low)} to ${words(high)}`;
}
