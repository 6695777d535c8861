// How things are: this node's figures every two seconds, the cluster's connections, and the day's read rate.

import { get, health, may, seesAll, walled } from '../api.js';
import { lines } from '../chart.js';
import { EVERY_MS, look, sum } from '../metrics.js';
import { card, copyable, every, facts, h, heading, status, to } from '../ui.js';
import { ago, bytes, milliseconds, number, percent, short, t } from '../words.js';

/** How often what is not in the metrics is asked for: it costs the database something. */
const SLOWLY_MS = 15_000;

export default async function overview({ signal }) {
  const ready = h('span');
  const tiles = {};
  const tile = (key, label, href) => {
    tiles[key] = { value: h('b', '–'), note: h('small.faint', '') };
    const inside = [h('span', label), tiles[key].value, tiles[key].note];
    return href ? h('a.tile', { href }, inside) : h('div.tile', inside);
  };
  const fill = (key, value, note = '') => { tiles[key].value.textContent = value; tiles[key].note.textContent = note; };

  const rate = (value) => `${short(value < 10 ? Math.round(value * 10) / 10 : Math.round(value))}`;
  const charts = {
    connections: lines(t('chart.connections'), [{ name: t('chart.open'), tone: 'one' }, { name: t('chart.users'), tone: 'two' }], number, { least: 4 }),
    messages: lines(t('chart.messages'), [{ name: t('chart.accepted'), tone: 'one' }, { name: t('chart.delivered'), tone: 'two' }, { name: t('chart.read'), tone: 'three' }], rate, { least: 1 }),
    latency: lines(t('chart.latency'), [{ name: 'p99', tone: 'one' }, { name: 'p50', tone: 'two' }], milliseconds),
    errors: lines(t('chart.errors'), [{ name: t('chart.rejected'), tone: 'one' }, { name: t('chart.refused'), tone: 'two' }, { name: t('chart.faults'), tone: 'bad' }], rate, { least: 1 }),
  };
  const node = h('div.grid');
  const start = h('div');

  async function fast() {
    const { series, kept } = await look(signal);
    const newest = kept.at(-1);
    const each = (chart, ...names) => charts[chart].fill(kept.map((one) => ({ at: one.at, values: names.map((name) => one[name]) })));
    each('connections', 'connections', 'users');
    each('messages', 'accepted', 'delivered', 'read');
    each('latency', 'p99', 'p50');
    each('errors', 'rejected', 'refused', 'faults');
    if (newest) {
      fill('sends', `${rate(newest.accepted)}/s`, t('tile.total', { n: short(sum(series, 'pushhub_messages_accepted_total')) }));
      const slow = kept.map((one) => one.p99).filter(Number.isFinite).at(-1);
      fill('latency', slow === undefined ? '–' : milliseconds(slow), t('tile.latency'));
      fill('errors', rate(60 * kept.slice(-30).reduce((all, one) => all + one.rejected + one.refused + one.faults, 0) / Math.min(kept.length, 30)), t('tile.errors'));
    }
    const build = series.get('pushhub_build_info')?.[0]?.labels ?? {};
    const started = sum(series, 'process_start_time_seconds') * 1000;
    node.replaceChildren(card(t('node'), facts([
      [t('version'), `${build.version ?? '–'}${build.commit && build.commit !== 'unknown' ? ` (${build.commit.slice(0, 9)})` : ''}`],
      started && [t('started'), ago(new Date(started).toISOString())],
      [t('memory'), bytes(sum(series, 'process_resident_memory_bytes'))],
      newest && [t('cpu'), percent(newest.cpu)],
      [t('files'), number(sum(series, 'process_open_fds'))],
      [t('waiting'), number(sum(series, 'pushhub_ledger_scheduled'))],
      [t('outbox'), bytes(sum(series, 'pushhub_outbox_bytes'))],
    ])));
    if (!seesAll()) fill('connections', number(sum(series, 'pushhub_connections')), t('tile.node'));
  }

  async function slow() {
    const [state, counts, nodes] = await Promise.all([
      health({ signal }), get('stats', { query: walled(), signal }), seesAll() ? get('nodes', { signal }) : { nodes: [] },
    ]);
    ready.replaceChildren(status(state.status));
    const { totals } = counts;
    fill('read', percent(totals.read_rate), t('tile.read', { read: short(totals.read), delivered: short(totals.delivered) }));
    if (seesAll()) {
      const all = nodes.nodes.reduce((count, one) => count + (one.connections ?? 0), 0);
      fill('connections', number(all), t('tile.nodes', { n: nodes.nodes.length }));
    }
    start.replaceChildren(...(totals.sent === 0 && may('operator') ? [firstSteps()] : []));
  }

  const firstSteps = () => card(t('first.title'), h('p', t('first.about')), copyable('curl -sS http://127.0.0.1:8080/api/v3/messages/send \\\n  -H "Authorization: Service $KEY" -H "Content-Type: application/json" \\\n  -d \'{"recipients": ["user123"], "title": "Hello", "content": "…"}\'', 'curl'));

  every(EVERY_MS, signal, fast);
  every(SLOWLY_MS, signal, slow);
  return [
    heading(t('view.overview'), t('about.overview'), ready),
    h('div.tiles', tile('connections', t('tile.connections'), to('connections')), tile('sends', t('tile.sends')), tile('latency', t('tile.p99')), tile('read', t('tile.rate'), to('stats')), tile('errors', t('tile.errors.name'))),
    start,
    h('div.grid.charts', Object.values(charts).map((chart) => chart.node)),
    node,
  ];
}
