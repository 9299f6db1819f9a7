/** What the demo tells, act by act. Each act shows something and throws a `DemoFailure` when it is not as it must be. */

import { DEMO_QUERY, DEMO_TENANT } from '../sample/demo-search.ts';
import { sampleRows } from '../sample/rows.ts';
import { BACKFILLS, type Run } from './admin-api.ts';
import { DemoFailure } from './failure.ts';
import { followRun } from './follow-run.ts';
import { embedQuery, type Found, readCoverage, search, type TenantCoverage } from './insights.ts';
import {
  bold,
  cut,
  cyan,
  dim,
  green,
  grouped,
  heading,
  say,
  seconds,
  table,
  width,
  yellow,
} from './terminal.ts';
import type { World } from './world.ts';

/** Small, so that the bars move often; the product's own default is 50. */
const BATCH_SIZE = '10';
/** The dry run costs the encoder as much as the real one, so only the tenant goes through it that is tried first. */
const DRY_RUN_TENANT = 'clinic-pulse';
const RESULTS_SHOWN = 4;

/** Runs all acts and returns the run that filled the table. */
export async function tellStory(world: World): Promise<Run> {
  const before = await showCoverage(world);
  const order = before.map(({ tenantId }) => tenantId);
  const lost = totalOf(before, 'missing');

  heading('2. A search that misses');
  const vector = await embedQuery(world.openai.url, world.platformKey, DEMO_QUERY);
  const missed = await searchDemo(world, vector);
  showFound(missed, new Set());

  heading('3. A dry run with one tenant: all of it, calls to the provider included, but for the UPDATE');
  await backfill(world, { dryRun: 'true', tenantId: DRY_RUN_TENANT }, { byTenant: false, order });
  const untouched = totalOf(await readCoverage(world.sql), 'missing');
  check(untouched === lost, `The dry run changed rows: ${untouched} are missing instead of ${lost}.`);
  say(`  ${green('✓')} ${grouped(untouched)} are missing as before: nothing was written.`);

  heading('4. The backfill');
  await world.openai.control.resetLedger();
  const run = await backfill(world, {}, { byTenant: true, order });

  heading('5. The recount');
  await recount(world);
  await checkKeys(world, lost);

  heading('6. The same search');
  const found = await searchDemo(world, vector);
  const isNew = new Set(found.map(({ id }) => id).filter((id) => !missed.some((one) => one.id === id)));
  showFound(found, isNew);
  const best = (results: readonly Found[]) => results[0]?.similarity ?? 0;
  check(isNew.size > 0 && best(found) > best(missed), 'The search finds nothing better than before.');
  return run;
}

async function showCoverage({ sql, ownKeys }: World): Promise<TenantCoverage[]> {
  const coverage = await readCoverage(sql);
  const total = totalOf(coverage, 'missing');
  heading(
    `1. ${grouped(total)} of ${grouped(totalOf(coverage, 'rows'))} insights have no embedding, and nothing has failed`,
  );
  const [head = '', ...lines] = table([
    ['tenant', 'rows', 'embedded', 'missing', 'blank', 'key'],
    ...coverage.map(({ tenantId, rows, embedded, missing, blank }) => [
      tenantId,
      ...[rows, embedded, missing, blank].map(grouped),
      ownKeys.has(tenantId) ? 'its own' : 'platform',
    ]),
  ]);
  say(`  ${dim(head)}`);
  for (const line of lines) say(`  ${line}`);
  return coverage;
}

async function searchDemo({ sql }: World, vector: readonly number[]): Promise<Found[]> {
  say(`  ${DEMO_TENANT} searches ${cyan(`“${DEMO_QUERY}”`)}`);
  return search(sql, { tenantId: DEMO_TENANT, vector, limit: RESULTS_SHOWN });
}

function showFound(found: readonly Found[], isNew: ReadonlySet<string>): void {
  for (const { id, content, similarity } of found) {
    const score = similarity.toFixed(2);
    const text = cut(content, width() - 12);
    say(isNew.has(id) ? `  ${green(`+ ${score}`)}  ${text}` : dim(`    ${score}  ${text}`));
  }
}

