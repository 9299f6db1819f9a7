/** The list of runs, and what can be done with one. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { RUN_STATUSES } from '../../core/run.ts';
import { homeOf } from '../home.ts';
import { type Html, html } from '../html.ts';
import {
  after,
  buttonForm,
  type ConsoleDeps,
  confirmForm,
  count,
  dollars,
  isRefused,
  type Json,
  moment,
  refusal,
  sendConsolePage,
  tableOf,
} from './frame.ts';

const hidden = { schema: { hide: true } };
const PAGE = '100';
const ROWS_SHOWN = '50';

export function addRuns(scope: FastifyInstance, deps: ConsoleDeps): void {
  const { environment, call } = deps;
  scope.get<{ Querystring: { target?: string; status?: string; cursor?: string } }>(
    '/runs',
    hidden,
    async (request, reply) => {
      const { target = '', status = '', cursor } = request.query;
      const home = homeOf(request);
      const query = { limit: PAGE, cursor, target: target || undefined, status: status || undefined };
      const listed = await call(request, 'GET', '/backfill-embeddings', { query });
      if (isRefused(listed))
        return sendConsolePage({ request, reply, environment }, { title: 'Runs', body: refusal(listed) });
      const items: Json[] = listed.body.items;
      const rows = items.map((run: Json) => [
        html`<a href="${home}/runs/${run.runId}">${moment(run.createdAt)}</a>`,
        run.target,
        html`<span class="badge ${run.status}">${run.status}</span>${run.dryRun ? ' dry run' : ''}`,
        `${count(run.rows.embedded)} of ${count(run.rows.planned)}`,
        dollars(run.costUsd),
        run.message,
      ]);
      const more = listed.body.nextCursor;
      const body = html`<form class="filter" method="get" action="${home}/runs"><div class="field"><label for="target">Target</label><input id="target" name="target" value="${target}"></div>
<div class="field"><label for="status">Status</label><select id="status" name="status">${statusOptions(status)}</select></div><button type="submit">Filter</button></form>
${tableOf('Runs, the newest first', ['created', 'target', 'status', 'rows', 'cost', 'message'], rows)}
${more === null ? null : html`<p><a href="${home}/runs?target=${encodeURIComponent(target)}&amp;status=${encodeURIComponent(status)}&amp;cursor=${encodeURIComponent(more)}">Older runs</a></p>`}`;
      return sendConsolePage({ request, reply, environment }, { title: 'Runs', body });
    },
  );

  const controls = ['pause', 'resume', 'cancel', 'retry'] as const;
  for (const control of controls) {
    scope.post<{ Params: { runId: string } }>(`/runs/:runId/${control}`, hidden, async (request, reply) => {
      const { runId } = request.params;
      const { sure } = (request.body ?? {}) as { sure?: unknown };
      const frame = { request, reply, environment };
      const page = `/runs/${encodeURIComponent(runId)}`;
      const question = QUESTIONS[control];
      if (question !== undefined && sure !== 'yes') {
        const form = confirmForm(request, `${homeOf(request)}${page}/${control}`, {
          ...question,
          back: `${homeOf(request)}${page}`,
        });
        return sendConsolePage(frame, { title: `${question.button}?`, body: form });
      }
      const done = await call(
        request,
        'POST',
        `/backfill-embeddings/${encodeURIComponent(runId)}/${control}`,
      );
      if (!isRefused(done)) return reply.redirect(after(request, page, control), 303);
      return sendConsolePage(frame, {
        title: 'It was not done',
        body: html`${refusal(done)}<p><a href="${homeOf(request)}${page}">Back to the run</a></p>`,
      });
    });
  }
  addSettings(scope, deps);
}

function statusOptions(chosen: string): Html[] {
  return ['', ...RUN_STATUSES].map((status) =>
    status === chosen
      ? html`<option value="${status}" selected>${status || 'any'}</option>`
      : html`<option value="${status}">${status || 'any'}</option>`,
  );
}

const QUESTIONS: Readonly<Record<string, { question: string; button: string } | undefined>> = {
  cancel: {
    question:
      'The batches in hand go on to their end, and nothing more is sent. What is written stays. A cancelled run can be retried.',
    button: 'Cancel the run',
  },
  retry: {
    question: 'What is still missing is sent to the provider again, which costs tokens.',
    button: 'Retry the run',
  },
};

function addSettings(scope: FastifyInstance, { environment, call }: ConsoleDeps): void {
  // A page of its own: that of the run is loaded again every few seconds, and with it what somebody types.
  scope.get<{ Params: { runId: string } }>('/runs/:runId/settings', hidden, async (request, reply) => {
    const page = `/runs/${encodeURIComponent(request.params.runId)}`;
    const found = await call(request, 'GET', `/backfill-embeddings${page.slice('/runs'.length)}`);
    const home = homeOf(request);
    const body = isRefused(found) ? refusal(found) : settingsForm(request, `${home}${page}`, found.body);
    return sendConsolePage({ request, reply, environment }, { title: 'Settings of a run', body });
  });
  scope.post<{ Params: { runId: string } }>('/runs/:runId/settings', hidden, async (request, reply) => {
    const page = `/runs/${encodeURIComponent(request.params.runId)}`;
    const given = (request.body ?? {}) as Record<string, string | undefined>;
    const changes = Object.fromEntries(
      SETTINGS.flatMap(({ name }) =>
        given[name] === undefined || given[name] === '' ? [] : [[name, Number(given[name])]],
      ),
    );
    const done = await call(request, 'PATCH', `/backfill-embeddings${page.slice('/runs'.length)}`, {
      body: changes,
    });
    if (!isRefused(done)) return reply.redirect(after(request, page, 'changed'), 303);
    const body = html`${refusal(done)}<p><a href="${homeOf(request)}${page}">Back to the run</a></p>`;
    return sendConsolePage({ request, reply, environment }, { title: 'It was not changed', body });
  });
}

const SETTINGS = [
  { name: 'batchSize', label: 'Rows a batch' },
  { name: 'window', label: 'Batches of a tenant at once' },
  { name: 'maxTokens', label: 'Tokens at most' },
  { name: 'maxCostUsd', label: 'Dollars at most' },
] as const;

function settingsForm(request: FastifyRequest, page: string, run: Json): Html {
  const back = html`<p><a href="${page}">Back to the run</a></p>`;
  if (request.role === 'viewer') return html`<p>Log in with the admin secret to do this.</p>${back}`;
  const fields = SETTINGS.map(
    ({ name, label }) =>
      html`<div class="field"><label for="${name}">${label}</label><input id="${name}" name="${name}" type="number" min="0" step="any" value="${run[name] ?? ''}"></div>`,
  );
  return html`<form class="filter" method="post" action="${page}/settings">${fields}<button type="submit">Change</button></form>${back}`;
}

const ALLOWED: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  queued: [
    ['pause', 'Pause'],
    ['cancel', 'Cancel'],
  ],
  running: [
    ['pause', 'Pause'],
    ['cancel', 'Cancel'],
  ],
  pausing: [
    ['resume', 'Resume'],
    ['cancel', 'Cancel'],
  ],
  paused: [
    ['resume', 'Resume'],
    ['cancel', 'Cancel'],
  ],
  incomplete: [['retry', 'Retry']],
  cancelled: [['retry', 'Retry']],
  failed: [['retry', 'Retry']],
};

/** What the status of a run allows, and nothing else. */
export function runControls(request: FastifyRequest, run: Json): Html | null {
  const page = `${homeOf(request)}/runs/${encodeURIComponent(run.runId)}`;
  const buttons = (ALLOWED[run.status] ?? []).map(([control, label]) =>
    buttonForm(`${page}/${control}`, label),
  );
  if (request.role === 'viewer' || buttons.length === 0) return null;
  const canChange = ['queued', 'running', 'pausing', 'paused'].includes(run.status);
  return html`<div class="actions">${buttons}</div>
${canChange ? html`<p><a href="${page}/settings">Change its settings</a></p>` : null}`;
}

/** What was done to a run, and rows by outcome. */
export async function runMore(
  request: FastifyRequest,
  { call }: Pick<ConsoleDeps, 'call'>,
  runId: string,
): Promise<Html | null> {
  const events = await call(request, 'GET', '/audit', { query: { runId, limit: '50' } });
  const notDone: Json[] = [];
  for (const outcome of ['failed', 'quarantined', 'gone']) {
    const path = `/backfill-embeddings/${encodeURIComponent(runId)}/rows`;
    const rows = await call(request, 'GET', path, { query: { outcome, limit: ROWS_SHOWN } });
    if (!isRefused(rows)) notDone.push(...rows.body.items);
  }
  if (isRefused(events)) return null;
  return html`<h2>Rows that were not embedded</h2>
${tableOf(
  `The first ${ROWS_SHOWN} that failed, were quarantined, or are gone`,
  ['row', 'tenant', 'outcome', 'reason'],
  notDone.map((row: Json) => [row.rowId, row.tenantId, row.outcome, row.reason ?? '']),
)}
<h2>Events</h2>
${tableOf(
  'What was done to the run',
  ['when', 'who', 'what'],
  events.body.items.map((event: Json) => [moment(event.at), event.actor, event.action]),
)}`;
}
