// What the node sends and delivers, while it happens.

import { events, walled } from '../api.js';
import { badge, button, every, h, heading, link, reason, table, to } from '../ui.js';
import { clockTime, milliseconds, number, t } from '../words.js';

const ROWS_MAX = 200;
/** How long one stream lasts, in seconds. The next one begins at once, and the hub asks again who is there. */
const SECONDS = 30;

export default async function tail({ signal }) {
  const known = new Map();
  const state = h('span', { role: 'status' }, badge(t('tail.connecting')));
  const missed = h('p.notice', { hidden: true });
  let lost = 0;
  let paused = false;
  const rows = table(t('view.tail'), [
    { label: t('time'), show: (row) => h('span.mono', clockTime(row.at)) },
    { label: t('message'), show: (row) => link(to('messages', row.message_id), h('code', row.message_id)) },
    { label: t('type'), show: (row) => badge(row.message_type) },
    { label: t('sender'), show: (row) => row.sender },
    { label: t('recipients'), number: true, show: (row) => (row.recipients === null ? (row.accepted ? t('tail.groups') : '–') : number(row.recipients)) },
    { label: t('tail.users'), number: true, show: (row) => number(row.users) },
    { label: t('tail.written'), number: true, show: (row) => h('span', number(row.written), row.waiting > 0 && badge(`+${row.waiting}`, 'warn')) },
    { label: t('tail.took'), number: true, show: (row) => (row.scheduled ? badge(t('status.scheduled'), 'warn') : row.took_ms === null ? '–' : milliseconds(row.took_ms)) },
  ], []);
  const nothing = h('div.empty', h('p', t('tail.none')));

  function take({ rows: fresh, missed: more }) {
    lost += more;
    missed.hidden = lost === 0;
    missed.textContent = t('tail.missed', { n: number(lost) });
    for (const row of fresh) {
      const id = `${row.tenant_id}/${row.message_id}`;
      const old = known.get(id);
      known.delete(id);
      known.set(id, old ? { ...old, accepted: old.accepted || row.accepted, scheduled: old.scheduled || row.scheduled, recipients: old.recipients ?? row.recipients, users: old.users + row.users, written: old.written + row.written, waiting: old.waiting + row.waiting, took_ms: row.took_ms === null ? old.took_ms : Math.max(old.took_ms ?? 0, row.took_ms) } : row);
    }
    while (known.size > ROWS_MAX) known.delete(known.keys().next().value);
    if (!paused && fresh.length) rows.put([...known.values()].reverse());
    nothing.hidden = known.size > 0;
    rows.node.hidden = known.size === 0;
  }

  const pause = button(t('tail.pause'), () => {
    paused = !paused;
    pause.replaceChildren(t(paused ? 'tail.go_on' : 'tail.pause'));
    pause.setAttribute('aria-pressed', String(paused));
    if (!paused) rows.put([...known.values()].reverse());
  }, { 'aria-pressed': 'false' });
  rows.node.hidden = true;

  every(1000, signal, async () => {
    try {
      for await (const { data } of events('tail', { query: walled({ seconds: SECONDS }), signal })) {
        state.replaceChildren(badge(t('tail.live'), 'good'));
        take(data);
      }
    } catch (error) {
      if (!signal.aborted) state.replaceChildren(badge(reason(error), 'bad'));
    }
  });
  return [heading(t('view.tail'), t('about.tail'), state, pause), missed, nothing, rows.node];
}
