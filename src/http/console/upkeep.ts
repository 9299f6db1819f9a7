/** Keys, quarantine, switches, audit and health. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { homeOf } from '../home.ts';
import { type Html, html } from '../html.ts';
import {
  type Answer,
  after,
  buttonForm,
  type ConsoleDeps,
  confirmForm,
  isRefused,
  type Json,
  moment,
  refusal,
  sendConsolePage,
  tableOf,
} from './frame.ts';

const hidden = { schema: { hide: true } };
const REFRESH_SECONDS = 15;

export function addUpkeep(scope: FastifyInstance, deps: ConsoleDeps): void {
  addKeys(scope, deps);
  addQuarantine(scope, deps);
  addSwitches(scope, deps);
  addLists(scope, deps);
}

type Given = Record<string, string | undefined>;
const given = (request: FastifyRequest): Given => (request.body ?? {}) as Given;

/** Goes on to the page that shows what came of it, or says why it was refused. */
function done(
  { environment, request, reply }: { environment: string; request: FastifyRequest; reply: FastifyReply },
  answer: Answer,
  page: string,
  said: string,
): FastifyReply {
  if (!isRefused(answer)) return reply.redirect(after(request, page, said), 303);
  const body = html`${refusal(answer)}<p><a href="${homeOf(request)}${page}">Back</a></p>`;
  return sendConsolePage({ request, reply, environment }, { title: 'It was not done', body });
}

function addKeys(scope: FastifyInstance, { environment, call }: ConsoleDeps): void {
  scope.get<{ Querystring: { cursor?: string; remove?: string } }>(
    '/keys',
    hidden,
    async (request, reply) => {
      const frame = { request, reply, environment };
      const home = homeOf(request);
      const { remove, cursor } = request.query;
      if (remove !== undefined) {
        const question = html`Remove the key of <strong>${remove}</strong>? It is deleted for good. Its rows are embedded with the platform's key afterwards, if the policy allows that.`;
        const form = confirmForm(request, `${home}/keys/remove`, {
          question,
          button: 'Remove the key',
          fields: { tenantId: remove },
          back: `${home}/keys`,
        });
        return sendConsolePage(frame, { title: 'Remove a key?', body: form });
      }
      const listed = await call(request, 'GET', '/credentials', { query: { limit: '200', cursor } });
      if (isRefused(listed)) return sendConsolePage(frame, { title: 'Keys', body: refusal(listed) });
      const mayChange = request.role !== 'viewer';
      const rows = listed.body.items.map((key: Json) => [
        key.tenantId,
        `…${key.last4}`,
        html`<span class="badge">${key.status}</span> ${key.statusReason ?? ''}`,
        moment(key.statusSince ?? key.checkedAt),
        mayChange
          ? html`${buttonForm(`${home}/keys/check`, 'Try it', { tenantId: key.tenantId })} <a href="${home}/keys?remove=${encodeURIComponent(key.tenantId)}">Remove</a>`
          : null,
      ]);
      const more = listed.body.nextCursor;
      const body = html`${tableOf("Tenants' keys", ['tenant', 'ends with', 'health', 'since', 'actions'], rows)}
${more === null ? null : html`<p><a href="${home}/keys?cursor=${encodeURIComponent(more)}">More keys</a></p>`}
${mayChange ? keyForm(home) : null}`;
      return sendConsolePage(frame, { title: 'Keys', body });
    },
  );
  scope.post('/keys', hidden, async (request, reply) => {
    const { tenantId = '', apiKey, baseUrl, organization } = given(request);
    const body = { apiKey, ...(baseUrl && { baseUrl }), ...(organization && { organization }) };
    const stored = await call(request, 'PUT', `/tenants/${encodeURIComponent(tenantId)}/credential`, {
      body,
    });
    return done({ environment, request, reply }, stored, '/keys', 'key-stored');
  });
  scope.post('/keys/check', hidden, async (request, reply) => {
    const { tenantId = '' } = given(request);
    const checked = await call(request, 'POST', `/tenants/${encodeURIComponent(tenantId)}/credential/check`);
    return done({ environment, request, reply }, checked, '/keys', 'key-checked');
  });
  scope.post('/keys/remove', hidden, async (request, reply) => {
    const { tenantId = '', sure } = given(request);
    if (sure !== 'yes')
      return reply.redirect(`${homeOf(request)}/keys?remove=${encodeURIComponent(tenantId)}`, 303);
    const removed = await call(request, 'DELETE', `/tenants/${encodeURIComponent(tenantId)}/credential`);
    return done({ environment, request, reply }, removed, '/keys', 'key-removed');
  });
}

