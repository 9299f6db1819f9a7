import { describe, expect, test } from 'vitest';
import { conditionMistake, isIndexable } from '../../src/core/sql-condition.ts';
import { parseTableName } from '../../src/core/table-name.ts';

describe('the name of a table is read as SQL reads it:', () => {
  test.each([
    ['notes', { schema: 'public', table: 'notes' }],
    ['crm.notes', { schema: 'crm', table: 'notes' }],
    ['crm . "Notes"', { schema: 'crm', table: 'Notes' }],
    ['"My Schema"."a.b"', { schema: 'My Schema', table: 'a.b' }],
    ['"a"".b"', { schema: 'public', table: 'a".b' }],
    ['Crm.Notes', { schema: 'Crm', table: 'Notes', folded: { schema: 'crm', table: 'notes' } }],
  ])('%s', (text, name) => {
    expect(parseTableName(text)).toEqual(name);
  });

  test.each(['', '"open', 'a.b.c', '"a"b', '.notes', 'notes.', `${'n'.repeat(64)}`, '""'])(
    'not %s, which is none',
    (text) => {
      expect(parseTableName(text)).toBeUndefined();
    },
  );
});

describe('a condition is taken', () => {
  test.each([
    'deleted_at IS NULL',
    "state = 'it''s; -- (fine' AND (tags[1] = 'x')",
    "path LIKE E'\\'; --'",
    "name like'%'",
    '"odd;column" = 1',
  ])('%s', (condition) => {
    expect(conditionMistake(condition)).toBeUndefined();
  });
});

describe('a condition is refused in words:', () => {
  test.each([
    ['true; DROP TABLE notes', 'it has a ";"'],
    ['true -- and the rest', 'it has a comment'],
    ['true /* and the rest', 'it has a comment'],
    ['id = $1', 'it has a "$" outside of quotes: write texts in single quotes, and no parameters'],
    ['$$x$$ = content', 'it has a "$" outside of quotes: write texts in single quotes, and no parameters'],
    ['true) OR (true', 'a ")" closes nothing'],
    ['(true', 'a ")" is missing'],
    ['(tags[1)]', 'a ")" closes nothing'],
    ["state = 'open", "a ' is not closed"],
    ["state = e'x\\'", "a ' is not closed"],
    [' ', 'it is empty'],
  ])('%s', (condition, mistake) => {
    expect(conditionMistake(condition)).toBe(mistake);
  });
});

test('a condition whose words tell that it changes with time, or asks another table, is kept out of the index', () => {
  expect(isIndexable("deleted_at IS NULL AND selected AND state = 'known'")).toBe(true);
  for (const condition of [
    'expires_at > now()',
    'EXISTS (SELECT 1 FROM tags)',
    't.id > 3',
    'day = CURRENT_DATE',
  ])
    expect(isIndexable(condition), condition).toBe(false);
});
