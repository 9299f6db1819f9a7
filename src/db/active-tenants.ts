import { sql } from 'drizzle-orm';
import type { Db } from './client.ts';

/** How many tenants have work in running runs now, and what their weights add up to. */
export async function readActiveTenants(db: Db): Promise<{ tenants: number; totalWeight: number }> {
  const rows = await db.execute<{ tenants: number; totalWeight: number }>(sql`
    SELECT count(*)::int AS "tenants", coalesce(sum(coalesce(c.weight, 1)), 0) AS "totalWeight"
      FROM infill.run_tenants p
      JOIN infill.runs r ON r.run_id = p.run_id AND r.status = 'running' AND r.generation = p.generation
      LEFT JOIN infill.tenant_credentials c ON c.tenant_id = p.tenant_id
     WHERE p.status IN ('queued', 'running')`);
  return rows[0] ?? { tenants: 0, totalWeight: 0 };
}
