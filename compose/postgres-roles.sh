#!/bin/sh
# Makes infill_work, the role that the API and the workers connect as: it may work in the schema infill, and read and update
# the tables of the schema public. The image of PostgreSQL runs this when its volume is new. On an older volume run it by hand,
# as docs/operations.md says; running it again changes nothing.
set -eu

psql --set=ON_ERROR_STOP=1 --quiet --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=password="$WORK_PASSWORD" <<'SQL'
SELECT 'CREATE ROLE infill_work LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'infill_work') \gexec
ALTER ROLE infill_work PASSWORD :'password';
GRANT pg_monitor TO infill_work;

CREATE SCHEMA IF NOT EXISTS infill;
GRANT USAGE ON SCHEMA infill TO infill_work;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA infill TO infill_work;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA infill TO infill_work;
ALTER DEFAULT PRIVILEGES IN SCHEMA infill GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO infill_work;
ALTER DEFAULT PRIVILEGES IN SCHEMA infill GRANT USAGE ON SEQUENCES TO infill_work;

GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO infill_work;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, UPDATE ON TABLES TO infill_work;
SQL
