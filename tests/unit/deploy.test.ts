import { readFileSync } from 'node:fs';
import { glob } from 'node:fs/promises';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';

type Rule = {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: { summary: string; description: string };
};
type Panel = {
  readonly title: string;
  readonly targets: readonly { readonly expr: string; readonly legendFormat: string }[];
};

const alerts = parse(readFileSync('deploy/prometheus/alerts.yml', 'utf8')) as { groups: { rules: Rule[] }[] };
const rules = alerts.groups.flatMap((group) => group.rules);
const { panels } = JSON.parse(readFileSync('deploy/grafana/infill.json', 'utf8')) as { panels: Panel[] };
/** What Prometheus and Node bring along. */
const OTHERS = ['up', 'process_resident_memory_bytes', 'nodejs_eventloop_lag_p99_seconds'];
const LABELS_OF_OTHERS = ['job', 'instance', 'le'];
let source = '';

beforeAll(async () => {
  const texts: string[] = [];
  for await (const path of glob('src/**/*.ts')) texts.push(readFileSync(path, 'utf8'));
  source = texts.join('\n');
});

function metricsIn(expr: string): string[] {
  return [...expr.matchAll(/\b((?:infill|process|nodejs)_\w+|up)\b/g)].map(([, name = '']) =>
    name.replace(/_bucket$/, ''),
  );
}

test.each([
  ...rules.map(({ alert, expr }) => [alert, expr]),
  ...panels.map(({ title, targets }) => [title, targets.map(({ expr }) => expr).join(' ')]),
])('%s asks for metrics that exist, by labels that they have', (_name, expr = '') => {
  const metrics = metricsIn(expr);
  expect(metrics.length).toBeGreaterThan(0);
  for (const metric of metrics)
    expect(OTHERS.includes(metric) || source.includes(`'${metric}'`), metric).toBe(true);

  const labels = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(', '));
  const matched = [...expr.matchAll(/[{,]\s*(\w+)\s*(?:!=|=~|!~|=)/g)].map(([, label = '']) => label);
  for (const label of [...labels, ...matched]) {
    expect(LABELS_OF_OTHERS.includes(label) || source.includes(`'${label}'`), label).toBe(true);
  }
});

test('every alert says what has happened and what to do', () => {
  expect(rules.length).toBeGreaterThanOrEqual(5);
  for (const { annotations } of rules) {
    expect(annotations.summary.length).toBeGreaterThan(10);
    expect(annotations.description).toMatch(/\.$/);
  }
});

test('every metric of ours is on the dashboard', () => {
  const names = new Set(
    [...source.matchAll(/'(infill_[a-z_]+_(?:total|seconds|rows|keys|unsettled))'/g)].map(
      ([, name = '']) => name,
    ),
  );
  const shown = new Set(panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => metricsIn(expr))));
  const left = [...names].filter((name) => !shown.has(name) && name !== 'infill_counted_timestamp_seconds');
  expect(left).toEqual([]);
});
