import type postgres from 'postgres';

/**
 * Has a client prepare what Drizzle sends, once a connection: Drizzle asks postgres.js for the unprepared kind, which takes two
 * round trips a statement. Without `prepare` it stays that way. Returns the same client.
 *
 * A statement must not differ by its values alone: each text is kept by both ends of each connection.
 */
export function withPrepared(client: postgres.Sql, prepare: boolean): postgres.Sql {
  if (!prepare) return client;
  const begin = client.begin.bind(client);
  const preparing = (work: (connection: postgres.Sql) => Promise<unknown>): Promise<unknown> =>
    begin(async (connection) => work(prepared(connection as unknown as postgres.Sql)));
  return Object.assign(prepared(client), { begin: preparing });
}

function prepared(client: postgres.Sql): postgres.Sql {
  const unsafe = client.unsafe.bind(client);
  const preparing = (query: string, values: Parameters<typeof unsafe>[1] = [], options: object = {}) =>
    unsafe(query, values, { ...options, prepare: values.length > 0 });
  return Object.assign(client, { unsafe: preparing });
}
