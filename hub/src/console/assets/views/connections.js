// Who is connected, on whatever node, and sending them away.

import { del, get, may, page, path, seesAll, walled } from '../api.js';
import { act, badge, button, choice, clip, code, confirm, every, filter, h, heading, link, list, toast, to, tool, when } from '../ui.js';
import { bytes, number, t, word } from '../words.js';

const REFRESH_MS = 5000;

export default async function connections({ query, signal, search }) {
  const asked = { user_id: query.user_id, node_id: query.node_id };
  const change = (changes) => { Object.assign(asked, changes); search(asked); shown.load().catch(failed); };
  const failed = (error) => { if (error.name !== 'AbortError') toast(error.message, 'bad'); };
  const partly = h('div', { role: 'status' });
  const drop = async (event, entry, reconnect) => {
    const done = await act(event, () => del(path`connections/${entry.connection_id}`, { query: walled({ reconnect }) }), t('connections.dropped'));
    if (done) await shown.load().catch(failed);
  };

  const columns = [
    { label: t('user'), show: (one) => link(to('users', one.user_id), one.user_id) },
    seesAll() && { label: t('tenant'), show: (one) => one.tenant_id, quiet: true },
    { label: t('device'), show: (one) => h('span', word('device', one.device_type), ' ', h('small.faint', one.device_id)) },
    { label: t('node'), show: (one) => clip(one.node_id), quiet: true },
    { label: t('transport'), show: (one) => badge(`${one.transport} · ${one.codec}`) },
    { label: t('address'), show: (one) => code(one.address ?? '–') },
    { label: t('since'), show: (one) => when(one.connected_at) },
    { label: t('position'), number: true, show: (one) => h('span', { title: t('position.about') }, `${one.acked_seq} / ${one.last_seq}`, one.catching_up && badge(t('catching_up'), 'warn')) },
    { label: t('queued'), number: true, show: (one) => bytes(one.queued_bytes) },
    may('operator') && { label: '', show: (one) => h('span.row.end', tool(t('connections.move'), 'refresh', (event) => drop(event, one, true)), button(t('disconnect'), (event) => drop(event, one), { kind: 'small' })) },
  ].filter(Boolean);

  const shown = list(t('view.connections'), columns, (next) => page('connections', 'connections', { query: walled(asked), signal, next }), {
    signal,
    none: () => h('div.empty', h('p', t('connections.none')), h('code', 'pushhub tail --user user123')),
    after: ({ meta }) => partly.replaceChildren(...(meta.complete ? [] : [h('p.notice', t('connections.partly', { nodes: meta.missing_nodes.join(', ') || '?' }))])),
  });

  const all = may('operator') && button(t('connections.drop_user'), async (event) => {
    const node = event.currentTarget;
    if (!asked.user_id) return toast(t('connections.whose'), 'bad');
    if (await confirm(t('connections.drop_user'), t('connections.drop_user.about', { user: asked.user_id }), t('disconnect'))) {
      const done = await act(node, () => del('connections', { query: walled(asked) }));
      if (done) { toast(t('connections.dropped_n', { n: number(done.disconnected) })); await shown.load(); }
    }
    return undefined;
  });

  const nodes = seesAll() ? (await get('nodes', { signal })).nodes : [];
  let first = true;
  // Only the first page, and not under the pointer of somebody who is about to press.
  every(REFRESH_MS, signal, async () => { if (first || !shown.node.matches(':hover,:focus-within')) await shown.load(); first = false; });
  return [
    heading(t('view.connections'), t('about.connections'), all),
    h('div.row.tools', filter(t('connections.filter'), query.user_id, (user_id) => change({ user_id })),
      nodes.length > 1 && choice(t('node'), [['', t('node.all')], ...nodes.map(({ node_id: id }) => [id, id])], query.node_id ?? '', (node_id) => change({ node_id }))),
    partly,
    shown.node,
  ];
}
