import { DEMO_TENANT, DEMO_TEXTS } from './demo-search.ts';
import { SeededRandom, uuidOf } from './random.ts';
import { SAMPLE_TENANTS, type SampleTenant, TOPICS_BY_TENANT } from './tenants.ts';
import { writeInsight } from './texts.ts';

/** A row of `workflow_insights`. */
export type SampleRow = {
  readonly id: string;
  readonly tenantId: string;
  /** Null, empty and blank ones are rows that cannot be embedded. */
  readonly content: string | null;
  readonly createdAt: Date;
  /** False for the missing rows and for the blank ones. */
  readonly embedded: boolean;
};

const SEED = 'infill sample 1';

/** The half year that the sample covers. */
const PERIOD = { from: Date.UTC(2026, 0, 5, 6), to: Date.UTC(2026, 5, 30, 18) };

/** When the embedding step lost most of its work and nobody noticed. Outside of it, a row is missing now and then. */
export const INCIDENT = { from: new Date('2026-03-17T21:40:00Z'), to: new Date('2026-03-20T06:10:00Z') };

/** Missing rows that were created during the incident; the rest are scattered over the half year. */
const INCIDENT_SHARE = 0.82;

const BLANKS: readonly (string | null)[] = ['', null, '   ', '\n\t \n'];

/**
 * Returns the sample: 2,000 insights of `SAMPLE_TENANTS`, by time of creation. The same rows every time.
 */
export function sampleRows(): SampleRow[] {
  return SAMPLE_TENANTS.flatMap(rowsOfTenant).toSorted(
    (a, b) => a.createdAt.getTime() - b.createdAt.getTime() || (a.id < b.id ? -1 : 1),
  );
}

function rowsOfTenant({ tenantId, rows, missing, blank }: SampleTenant): SampleRow[] {
  const random = new SeededRandom(`${SEED} ${tenantId}`);
  const topics = TOPICS_BY_TENANT[tenantId] ?? [];
  const told = tenantId === DEMO_TENANT ? DEMO_TEXTS : [];
  const incidentRows = Math.round(missing * INCIDENT_SHARE);

  return Array.from({ length: rows }, (_, index) => {
    const isMissing = index < missing;
    const isBlank = !isMissing && index < missing + blank;
    const span = index < incidentRows ? { from: INCIDENT.from.getTime(), to: INCIDENT.to.getTime() } : PERIOD;
    return {
      id: uuidOf(`${SEED} ${tenantId} ${index}`),
      tenantId,
      // The first of the missing rows are from the incident, and so are the demo's texts.
      content: isBlank ? random.pick(BLANKS) : (told[index] ?? writeInsight(random, topics)),
      createdAt: new Date(random.integer(span.from, span.to)),
      embedded: !isMissing && !isBlank,
    };
  });
}
