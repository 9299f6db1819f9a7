import { DIMENSIONS, MODEL } from './system.ts';

const COLUMNS = {
  id: 'id',
  tenant: 'tenant_id',
  text: ['content'],
  embedding: 'embedding',
  model: MODEL,
  dimensions: DIMENSIONS,
};
const target = (table: unknown, changed: object = {}) => ({ table, ...COLUMNS, ...changed });

/** As `targets.json` has them: kinds of tables that people really have. */
export const KINDS = {
  small: target('small'),
  texted: target('texted'),
  padded: target('padded'),
  domains: target('domains'),
  halves: target('halves'),
  quoted: target('"My Schema"."a.b"'),
  named: target({ schema: 'My Schema', table: 'Named.Parts' }),
  folded: target('Folded'),
  through_view: target('through_view'),
  through_trigger: target('through_trigger'),
  summed: target('summed'),
  materialized: target('materialized'),
  counter: target('counter'),
  drafts: target('drafts', { where: "deleted_at IS NULL AND state = 'published; --'" }),
  drafts_wrong: target('drafts', { where: 'deletedat IS NULL' }),
  drafts_number: target('drafts', { where: 'id + 1' }),
  tagged: target('tagged', { where: 'EXISTS (SELECT 1 FROM tags WHERE tags.note_id = t.id)' }),
};

const VECTOR = `embedding vector(${DIMENSIONS})`;
export const TABLES = `
  CREATE EXTENSION IF NOT EXISTS citext;
  CREATE TABLE small (id smallint PRIMARY KEY, tenant_id smallint, content text, ${VECTOR});
  CREATE INDEX ON small (tenant_id, id) WHERE embedding IS NULL;
  CREATE TABLE texted (id citext PRIMARY KEY, tenant_id citext, content citext, ${VECTOR});
  CREATE INDEX ON texted (tenant_id, id) WHERE embedding IS NULL;
  CREATE TABLE padded (id char(8) PRIMARY KEY, tenant_id char(6), content char(20), ${VECTOR});
  CREATE DOMAIN note_id AS bigint;
  CREATE DOMAIN some_vector AS vector(${DIMENSIONS}) CHECK (vector_dims(VALUE) = ${DIMENSIONS});
  CREATE DOMAIN other_vector AS some_vector;
  CREATE TABLE domains (id note_id PRIMARY KEY, tenant_id text, content text, embedding other_vector);
  CREATE TABLE halves (id bigint PRIMARY KEY, tenant_id text, content text, embedding halfvec(${DIMENSIONS}));
  CREATE SCHEMA "My Schema";
  CREATE TABLE "My Schema"."a.b" (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR});
  CREATE TABLE "My Schema"."Named.Parts" (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR});
  CREATE TABLE folded (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR});
  CREATE TABLE behind (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR});
  CREATE VIEW through_view AS SELECT * FROM behind WHERE id < 100;
  CREATE VIEW through_trigger AS SELECT DISTINCT * FROM behind WHERE id >= 100;
  CREATE FUNCTION write_behind() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN UPDATE behind SET embedding = NEW.embedding WHERE id = NEW.id; RETURN NEW; END $$;
  CREATE TRIGGER write_behind INSTEAD OF UPDATE ON through_trigger FOR EACH ROW EXECUTE FUNCTION write_behind();
  CREATE VIEW summed AS SELECT DISTINCT * FROM behind;
  CREATE MATERIALIZED VIEW materialized AS SELECT * FROM behind;
  CREATE SEQUENCE counter;
  CREATE TABLE drafts (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR}, deleted_at timestamptz, state text);
  CREATE TABLE tagged (id bigint PRIMARY KEY, tenant_id text, content text, ${VECTOR}, target text, text_hash text, place bigint, outcome text);
  CREATE TABLE tags (note_id bigint);`;
