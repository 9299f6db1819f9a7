/** Commands about tenants' keys. A key is read from standard input: an argument would be seen by everybody on the machine. */
import type { Client, Json } from './client.ts';
import { CommandError, EXIT, type ExitStatus, type Io } from './io.ts';
import { table } from './print.ts';

export type KeyOptions = {
  readonly baseUrl?: string;
  readonly organization?: string;
  readonly requestsPerMinute?: string;
  readonly tokensPerMinute?: string;
  readonly weight?: number;
  readonly check?: boolean;
  readonly json?: boolean;
};

const LISTED_MAX = 10_000;

export async function listKeys(io: Io, client: Client, { json }: { json?: boolean }): Promise<ExitStatus> {
  const items = await client.list('/credentials', {}, LISTED_MAX);
  io.write(json ? `${JSON.stringify({ items }, null, 2)}\n` : keyTable(items));
  return EXIT.done;
}

export async function showKey(
  io: Io,
  client: Client,
  tenantId: string,
  { json }: { json?: boolean },
): Promise<ExitStatus> {
  const found = await client.call('GET', pathOf(tenantId));
  io.write(json ? `${JSON.stringify(found, null, 2)}\n` : keyTable([found]));
  return EXIT.done;
}

export async function setKey(
  io: Io,
  client: Client,
  tenantId: string,
  options: KeyOptions,
): Promise<ExitStatus> {
  if (io.stdin.isTTY) io.writeError('Paste the key, then press Enter and Ctrl-D: ');
  const apiKey = (await readAll(io)).trim();
  if (apiKey === '')
    throw new CommandError(
      'No key came: give it on standard input, as in `infill keys set acme < key.txt`.',
      EXIT.wrongUse,
    );
  const { baseUrl, organization, weight } = options;
  const body = {
    ...{ apiKey, baseUrl, organization, weight },
    requestsPerMinute: limitOf(options.requestsPerMinute),
    tokensPerMinute: limitOf(options.tokensPerMinute),
  };
  const stored = await client.call('PUT', pathOf(tenantId), { query: { check: options.check }, body });
  io.write(options.json ? `${JSON.stringify(stored, null, 2)}\n` : keyTable([stored]));
  return EXIT.done;
}

export async function checkKey(
  io: Io,
  client: Client,
  tenantId: string,
  { json }: { json?: boolean },
): Promise<ExitStatus> {
  const checked = await client.call('POST', `${pathOf(tenantId)}/check`);
  io.write(json ? `${JSON.stringify(checked, null, 2)}\n` : keyTable([checked]));
  return checked.status === 'valid' ? EXIT.done : EXIT.failed;
}

export async function removeKey(
  io: Io,
  client: Client,
  tenantId: string,
  { json }: { json?: boolean },
): Promise<ExitStatus> {
  await client.call('DELETE', pathOf(tenantId));
  io.write(
    json ? `${JSON.stringify({ tenantId, removed: true })}\n` : `The key of ${tenantId} is removed.\n`,
  );
  return EXIT.done;
}

/** Ends with "not complete" while keys are left that cannot be used: of an address that is not accepted, or unreadable. */
export async function rekey(
  io: Io,
  client: Client,
  { json, acceptAddresses }: { json?: boolean; acceptAddresses?: boolean },
): Promise<ExitStatus> {
  const query = { acceptAddresses: acceptAddresses || undefined };
  const done = await client.call('POST', '/credentials/rekey', { query });
  if (json) io.write(`${JSON.stringify(done, null, 2)}\n`);
  else {
    io.write(`${done.message}\n`);
    for (const { tenantId, baseUrl } of done.unproven.items)
      io.write(`  not proven: ${tenantId}, sent to ${baseUrl ?? 'the default address'}\n`);
    for (const { tenantId } of done.unreadable.items) io.write(`  unreadable: ${tenantId}\n`);
  }
  return done.unproven.count + done.unreadable.count === 0 ? EXIT.done : EXIT.notComplete;
}

function pathOf(tenantId: string): string {
  return `/tenants/${encodeURIComponent(tenantId)}/credential`;
}

function limitOf(given: string | undefined): number | 'unlimited' | undefined {
  if (given === undefined || given === 'unlimited') return given;
  const limit = Number(given);
  if (Number.isInteger(limit) && limit > 0) return limit;
  throw new CommandError('A limit is a whole number above 0, or unlimited.', EXIT.wrongUse);
}

async function readAll({ stdin }: Io): Promise<string> {
  let text = '';
  for await (const chunk of stdin) text += chunk.toString();
  return text;
}

function keyTable(items: readonly Json[]): string {
  return table(
    ['tenant', 'key ends with', 'status', 'since', 'reason'],
    items.map(({ tenantId, last4, status, statusSince, checkedAt, statusReason }) => [
      ...[
        tenantId,
        last4,
        status,
        String(statusSince ?? checkedAt ?? '')
          .slice(0, 16)
          .replace('T', ' '),
      ],
      statusReason ?? '',
    ]),
  );
}