function keyForm(home: string): Html {
  return html`<h2>Store or replace a key</h2>
<form class="filter" method="post" action="${home}/keys" autocomplete="off"><div class="field"><label for="tenantId">Tenant</label><input id="tenantId" name="tenantId" required></div>
<div class="field"><label for="apiKey">Key (never shown again)</label><input id="apiKey" name="apiKey" type="password" required autocomplete="off"></div>
<div class="field"><label for="baseUrl">Base URL, if it is not the platform's</label><input id="baseUrl" name="baseUrl" type="url"></div>
<div class="field"><label for="organization">Organisation</label><input id="organization" name="organization"></div><button type="submit">Try and store it</button></form>`;
}

function addQuarantine(scope: FastifyInstance, { environment, call }: ConsoleDeps): void {
  scope.get<{ Querystring: Given }>('/quarantine', hidden, async (request, reply) => {
    const { target = '', tenantId = '', code = '', cursor, release } = request.query;
    const frame = { request, reply, environment };
    const home = homeOf(request);
    const query = {
      target: target || undefined,
      tenantId: tenantId || undefined,
      code: code || undefined,
      cursor,
      limit: '200',
    };
    if (release === 'all') {
      const fields = Object.fromEntries(
        Object.entries({ target, tenantId, code }).filter(([, value]) => value !== ''),
      );
      const words = Object.entries(fields)
        .map(([name, value]) => `${name} ${value}`)
        .join(', ');
      const form = confirmForm(request, `${home}/quarantine/release`, {
        question: `Release all rows of ${words}? The next run sends them to the provider again, which costs tokens.`,
        button: 'Release them',
        fields,
        back: `${home}/quarantine`,
      });
      return sendConsolePage(frame, { title: 'Release these rows?', body: form });
    }
    const listed = await call(request, 'GET', '/quarantine', { query });
    if (isRefused(listed)) return sendConsolePage(frame, { title: 'Quarantine', body: refusal(listed) });
    const mayChange = request.role !== 'viewer';
    const rows = listed.body.items.map((row: Json) => [
      ...[row.target, row.rowId, row.tenantId, row.code, row.message ?? '', moment(row.quarantinedAt)],
      mayChange
        ? buttonForm(`${home}/quarantine/release`, 'Release', {
            target: row.target,
            rowId: row.rowId,
            sure: 'yes',
          })
        : null,
    ]);
    const filters = `target=${encodeURIComponent(target)}&tenantId=${encodeURIComponent(tenantId)}&code=${encodeURIComponent(code)}`;
    const isFiltered = target !== '' || tenantId !== '' || code !== '';
    const more = listed.body.nextCursor;
    const fields = Object.entries({ target, tenantId, code }).map(
      ([name, value]) =>
        html`<div class="field"><label for="${name}">${name}</label><input id="${name}" name="${name}" value="${value}"></div>`,
    );
    const body = html`<p>Rows that the provider refuses. Another text of a row is tried again by itself.</p>
<form class="filter" method="get" action="${home}/quarantine">${fields}<button type="submit">Filter</button></form>
${tableOf('Quarantined rows', ['target', 'row', 'tenant', 'code', 'what the provider said', 'since', 'actions'], rows)}
${more === null ? null : html`<p><a href="${home}/quarantine?${filters}&cursor=${encodeURIComponent(more)}">More rows</a></p>`}
${mayChange && isFiltered && rows.length > 0 ? html`<p><a href="${home}/quarantine?${filters}&release=all">Release all that match the filter</a></p>` : null}`;
    return sendConsolePage(frame, { title: 'Quarantine', body });
  });
  scope.post('/quarantine/release', hidden, async (request, reply) => {
    const { target, tenantId, code, rowId, sure } = given(request);
    if (sure !== 'yes') return reply.redirect(`${homeOf(request)}/quarantine`, 303);
    const body = { target, tenantId, code, ...(rowId !== undefined && { rowIds: [rowId] }) };
    return done(
      { environment, request, reply },
      await call(request, 'POST', '/quarantine/release', { body }),
      '/quarantine',
      'released',
    );
  });
}

