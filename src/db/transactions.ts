import type postgres from 'postgres';
import { isServiceGone } from '../core/service-trouble.ts';

/**
 * Gives a client transactions that survive the loss of their connection.
 *
 * Those of postgres.js answer it with a ROLLBACK on the connection that is gone, which throws where nobody can catch it and
 * so ends the process (3.4.9, `nextWrite` in `connection.js`). There is nothing to roll back then: Postgres has done so.
 * Returns the same client. Only statements belong in a transaction.
 */
export function withSafeTransactions(client: postgres.Sql): postgres.Sql {
  const begin = client.begin.bind(client);
  const safe = (work: (connection: postgres.Sql) => Promise<unknown>): Promise<unknown> =>
    // Not `reserve`: with `fetch_types` off it waits for ever for a connection that it has to open (3.4.9, `ReadyForQuery`).
    begin(async (connection) => {
      try {
        return await work(connection as unknown as postgres.Sql);
      } catch (error) {
        if (!isServiceGone(error)) throw error;
        // Never settles, so that nothing is rolled back: the transaction ends by the end of its connection.
        return new Promise(() => undefined);
      }
    });
  return Object.assign(client, { begin: safe });
}
