import type { FastifyReply } from 'fastify';
import { isSettled, type RunStatus } from '../core/run.ts';
import { type Html, html, sendPage } from './html.ts';

/** Counts of rows. Null: not counted yet. */
export type RunViewRows = {
  readonly planned: number | null;
  readonly embedded: number;
  readonly superseded: number;
  readonly gone: number;
  readonly quarantined: number;
  readonly failed: number;
  readonly remaining: number | null;
};

/** A run and its tenants, as the status page shows them: the shapes of the API. More fields are welcome. */
export type RunView = {
  readonly run: {
    readonly runId: string;
    readonly target: string;
    readonly status: RunStatus;
    readonly reason: string | null;
    readonly message: string;
    readonly dryRun: boolean;
    readonly batchSize: number;
    /** 0 to 100. */
    readonly progress: number;
    readonly rows: RunViewRows;
    readonly requests: number;
    readonly tokens: number;
    readonly costUsd: number | null;
    readonly etaSeconds: number | null;
    readonly tenants: { readonly total: number; readonly settled: number };
    /** ISO 8601. */
    readonly createdAt: string;
    readonly startedAt: string | null;
    readonly settledAt: string | null;
  };
  /** Its tenants, or the first of them. */
  readonly tenants: readonly {
    readonly tenantId: string;
    readonly status: string;
    readonly reason: string | null;
    readonly rows: Partial<RunViewRows>;
    readonly requests: number;
    readonly tokens: number;
  }[];
};

const REFRESH_SECONDS = 5;

type Links = readonly { readonly text: string; readonly href: string }[];
const LINKS: Links = [
  { text: 'Queues', href: '/admin/queues' },
  { text: 'Log out', href: '/admin/logout' },
];

export type RunPageParts = {
  readonly links?: Links;
  /** What can be done with the run. */
  readonly controls?: Html | null;
  /** Below the tenants. */
  readonly more?: Html | null;
};

/** The page that a job on the board leads to. Loads itself again until the run is settled. */
export function sendRunPage(
  reply: FastifyReply,
  environment: string,
  { run, tenants }: RunView,
  { links = LINKS, controls = null, more = null }: RunPageParts = {},
): FastifyReply {
  return sendPage(reply, {
    title: `Run ${run.runId}`,
    environment,
    links,
    ...(!isSettled(run.status) && { refreshSeconds: REFRESH_SECONDS }),
    body: html`<h1>Run ${run.runId}</h1>
<p><span class="badge ${run.status}">${run.status}</span> <strong>${run.message}</strong></p>
${run.reason === null ? null : html`<p>Reason: ${run.reason}</p>`}
${controls}
<p>Target ${run.target}, ${run.batchSize} rows a batch${run.dryRun ? ', dry run: nothing is written' : ''}.
Created ${time(run.createdAt)}, started ${time(run.startedAt)}, settled ${time(run.settledAt)}.</p>
<label for="progress">${run.progress} % done, ${run.tenants.settled} of ${run.tenants.total} tenants settled${leftOf(isSettled(run.status) ? null : run.etaSeconds)}</label>
<progress id="progress" max="100" value="${run.progress}"></progress>
<dl>${figures(run).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
<h2>Tenants</h2>
${tenants.length < run.tenants.total ? html`<p>The first ${tenants.length} of ${run.tenants.total}.</p>` : null}
<div class="scroll"><table>
<thead><tr><th scope="col">Tenant</th><th scope="col">Status</th>${COLUMNS.map((name) => html`<th scope="col" class="number">${name}</th>`)}</tr></thead>
<tbody>${tenants.map(rowOf)}</tbody>
</table></div>
${more}`,
  });
}

const COLUMNS = ['planned', 'embedded', 'superseded', 'gone', 'quarantined', 'failed', 'remaining'] as const;

function rowOf(tenant: RunView['tenants'][number]): Html {
  const reason = tenant.reason === null ? null : html`<br><small>${tenant.reason}</small>`;
  const cells = COLUMNS.map((name) => html`<td class="number">${count(tenant.rows[name])}</td>`);
  return html`<tr><th scope="row">${tenant.tenantId}</th><td><span class="${tenant.status}">${tenant.status}</span>${reason}</td>${cells}</tr>
`;
}

function figures(run: RunView['run']): [string, string][] {
  return [
    ...COLUMNS.map((name): [string, string] => [name, count(run.rows[name])]),
    ['requests', count(run.requests)],
    ['tokens', count(run.tokens)],
    ['cost', run.costUsd === null ? 'unknown' : `$${run.costUsd.toFixed(4)}`],
  ];
}

function count(value: number | null | undefined): string {
  return value === null || value === undefined ? '–' : value.toLocaleString('en-US');
}

function time(iso: string | null): string {
  return iso === null ? 'not yet' : `${iso.slice(0, 19).replace('T', ' ')} UTC`;
}

function leftOf(etaSeconds: number | null): string {
  // 0 once a run is settled.
  if (etaSeconds === null || etaSeconds === 0) return '';
  return etaSeconds < 90
    ? `, about ${Math.ceil(etaSeconds)} s left`
    : `, about ${Math.ceil(etaSeconds / 60)} min left`;
}

/** Answers while the database cannot be asked, and loads itself again. */
export function sendAwayPage(
  reply: FastifyReply,
  environment: string,
  trouble: string,
  links: Links = LINKS,
): FastifyReply {
  return sendPage(reply.code(503), {
    title: 'Not available',
    environment,
    links,
    refreshSeconds: REFRESH_SECONDS,
    body: html`<h1>The run cannot be shown now</h1><p>${trouble} This page tries again by itself.</p>`,
  });
}

/** Answers for an id that no run has. */
export function sendNoRunPage(reply: FastifyReply, environment: string, links: Links = LINKS): FastifyReply {
  return sendPage(reply.code(404), {
    title: 'No such run',
    environment,
    links,
    body: html`<h1>No such run</h1><p>There is no run of this id. It may belong to another system.</p>`,
  });
}
