/** Commands about what is set aside, held, spent, and wrong. */
import type { Client, Json } from './client.ts';
import { CommandError, EXIT, type ExitStatus, type Io } from './io.ts';
import { dollars, table } from './print.ts';

const LISTED_MAX = 10_000;
const USAGE_MAX = 1_000;

type Filter = {
  readonly target?: string;
  readonly tenant?: readonly string[];
  readonly code?: string;
  readonly row?: readonly string[];
  readonly json?: boolean;
};

export async function listQuarantine(io: Io, client: Client, options: Filter): Promise<ExitStatus> {
  const query = { target: options.target, tenantId: oneTenant(options), code: options.code };
  const items = await client.list('/quarantine', query, LISTED_MAX);
  io.write(
    options.json
      ? `${JSON.stringify({ items }, null, 2)}\n`
      : table(
          ['target', 'row', 'tenant', 'code', 'since', 'what the provider said'],
          items.map((one) => [
            ...[
              one.target,
              one.rowId,
              one.tenantId,
              one.code,
              one.quarantinedAt.slice(0, 16).replace('T', ' '),
            ],
            one.message ?? '',
          ]),
        ),
  );
  return EXIT.done;
}

export async function releaseQuarantine(io: Io, client: Client, options: Filter): Promise<ExitStatus> {
  const rowIds = options.row?.length ? options.row : undefined;
  const body = { target: options.target, tenantId: oneTenant(options), code: options.code, rowIds };
  const { released } = await client.call('POST', '/quarantine/release', { body });
  const said =
    released === 1
      ? '1 row is released: the next run tries it again.'
      : `${released} rows are released: the next run tries them again.`;
  io.write(options.json ? `${JSON.stringify({ released })}\n` : `${said}\n`);
  return EXIT.done;
}

export async function listSwitches(
  io: Io,
  client: Client,
  { json }: { json?: boolean },
): Promise<ExitStatus> {
  return showSwitches(io, await client.call('GET', '/switches'), json);
}

/** @param hold true admits nothing more, false goes on. */
export async function setSwitch(
  io: Io,
  client: Client,
  hold: boolean,
  [scope, name]: readonly [string, string | undefined],
  options: { readonly reason?: string; readonly json?: boolean },
): Promise<ExitStatus> {
  const body = { scope, name, hold, reason: options.reason };
  return showSwitches(io, await client.call('PUT', '/switches', { body }), options.json);
}

function showSwitches(io: Io, found: Json, json: boolean | undefined): ExitStatus {
  if (json) io.write(`${JSON.stringify(found, null, 2)}\n`);
  else if (found.items.length === 0) io.write('Nothing is held.\n');
  else
    io.write(
      table(
        ['held', 'name', 'since', 'by', 'reason'],
        found.items.map((one: Json) => [
          one.scope,
          one.name,
          one.since.slice(0, 16).replace('T', ' '),
          one.actor,
          one.reason ?? '',
        ]),
      ),
    );
  return EXIT.done;
}

export async function usage(
  io: Io,
  client: Client,
  options: { readonly month?: string; readonly tenant?: readonly string[]; readonly json?: boolean },
): Promise<ExitStatus> {
  const found = await client.call('GET', '/usage', {
    query: { month: options.month, tenantId: options.tenant, limit: USAGE_MAX },
  });
  if (options.json) io.write(`${JSON.stringify(found, null, 2)}\n`);
  else {
    io.write(
      table(
        ['tenant', 'target', 'requests', 'rows', 'tokens', 'cost'],
        found.items.map((one: Json) => [
          ...[one.tenantId, one.target, one.requests, one.rows, one.tokens, dollars(one.costUsd)],
        ]),
      ),
    );
    const { tokens, costUsd } = found.totals;
    io.write(`In ${found.month}: ${tokens.toLocaleString('en-US')} tokens, ${dollars(costUsd)}.\n`);
    if (found.nextCursor !== null)
      io.write(`The first ${USAGE_MAX} are shown: choose tenants with --tenant.\n`);
  }
  return EXIT.done;
}

const MARKS: Readonly<Record<string, string>> = { ok: 'ok  ', warn: 'WARN', fail: 'FAIL' };

/** What is wrong with the set-up, and what to do about it. */
export async function doctor(io: Io, client: Client, { json }: { json?: boolean }): Promise<ExitStatus> {
  const { items } = await client.call('GET', '/doctor');
  const isWell = items.every(({ status }: Json) => status !== 'fail');
  if (json) io.write(`${JSON.stringify({ items }, null, 2)}\n`);
  else {
    for (const { status, name, message, advice } of items) {
      io.write(`${MARKS[status] ?? status}  ${name}: ${message}\n`);
      if (advice) io.write(`      ${advice}\n`);
    }
  }
  return isWell ? EXIT.done : EXIT.failed;
}

function oneTenant({ tenant = [] }: { readonly tenant?: readonly string[] }): string | undefined {
  if (tenant.length > 1) throw new CommandError('This command takes one --tenant.', EXIT.wrongUse);
  return tenant[0];
}