async function backfill(
  world: World,
  query: Readonly<Record<string, string>>,
  view: Parameters<typeof followRun>[2],
): Promise<Run> {
  const parameters = { ...query, batchSize: BATCH_SIZE };
  say(dim(`  POST ${BACKFILLS}?${new URLSearchParams(parameters)}`));
  const startedAtMs = performance.now();
  const { runId } = await world.api.startRun(parameters);
  const run = await followRun(world, runId, view);
  check(run.status === 'succeeded', `The run ended ${run.status}: ${run.message}`, world.worker);
  const cost = run.costUsd === null ? '' : `, $${run.costUsd.toFixed(5)} at OpenAI’s price`;
  const took = seconds(performance.now() - startedAtMs);
  say(dim(`  ${run.requests} requests, ${grouped(run.tokens)} tokens${cost}, ${took}`));
  return run;
}

async function recount({ sql }: World): Promise<void> {
  const coverage = await readCoverage(sql);
  const missing = totalOf(coverage, 'missing');
  const left = coverage.filter((tenant) => tenant.missing > 0).map(({ tenantId }) => tenantId);
  check(missing === 0, `${missing} embeddings are still missing: ${left.join(', ')}.`);
  const blank = totalOf(coverage, 'blank');
  say(
    `  ${green('✓')} ${bold('0 missing')} of ${grouped(totalOf(coverage, 'rows'))} rows; ${blank} are blank, with nothing to embed.`,
  );
}

/** Holds what the provider received against whose text it was. */
async function checkKeys({ openai, ownKeys, platformKey }: World, rows: number): Promise<void> {
  const keyOf = (tenantId: string) => ownKeys.get(tenantId) ?? platformKey;
  const allowed = new Map<string, Set<string>>();
  for (const { tenantId, content } of sampleRows()) {
    if (content !== null) allowed.set(content, (allowed.get(content) ?? new Set()).add(keyOf(tenantId)));
  }
  const sent = (await openai.control.ledger()).flatMap(({ key, texts }) =>
    texts.map((text) => ({ key, text })),
  );
  const strayed = sent.filter(({ key, text }) => !allowed.get(text)?.has(key ?? ''));
  check(strayed.length === 0, `${strayed.length} texts went out with the key of another tenant.`);
  const own = sent.filter(({ key }) => key !== platformKey).length;
  const texts = `${grouped(sent.length)} texts for ${grouped(rows)} rows`;
  say(
    `  ${green('✓')} The provider received ${texts}: ${own} with the ${ownKeys.size} tenants’ own keys, ${sent.length - own} with the platform’s, none with another’s.`,
  );
}

/** How to go on by hand. `run` is what there is to look at. */
export function showWaysIn({ url, adminSecret }: World, run: Run): void {
  const secret = `x-admin-secret: ${adminSecret}`;
  heading('It keeps running');
  say(`  the console  ${cyan(`${url}/admin`)}`);
  say(`  log in with  ${yellow(adminSecret)}`);
  say(`  this run     ${cyan(`${url}${run.links.board}`)}`);
  say(`  Bull Board   ${cyan(`${url}/admin/queues`)}`);
  say(`  the API      ${cyan(`${url}/docs`)}`);
  say();
  say(`  curl -X POST -H '${secret}' '${url}${BACKFILLS}?wait=60'`);
  say(`  wget -qO- --post-data '' --header '${secret}' '${url}${BACKFILLS}?dryRun=true&wait=60'`);
  say(`  curl -H '${secret}' '${url}${run.links.tenants}'`);
  say(`  INFILL_URL=${url} ADMIN_SECRET=${adminSecret} npx infill coverage`);
}

function totalOf(coverage: readonly TenantCoverage[], what: 'rows' | 'missing' | 'blank'): number {
  return coverage.reduce((sum, tenant) => sum + tenant[what], 0);
}

function check(holds: boolean, otherwise: string, related?: DemoFailure['related']): void {
  if (!holds) throw new DemoFailure(otherwise, related);
}
