import { DIMENSIONS, MODEL } from './system.ts';

/** Names that end a statement, quote a quote, or are words of SQL. */
export const HOSTILE = {
  table: 'x"; drop table notes; --',
  id: 'select"',
  tenant: "or '1'='1",
  text: '$1',
  embedding: 'em"bed\\ding',
};

const COLUMNS = {
  id: 'id',
  tenant: 'tenant_id',
  text: ['content'],
  embedding: 'embedding',
  model: MODEL,
  dimensions: DIMENSIONS,
};
const target = (table: string, changed: object = {}) => ({ table, ...COLUMNS, ...changed });
const { tenant: _tenant, ...WITHOUT_TENANT } = COLUMNS;

/** As `targets.json` has them: tables of every shape, and descriptions that are wrong. */
export const TARGETS = {
  uuids: target('uuids'),
  texts: target('texts'),
  integers: target('integers'),
  crm: target('crm.Contacts', { text: ['Last Name', 'notes'] }),
  articles: target('articles', { text: ['title', 'body', 'rating'] }),
  alone: { table: 'alone', ...WITHOUT_TENANT },
  hostile: {
    ...COLUMNS,
    table: HOSTILE.table,
    id: HOSTILE.id,
    tenant: HOSTILE.tenant,
    text: [HOSTILE.text],
    embedding: HOSTILE.embedding,
  },
  typed: target('typed', { tenant: 'tenant_number' }),
  loose: target('loose'),
  parted: target('parted'),
  nobodys: target('nobodys'),
  blank: target('blank'),
  wrong_size: target('uuids', { dimensions: 9 }),
  wrong_kind: target('uuids', { embedding: 'content' }),
  wrong_id: target('dated'),
  wrong_columns: target('uuids', {
    id: 'key',
    tenant: 'owner',
    text: ['content', 'summary'],
    embedding: 'vector',
  }),
};

const VECTOR = `embedding vector(${DIMENSIONS})`;
/** The tables of these targets, as statements. */
export const TABLES = `
  CREATE TABLE uuids (id uuid PRIMARY KEY, tenant_id text, content text, ${VECTOR});
  CREATE TABLE texts (id text PRIMARY KEY, tenant_id uuid, content text, ${VECTOR});
  CREATE TABLE integers (id integer PRIMARY KEY, tenant_id varchar(40), content varchar(200), ${VECTOR});
  CREATE SCHEMA crm;
  CREATE TABLE crm."Contacts" (id bigint PRIMARY KEY, tenant_id text, "Last Name" text, notes text, ${VECTOR});
  CREATE TABLE articles (id bigint PRIMARY KEY, tenant_id text, title text, body text, rating numeric, ${VECTOR});
  CREATE TABLE alone (id bigint PRIMARY KEY, content text, ${VECTOR});
  CREATE TABLE "x""; drop table notes; --" ("select""" bigint PRIMARY KEY, "or '1'='1" text, "$1" text, "em""bed\\ding" vector(${DIMENSIONS}));
  CREATE INDEX ON "x""; drop table notes; --" ("or '1'='1", "select""") WHERE "em""bed\\ding" IS NULL;
  CREATE TABLE typed (id bigint PRIMARY KEY, tenant_number bigint, content text, ${VECTOR});
  CREATE TABLE loose (id bigint PRIMARY KEY, tenant_id text, content text, embedding vector);
  CREATE TABLE parted (id bigint, tenant_id text, content text, ${VECTOR}, PRIMARY KEY (id)) PARTITION BY RANGE (id);
  CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (3);
  CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (3) TO (100);
  CREATE TABLE nobodys (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR});
  CREATE TABLE blank (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR});
  CREATE TABLE dated (id date PRIMARY KEY, tenant_id text, content text, ${VECTOR});`;
