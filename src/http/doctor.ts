/** The route that looks over the set-up: what is wrong, and what to do about it. */
import { z } from 'zod';
import { postgresTrouble } from '../core/postgres-trouble.ts';
import type { Target } from '../core/target.ts';
import type { TargetState } from '../db/catalog.ts';
import type { Db } from '../db/client.ts';
import { checkSchema } from '../db/schema-check.ts';
import { listTriggers, readServerFacts, type ServerFacts } from '../db/server-facts.ts';
import { countDeadKeys } from '../db/tenant-credentials.ts';
import {
  clockFinding,
  Finding,
  fail,
  type KeyFacts,
  keyFindings,
  ok,
  vectorFinding,
  warn,
} from './doctor-findings.ts';
import type { AdminApp } from './server.ts';

export type RedisFacts = {
  /** Rejects with what is wrong, in words. */
  check(): Promise<void>;
  readonly keyPrefix: string;
  /** `INFO memory`, as text. */
  memory(): Promise<string>;
  /** Its clock, in milliseconds. */
  now(): Promise<number>;
  /** Slots of all living workers. */
  slots(): Promise<number>;
};

export type DoctorDeps = {
  readonly db: Db;
  readonly inspect: (name: string) => Promise<TargetState | undefined>;
  readonly targets: ReadonlyMap<string, Target>;
  readonly redis: RedisFacts;
  /** Whether a pooler is before Postgres. */
  readonly pooling: () => Promise<boolean>;
  readonly keys: KeyFacts;
};

const LOOK_MS_MAX = 5_000;
/** Registers the route under `/api/v1/admin`. */
export function doctorRoutes(deps: DoctorDeps) {
  return (app: AdminApp): void => {
    app.get(
      '/doctor',
      {
        schema: {
          summary: 'Look over the set-up: what is wrong, and what to do about it',
          description: 'Answers also while Postgres or Redis is away, and then says why. Changes nothing.',
          response: { 200: z.object({ items: z.array(Finding) }) },
        },
      },
      async () => ({ items: await examine(deps) }),
    );
  };
}

async function examine(deps: DoctorDeps): Promise<Finding[]> {
  const [database, redis] = await Promise.all([lookAtDatabase(deps), lookAtRedis(deps)]);
  return [...database, ...redis, ...keyFindings(deps.keys)];
}

async function lookAtDatabase(deps: DoctorDeps): Promise<Finding[]> {
  let facts: ServerFacts;
  try {
    facts = await within(readServerFacts(deps.db));
  } catch (error) {
    const words = postgresTrouble(error) ?? 'it does not answer';
    return [
      fail(
        'postgres',
        `Postgres cannot be used: ${words}.`,
        'Nothing else about it can be looked at until then.',
      ),
    ];
  }
  const findings: Finding[] = [];
  findings.push(ok('postgres', `PostgreSQL ${facts.version} answers.`));
  findings.push(
    (await deps.pooling())
      ? ok('pooler', 'A pooler is before it: each transaction sets its own time limits.')
      : ok('pooler', 'No pooler is before it.'),
  );
  findings.push(
    facts.isEncrypted || facts.isLocal
      ? ok(
          'tls',
          facts.isEncrypted ? 'The connection is encrypted.' : 'The connection does not leave this machine.',
        )
      : warn('tls', 'The connection is not encrypted.', 'Add sslmode=verify-full to DATABASE_URL.'),
  );
  findings.push(clockFinding('clock of Postgres', facts.nowMs));
  findings.push(vectorFinding(facts.vectorVersion));
  const migrated = await within(checkSchema(deps.db)).then(
    () => true,
    () => false,
  );
  findings.push(
    migrated
      ? ok('schema', 'The schema "infill" is there.')
      : fail(
          'schema',
          'The schema "infill" is not there, or is of an older version.',
          'Run `npm run migrate`.',
        ),
  );
  for (const name of deps.targets.keys()) findings.push(...(await lookAtTarget(deps, name)));
  if (migrated) findings.push(await lookAtStoredKeys(deps.db));
  return findings;
}

async function lookAtTarget({ db, inspect }: DoctorDeps, name: string): Promise<Finding[]> {
  const subject = `target ${name}`;
  const state = await within(inspect(name));
  if (state === undefined || state.kind === 'absent')
    return [
      warn(
        subject,
        state?.detail ?? 'It is unknown.',
        'Create the table, or take the target out of the file.',
      ),
    ];
  if (state.kind === 'mismatch') return [fail(subject, state.detail, 'Correct the table or targets.json.')];
  const { target } = state;
  const findings = [ok(subject, `The table ${target.schema}.${target.table} is as described.`)];
  if (!target.hasMissingIndex)
    findings.push(
      warn(
        `${subject}: index`,
        'The index that finds missing rows quickly is not there.',
        target.missingIndexDdl ?? 'Give each table behind the view a partial index on its missing rows.',
      ),
    );
  const triggers = await within(listTriggers(db, target));
  if (triggers.length > 0) {
    findings.push(
      warn(
        `${subject}: triggers`,
        `${triggers.length === 1 ? 'A trigger runs' : 'Triggers run'} at each write of an embedding: ${triggers.join(', ')}.`,
        'Look whether it changes the embedding, refuses the update, or is slow.',
      ),
    );
  }
  return findings;
}

async function lookAtStoredKeys(db: Db): Promise<Finding> {
  const rows = await within(countDeadKeys(db));
  if (rows.length === 0) return ok("tenants' keys", 'No stored key is known to be dead.');
  const said = rows.map(({ status, tenants }) => `${tenants} ${status}`).join(', ');
  return warn(
    "tenants' keys",
    `Some stored keys do not work: ${said}.`,
    'List them with `infill keys list`, and replace them.',
  );
}

async function lookAtRedis({ redis }: DoctorDeps): Promise<Finding[]> {
  try {
    await within(redis.check());
  } catch (error) {
    const { message } = error as Error;
    return [
      fail(
        'redis',
        `Redis cannot be used: ${message}.`,
        'Nothing else about it can be looked at until then.',
      ),
    ];
  }
  const findings = [ok('redis', `Redis answers and takes writes; all keys begin with ${redis.keyPrefix}.`)];
  const [, policy = 'unknown'] =
    /maxmemory_policy:(\S+)/.exec(await within(redis.memory()).catch(() => '')) ?? [];
  if (policy === 'unknown')
    findings.push(
      warn(
        'redis policy',
        'What Redis does when it is full is not known: it does not tell.',
        'Set maxmemory-policy to noeviction.',
      ),
    );
  else if (policy !== 'noeviction')
    findings.push(
      fail(
        'redis policy',
        `Redis throws keys away when it is full (${policy}): jobs would vanish.`,
        'Set maxmemory-policy to noeviction.',
      ),
    );
  else findings.push(ok('redis policy', 'Redis keeps all keys (noeviction).'));
  findings.push(clockFinding('clock of Redis', await within(redis.now())));
  const slots = await within(redis.slots());
  findings.push(
    slots > 0
      ? ok('workers', `Living workers can run ${slots} batches at once.`)
      : fail('workers', 'No worker is alive: runs would wait.', 'Start a worker (`npm run start:worker`).'),
  );
  return findings;
}

/** Nobody who looks for a fault waits for ever for what has it. */
async function within<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(Object.assign(new Error('no answer'), { code: 'CONNECT_TIMEOUT' })),
      LOOK_MS_MAX,
    );
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
