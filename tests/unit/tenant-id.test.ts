import { describe, expect, test } from 'vitest';
import { tenantIdAmong } from '../../src/core/tenant-id.ts';

const UUID = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';
const CAPITALS = UUID.toUpperCase();

describe('the id of a tenant among all targets', () => {
  test.each<[string, (string | null)[], string, string | undefined]>([
    ['a UUID is in lower case where the tenants are uuid', ['uuid', 'uuid'], CAPITALS, UUID],
    ['what is no UUID belongs to no such target', ['uuid'], 'acme', undefined],
    ['a number has no leading zeros where the tenants are numbers', ['integer', 'bigint'], '007', '7'],
    ['a number may fit one target only', ['integer', 'bigint'], '3000000000', '3000000000'],
    ['a number that fits no target belongs to none', ['integer'], '3000000000', undefined],
    ['a text is as it is given where a column is text', ['text'], CAPITALS, CAPITALS],
    ['a text is as it is given beside other columns', ['uuid', 'text', 'bigint'], 'Acme', 'Acme'],
    ['a number is as it is given beside a text column', ['bigint', 'character varying'], '007', '007'],
    ['a UUID in lower case is one tenant beside a text column', ['uuid', 'text'], UUID, UUID],
    ['a UUID in capitals has two spellings beside a text column', ['uuid', 'text'], CAPITALS, undefined],
    ['targets of two types hold what either holds', ['uuid', 'bigint'], '012', '12'],
    ['a target without tenants has one', [null], 'default', 'default'],
    ['a target without tenants has no other', [null], 'acme', undefined],
    ['a target without tenants does not speak for another', [null, 'uuid'], CAPITALS, UUID],
  ])('%s', (_rule, types, given, id) => {
    expect(tenantIdAmong({ types, isComplete: true }, given)).toBe(id);
  });

  test.each<[string, (string | null)[], string, string]>([
    ['may be any, since its table may be yet to come', ['uuid'], 'acme', 'acme'],
    ['is a UUID in lower case', [], CAPITALS, UUID],
    ['is a number as given', [], '007', '007'],
    ['is as the others write it', ['bigint'], '007', '7'],
    ['is as a text column has it', ['text'], CAPITALS, CAPITALS],
  ])('while a target cannot be read %s', (_rule, types, given, id) => {
    expect(tenantIdAmong({ types, isComplete: false }, given)).toBe(id);
  });
});
