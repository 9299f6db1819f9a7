import type { TableName } from '../core/table-name.ts';
import { quotedName } from '../core/table-name.ts';
import type { Target } from '../core/target.ts';
import type { VectorType } from '../core/vector-wire.ts';
import { checkColumns, readColumns, stampDdl } from './catalog-columns.ts';
import {
  isIndirect,
  type Relation,
  readRelation,
  readWriteHooks,
  relationMistake,
} from './catalog-relation.ts';
import type { Db } from './client.ts';
import { conditionRefusal } from './condition-check.ts';
import { hasMissingIndex, missingIndexDdl } from './missing-index.ts';

/** A target whose table, columns and types were found in the database as its description says. */
export type CheckedTarget = Target & {
  /** Type of the id column, as a statement casts to it. */
  readonly idType: string;
  /** Type of the tenant column, as `format_type` prints it without a length; null without one. */
  readonly tenantType: string | null;
  /** The same, as a statement casts to it. */
  readonly tenantCast: string | null;
  readonly vectorType: VectorType;
  /** Schema that holds the vector type: not always on the search path. */
  readonly vectorSchema: string;
  /** Oid of that type, which vectors carry on the wire. */
  readonly vectorOid: number;
  /** Whether the index that finds missing rows quickly is there. */
  readonly hasMissingIndex: boolean;
  /** The statement that creates that index; null for a view, whose tables have to have it. */
  readonly missingIndexDdl: string | null;
  /** Triggers and policies that an UPDATE meets, by words that name them. */
  readonly writeHooks: readonly string[];
  /** Whether a write may not last: it then looks at what it wrote. */
  readonly mayUndo: boolean;
  /** Set for a run that goes over rows that have an embedding and no stamp. */
  readonly includesUnverified?: boolean | undefined;
};

export type TargetState =
  | { readonly kind: 'ready'; readonly target: CheckedTarget }
  | { readonly kind: 'absent'; readonly detail: string }
  | {
      readonly kind: 'mismatch';
      readonly detail: string;
      /** The statement that adds the target's stamp column, where that is what is missing. */
      readonly stampDdl?: string | undefined;
    };

/**
 * Holds a target against the database's catalog.
 *
 * An absent table is a state, not an error. A mismatch names the target and lists all that differs: what is there and
 * what was expected. The target's condition is tried on the server, which reads no row for it.
 */
export async function inspectTarget(db: Db, target: Target): Promise<TargetState> {
  const relation = await readRelation(db, target);
  const wanted = `Target "${target.name}"`;
  if (relation === undefined)
    return { kind: 'absent', detail: `${wanted}: table ${nameOf(target)} is absent.` };
  const found: Target = { ...target, schema: relation.schema, table: relation.table };

  const mistake = relationMistake(relation);
  if (mistake !== undefined) return { kind: 'mismatch', detail: `${wanted}: ${nameOf(found)} ${mistake}.` };
  return inspectColumns(db, found, relation);
}

async function inspectColumns(db: Db, target: Target, relation: Relation): Promise<TargetState> {
  const columns = await readColumns(db, relation);
  const { types, mistakes } = checkColumns(columns, target);
  const refusal = await conditionRefusal(db, target);
  if (refusal !== undefined) mistakes.push(refusal);
  if (mistakes.length > 0 || types === undefined) {
    const detail = `Target "${target.name}", table ${nameOf(target)}: ${mistakes.join('; ')}.`;
    const { stamp } = target;
    const lacksStamp = stamp !== undefined && !columns.has(stamp);
    return { kind: 'mismatch', detail, ...(lacksStamp && { stampDdl: stampDdl({ ...target, stamp }) }) };
  }
  const writeHooks = await readWriteHooks(db, relation);
  return {
    kind: 'ready',
    target: {
      ...target,
      ...types,
      writeHooks,
      mayUndo: writeHooks.length > 0 || isIndirect(relation),
      hasMissingIndex: await hasMissingIndex(db, target, relation),
      missingIndexDdl: missingIndexDdl(target, relation),
    },
  };
}

function nameOf({ schema, table }: TableName): string {
  return `${quotedName(schema)}.${quotedName(table)}`;
}
