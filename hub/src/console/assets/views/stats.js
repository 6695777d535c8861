// What was sent, reached somebody and was read, of any span and by whatever it is to be counted.

import { get, walled } from '../api.js';
import { bars } from '../chart.js';
import { choice, h, heading, table, toast } from '../ui.js';
import { milliseconds, number, percent, t, word } from '../words.js';

const SPANS = { day: 24, week: 168, month: 720 };
const HOUR_MS = 3_600_000;
const GROUPS = ['hour', 'service', 'template', 'message_type', 'channel'];

export default async function stats({ query, signal, search }) {
  const asked = { span: query.span in SPANS ? query.span : 'day', group_by: GROUPS.includes(query.group_by) ? query.group_by : 'hour' };
  const place = h('div.list.wide-gap');
  const series = [{ name: t('chart.delivered'), tone: 'two' }, { name: t('chart.read'), tone: 'three' }];
  const hour = new Intl.DateTimeFormat(document.documentElement.lang, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' });
  const name = (key) => (key === null ? t('stats.none') : asked.group_by === 'hour' ? hour.format(new Date(key)) : key);

  /** Also the hours in which nothing was sent. */
  function hours({ from, to, rows }) {
    const known = new Map(rows.map((row) => [Date.parse(row.key), row]));
    const all = [];
    for (let at = Date.parse(from); at < Date.parse(to); at += HOUR_MS) all.push({ name: name(new Date(at).toISOString()), values: [known.get(at)?.delivered ?? 0, known.get(at)?.read ?? 0] });
    return all;
  }

  async function show() {
    const from = new Date(Date.now() - SPANS[asked.span] * HOUR_MS).toISOString();
    const found = await get('stats', { query: walled({ from, group_by: asked.group_by }), signal });
    const columns = [
      { label: t(`stats.${asked.group_by}`), show: (row) => name(row.key) },
      { label: t('stats.sent'), number: true, show: (row) => number(row.sent) },
      { label: t('chart.delivered'), number: true, show: (row) => number(row.delivered) },
      { label: t('chart.read'), number: true, show: (row) => number(row.read) },
      { label: t('tile.rate'), number: true, show: (row) => percent(row.read_rate) },
      { label: t('stats.time'), number: true, show: (row) => milliseconds(row.avg_time_to_read_ms) },
    ];
    const { totals } = found;
    const tile = (label, value) => h('div.tile', h('span', label), h('b', value));
    place.replaceChildren(
      h('div.tiles', tile(t('stats.sent'), number(totals.sent)), tile(t('chart.delivered'), number(totals.delivered)), tile(t('chart.read'), number(totals.read)), tile(t('tile.rate'), percent(totals.read_rate)), tile(t('stats.time'), milliseconds(totals.avg_time_to_read_ms))),
      asked.group_by === 'hour' ? bars(t('stats.chart'), series, hours(found), number) : '',
      found.rows.length ? table(t('view.stats'), columns, asked.group_by === 'hour' ? found.rows.toReversed() : found.rows.toSorted((a, b) => b.sent - a.sent)).node : h('div.empty', h('p', t('stats.empty'))),
      found.truncated ? h('p.notice', t('stats.truncated')) : '',
    );
  }
  const change = (changes) => { Object.assign(asked, changes); search(asked); show().catch((error) => { if (error.name !== 'AbortError') toast(error.message, 'bad'); }); };
  await show();
  return [
    heading(t('view.stats'), t('about.stats')),
    h('div.row.tools', choice(t('stats.span'), Object.keys(SPANS).map((span) => [span, word('span', span)]), asked.span, (span) => change({ span })), choice(t('stats.by'), GROUPS.map((by) => [by, t(`stats.${by}`)]), asked.group_by, (by) => change({ group_by: by }))),
    place,
  ];
}
