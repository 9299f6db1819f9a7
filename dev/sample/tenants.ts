import type { Topic } from './topics.ts';
import { COMMON_TOPICS } from './topics-common.ts';
import { GERMAN_TOPICS, JAPANESE_TOPICS } from './topics-languages.ts';
import { CHARITY_TOPICS, CLINIC_TOPICS, FREIGHT_TOPICS, STARTUP_TOPICS } from './topics-services.ts';
import { SHOP_TOPICS } from './topics-shop.ts';

export type SampleTenant = {
  readonly tenantId: string;
  /** Whether the tenant brings its own key; the others use the platform's. */
  readonly ownKey: boolean;
  readonly rows: number;
  /** Rows with text and without an embedding. */
  readonly missing: number;
  /** Rows without text, which never get an embedding. */
  readonly blank: number;
};

/** Seven tenants, as unequal as real ones. 382 of their 2,000 rows are missing an embedding. */
export const SAMPLE_TENANTS: readonly SampleTenant[] = [
  { tenantId: 'harbor-commerce', ownKey: false, rows: 1_104, missing: 214, blank: 16 },
  { tenantId: 'tidewater-freight', ownKey: true, rows: 421, missing: 78, blank: 7 },
  { tenantId: 'clinic-pulse', ownKey: true, rows: 233, missing: 44, blank: 5 },
  { tenantId: 'brandt-maschinenbau', ownKey: false, rows: 128, missing: 26, blank: 2 },
  { tenantId: 'hoshino-retail', ownKey: true, rows: 71, missing: 13, blank: 2 },
  { tenantId: 'volunteer-hub', ownKey: false, rows: 31, missing: 5, blank: 1 },
  { tenantId: 'lumen-labs', ownKey: false, rows: 12, missing: 2, blank: 0 },
];

/** What each tenant's insights are about: mostly its own business, so those of a narrow one stand twice. */
export const TOPICS_BY_TENANT: Readonly<Record<string, readonly Topic[]>> = {
  'harbor-commerce': [...SHOP_TOPICS, ...COMMON_TOPICS],
  'tidewater-freight': [...FREIGHT_TOPICS, ...COMMON_TOPICS],
  'clinic-pulse': [...CLINIC_TOPICS, ...COMMON_TOPICS],
  'brandt-maschinenbau': [...GERMAN_TOPICS, ...GERMAN_TOPICS, ...COMMON_TOPICS],
  'hoshino-retail': [...JAPANESE_TOPICS, ...JAPANESE_TOPICS, ...COMMON_TOPICS],
  'volunteer-hub': [...CHARITY_TOPICS, ...CHARITY_TOPICS, ...COMMON_TOPICS],
  'lumen-labs': [...STARTUP_TOPICS, ...COMMON_TOPICS],
};
