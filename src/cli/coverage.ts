/** Commands about what is there and what is missing. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, Json } from './client.ts';
import { CommandError, EXIT, type ExitStatus, type Io } from './io.ts';
import { dollars, duration, share, table } from './print.ts';

export type CoverageOptions = {
  readonly target?: string;
  readonly tenant?: readonly string[];
  readonly json?: boolean;
};

type Coverage = Readonly<
  Record<'missing' | 'stale' | 'unverified' | 'quarantined' | 'unembeddable' | 'embedded', number>
> & {
  readonly estimated: boolean;
};
type Covered = {
  readonly name: string;
  readonly state: string;
  readonly detail: string | null;
  readonly coverage: Coverage | null;
};

const LOOK_EVERY_MS = 2_000;

export async function coverage(io: Io, client: Client, options: CoverageOptions): Promise<ExitStatus> {
  const targets = await readCoverage(client, options);
  if (options.json) io.write(`${JSON.stringify({ items: targets }, null, 2)}\n`);
  else io.write(coverageTable(targets));
  return EXIT.done;
}

/** Whether nothing is missing, or no more than is allowed. An absent table is not complete: nobody could search it. */
export async function check(
  io: Io,
  client: Client,
  options: CoverageOptions & { readonly maxMissing?: number },
): Promise<ExitStatus> {
  const targets = await readCoverage(client, options);
  const incomplete = targets.filter((target) => !isComplete(target, options.maxMissing ?? 0));
  const isDone = incomplete.length === 0;
  if (options.json) io.write(`${JSON.stringify({ complete: isDone, items: targets }, null, 2)}\n`);
  else {
    io.write(coverageTable(targets));
    for (const target of incomplete) io.write(`Not complete: ${whatIsLeft(target)}.\n`);
    if (isDone) io.write('Complete.\n');
  }
  return isDone ? EXIT.done : EXIT.notComplete;
}

/** Waits until `check` would pass, for a deployment that depends on it. */
export async function requireComplete(
  io: Io,
  client: Client,
  options: CoverageOptions & { readonly maxMissing?: number; readonly timeout: number },
): Promise<ExitStatus> {
  const deadlineMs = Date.now() + options.timeout * 1_000;
  for (;;) {
    const targets = await readCoverage(client, options);
    const incomplete = targets.filter((target) => !isComplete(target, options.maxMissing ?? 0));
    if (incomplete.length === 0 || Date.now() >= deadlineMs || io.interrupted.aborted)
      return check(io, client, options);
    if (io.isTerminal && !options.json) io.writeError(`Waiting: ${incomplete.map(whatIsLeft).join('; ')}.\n`);
    const pauseMs = Math.min(LOOK_EVERY_MS, Math.max(0, deadlineMs - Date.now()));
    await sleep(pauseMs, undefined, { signal: io.interrupted }).catch(() => undefined);
  }
}

export async function estimate(io: Io, client: Client, options: CoverageOptions): Promise<ExitStatus> {
  const found = await client.call('GET', '/estimate', { query: { target: options.target } });
  const wanted = options.tenant ?? [];
  const tenants: Json[] = found.tenants.filter(
    ({ tenantId }: Json) => wanted.length === 0 || wanted.includes(tenantId),
  );
  if (options.json) {
    io.write(`${JSON.stringify({ ...found, tenants }, null, 2)}\n`);
    return EXIT.done;
  }
  const range = ({ low, high }: Json) =>
    low === high ? low : `${low.toLocaleString('en-US')} to ${high.toLocaleString('en-US')}`;
  const cost = (usd: Json) =>
    usd === null
      ? 'price not known'
      : usd.low === usd.high
        ? dollars(usd.low)
        : `${dollars(usd.low)} to ${dollars(usd.high)}`;
  const time = ({ low, high }: Json) =>
    duration(low) === duration(high) ? duration(low) : `${duration(low)} to ${duration(high)}`;
  io.write(
    table(
      ['tenant', 'rows', 'tokens', 'cost', 'time'],
      [
        ...tenants.map((one: Json) => [
          one.tenantId,
          one.rows,
          String(range(one.tokens)),
          cost(one.costUsd),
          time(one.seconds),
        ]),
        ...(wanted.length === 0
          ? [['all', found.rows, String(range(found.tokens)), cost(found.costUsd), time(found.seconds)]]
          : []),
      ],
    ),
  );
  io.write(
    `Target ${found.target}, model ${found.model}, prices as of ${found.pricesAsOf}. Nothing was sent.\n`,
  );
  return EXIT.done;
}

async function readCoverage(client: Client, { target, tenant = [] }: CoverageOptions): Promise<Covered[]> {
  const { items }: { items: Covered[] } = await client.call('GET', '/targets');
  const chosen = target === undefined ? items : items.filter(({ name }) => name === target);
  if (chosen.length === 0) {
    const known = items.map(({ name }) => name).join(', ');
    throw new CommandError(`There is no target "${target}"; there are: ${known}.`, EXIT.wrongUse);
  }
  if (tenant.length === 0) return chosen;
  return Promise.all(
    chosen.map(async (one) =>
      one.coverage === null
        ? one
        : {
            ...one,
            coverage: await client.call('GET', `/targets/${encodeURIComponent(one.name)}/coverage`, {
              query: { tenantId: tenant },
            }),
          },
    ),
  );
}

function isComplete({ coverage: found }: Covered, maxMissing: number): boolean {
  return found !== null && found.missing + found.quarantined + (found.unverified ?? 0) <= maxMissing;
}

function whatIsLeft({ name, state, detail, coverage: found }: Covered): string {
  if (found === null) return detail?.replace(/\.$/, '') ?? `target ${name} is ${state}`;
  const parts = [
    [found.missing, 'missing'],
    [found.quarantined, 'quarantined'],
    [found.unverified ?? 0, 'unverified'],
  ] as const;
  const left = parts
    .filter(([rows]) => rows > 0)
    .map(([rows, what]) => `${rows.toLocaleString('en-US')} ${what}`);
  return `${name} has ${left.join(' and ')}`;
}

function coverageTable(targets: readonly Covered[]): string {
  return table(
    ['target', 'embedded', 'missing', 'of them stale', 'unverified', 'quarantined', 'blank'],
    targets.map(({ name, state, coverage: found }) => {
      if (found === null) return [name, state, '-', '-', '-', '-', '-'];
      const whole = found.embedded + found.missing + (found.unverified ?? 0) + found.quarantined;
      const shown = `${share(found.embedded, whole)}${found.estimated ? ', estimated' : ''}`;
      const figures = [
        found.missing,
        found.stale ?? 0,
        found.unverified ?? 0,
        found.quarantined,
        found.unembeddable,
      ];
      return [name, shown, ...figures.map((figure) => figure.toLocaleString('en-US'))];
    }),
  );
}