function addSwitches(scope: FastifyInstance, { environment, call }: ConsoleDeps): void {
  scope.get('/switches', hidden, async (request, reply) => {
    const frame = { request, reply, environment };
    const home = homeOf(request);
    const listed = await call(request, 'GET', '/switches');
    if (isRefused(listed)) return sendConsolePage(frame, { title: 'Switches', body: refusal(listed) });
    const mayChange = request.role !== 'viewer';
    const rows = listed.body.items.map((one: Json) => [
      ...[one.scope, one.name, one.reason ?? '', one.actor, moment(one.since)],
      mayChange
        ? buttonForm(`${home}/switches`, 'Let it go on', { scope: one.scope, name: one.name, hold: 'false' })
        : null,
    ]);
    const form = html`<h2>Hold something</h2>
<form class="filter" method="post" action="${home}/switches"><input type="hidden" name="hold" value="true">
<div class="field"><label for="scope">What</label><select id="scope" name="scope"><option value="global">everything</option><option value="target">a target</option><option value="tenant">a tenant</option></select></div>
<div class="field"><label for="name">Its name (not for everything)</label><input id="name" name="name"></div><div class="field"><label for="reason">Why</label><input id="reason" name="reason" maxlength="500"></div><button type="submit">Hold it</button></form>`;
    const body = html`<p>What is held admits nothing more. Batches in hand go on to their end.</p>
${tableOf('What is held', ['scope', 'name', 'why', 'by', 'since', 'actions'], rows)}
${mayChange ? form : null}`;
    return sendConsolePage(frame, { title: 'Switches', body });
  });
  scope.post('/switches', hidden, async (request, reply) => {
    const { scope: what, name, hold, reason } = given(request);
    const body = { scope: what, hold: hold === 'true', ...(name && { name }), ...(reason && { reason }) };
    const changed = await call(request, 'PUT', '/switches', { body });
    return done({ environment, request, reply }, changed, '/switches', hold === 'true' ? 'held' : 'let-go');
  });
}

function addLists(scope: FastifyInstance, { environment, call }: ConsoleDeps): void {
  scope.get<{ Querystring: { cursor?: string } }>('/audit', hidden, async (request, reply) => {
    const listed = await call(request, 'GET', '/audit', {
      query: { limit: '200', cursor: request.query.cursor },
    });
    const home = homeOf(request);
    const body = isRefused(listed)
      ? refusal(listed)
      : html`${tableOf(
          'Who did what, the newest first',
          ['when', 'who', 'what', 'on what'],
          listed.body.items.map((event: Json) => [
            ...[moment(event.at), event.actor, event.action],
            event.runId === null
              ? (event.subject ?? '')
              : html`<a href="${home}/runs/${event.runId}">run</a> ${event.subject ?? ''}`,
          ]),
        )}
${listed.body.nextCursor === null ? null : html`<p><a href="${home}/audit?cursor=${encodeURIComponent(listed.body.nextCursor)}">Older events</a></p>`}`;
    return sendConsolePage({ request, reply, environment }, { title: 'Audit', body });
  });
  scope.get('/health', hidden, async (request, reply) => {
    const report = await call(request, 'GET', '/doctor');
    const body = isRefused(report)
      ? refusal(report)
      : tableOf(
          'What was looked at',
          ['what', 'state', 'finding', 'what to do'],
          report.body.items.map((one: Json) => [
            one.name,
            html`<span class="badge ${one.status === 'ok' ? 'succeeded' : 'failed'}">${one.status}</span>`,
            one.message,
            one.advice ?? '',
          ]),
        );
    return sendConsolePage(
      { request, reply, environment },
      { title: 'Health', body, refreshSeconds: REFRESH_SECONDS },
    );
  });
}
