// This node's `/metrics`, read every two seconds while somebody looks, and what rates and quantiles come of it.
// Kept in the page, so that a view that is left and opened again goes on where it was.

import { raw } from './api.js';

/** What is read: all metrics are a megabyte. */
const NAMES = [
  'pushhub_connections', 'pushhub_users_online', 'pushhub_messages_accepted_total', 'pushhub_messages_delivered_total',
  'pushhub_messages_read_total', 'pushhub_messages_rejected_total', 'pushhub_delivery_seconds', 'pushhub_connections_accepted_total',
  'pushhub_connections_rejected_total', 'pushhub_auth_failures_total', 'pushhub_store_errors_total', 'pushhub_postgres_errors_total',
  'pushhub_http_panics_total', 'pushhub_ledger_scheduled', 'pushhub_outbox_bytes', 'pushhub_build_info',
  'process_resident_memory_bytes', 'process_cpu_seconds_total', 'process_open_fds', 'process_start_time_seconds',
];

export const EVERY_MS = 2000;
const KEPT_MS = 300_000;

/** `name{labels} value` by name. */
export function parse(text) {
  const series = new Map();
  for (const line of text.split('\n')) {
    if (!line || line[0] === '#') continue;
    const gap = line.lastIndexOf(' ');
    const brace = line.indexOf('{');
    const name = line.slice(0, brace < 0 ? gap : brace);
    const labels = {};
    if (brace >= 0) for (const [, label, value] of line.slice(brace).matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[label] = value;
    if (!series.has(name)) series.set(name, []);
    series.get(name).push({ labels, value: Number(line.slice(gap + 1)) });
  }
  return series;
}

export const sum = (series, name, where = () => true) => (series.get(name) ?? []).reduce((all, { labels, value }) => (where(labels) ? all + value : all), 0);

/** By upper bound, over all other labels. */
function buckets(series, name) {
  const found = new Map();
  for (const { labels, value } of series.get(`${name}_bucket`) ?? []) {
    const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
    found.set(bound, (found.get(bound) ?? 0) + value);
  }
  return [...found].sort(([a], [b]) => a - b);
}

/** A quantile of what came between two looks, within its bucket by proportion, as PromQL does it; NaN where nothing came. */
export function quantile(before, now, name, which) {
  const old = new Map(buckets(before, name));
  const counts = buckets(now, name).map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (!(all > 0)) return NaN;
  const rank = which * all;
  const at = counts.findIndex(([, count]) => count >= rank);
  const [bound, count] = counts[at];
  const [low, below] = at > 0 ? counts[at - 1] : [0, 0];
  if (bound === Infinity) return low;
  return low + (bound - low) * ((rank - below) / (count - below || 1));
}

/** What is drawn of each look. */
function point(at, before, now) {
  const seconds = (at - before.at) / 1000;
  const rate = (name, where) => Math.max(0, sum(now, name, where) - sum(before.series, name, where)) / seconds;
  const ms = (which) => quantile(before.series, now, 'pushhub_delivery_seconds', which) * 1000;
  const ours = ({ reason }) => reason === 'internal' || reason === 'unavailable';
  return {
    at,
    connections: sum(now, 'pushhub_connections'),
    users: sum(now, 'pushhub_users_online'),
    accepted: rate('pushhub_messages_accepted_total'),
    delivered: rate('pushhub_messages_delivered_total'),
    read: rate('pushhub_messages_read_total'),
    p50: ms(0.5),
    p99: ms(0.99),
    cpu: rate('process_cpu_seconds_total'),
    rejected: rate('pushhub_messages_rejected_total', (labels) => !ours(labels)),
    refused: rate('pushhub_connections_rejected_total') + rate('pushhub_auth_failures_total'),
    faults: rate('pushhub_messages_rejected_total', ours) + rate('pushhub_store_errors_total') + rate('pushhub_postgres_errors_total') + rate('pushhub_http_panics_total'),
  };
}

const kept = [];
let last;

/** Looks once, and answers all that is kept with the newest look. */
export async function look(signal) {
  const text = await (await raw('metrics', { query: { 'name[]': NAMES }, signal })).text();
  const at = Date.now();
  const series = parse(text);
  const start = sum(series, 'process_start_time_seconds');
  // Two looks are compared if the same process was looked at, and not long ago.
  const follows = last !== undefined && last.start === start && at - last.at < 10 * EVERY_MS;
  if (!follows || at - last.at >= EVERY_MS / 2) {
    if (follows) kept.push(point(at, last, series));
    last = { at, series, start };
  }
  while (kept.length && kept[0].at < at - KEPT_MS) kept.shift();
  return { series, kept };
}
