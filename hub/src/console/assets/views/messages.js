// What waits for its time, and what became of one message.

import { get, may, page, path, post, walled } from '../api.js';
import { act, badge, button, card, code, confirm, every, facts, filter, h, heading, link, list, status, table, to, when } from '../ui.js';
import { number, t, time } from '../words.js';

const REFRESH_MS = 3000;

export default (view) => (view.args[0] ? one(view) : scheduled(view));

async function take(event, title, about, work, done) {
  const node = event.currentTarget;
  if (await confirm(title, about, title) && await act(node, work, t('saved'))) done();
}
const cancel = (id) => post(path`messages/${id}/cancel`, {}, { query: walled() });
const recall = (id) => post(path`messages/${id}/recall`, {}, { query: walled() });

async function scheduled({ signal }) {
  const go = filter(t('messages.find'), '', () => {});
  go.querySelector('input').addEventListener('keydown', ({ key, target }) => { if (key === 'Enter' && target.value.trim()) location.hash = to('messages', target.value.trim()); });
  const head = [heading(t('view.messages'), t('about.messages')), h('div.row.tools', go)];
  if (!may('operator')) return head;
  const shown = list(t('messages.scheduled'), [
    { label: t('messages.due'), show: (row) => h('span', time(row.scheduled_at), ' ', h('small.faint', when(row.scheduled_at))) },
    { label: t('title'), show: (row) => link(to('messages', row.message_id), row.title || row.message_id) },
    { label: t('type'), show: (row) => badge(row.message_type) },
    { label: t('sender'), show: (row) => row.sent_by, quiet: true },
    { label: t('recipients'), number: true, show: (row) => (row.recipients === null ? t('tail.groups') : number(row.recipients)) },
    { label: '', show: (row) => button(t('messages.cancel'), (event) => take(event, t('messages.cancel'), t('messages.cancel.about'), () => cancel(row.message_id), shown.load), { kind: 'small' }) },
  ], (next) => page('messages/scheduled', 'messages', { query: walled(), signal, next }), { signal, none: () => h('div.empty', h('p', t('messages.none'))) });
  await shown.load();
  return [...head, card(t('messages.scheduled'), shown.node)];
}

async function one({ args: [id], signal, again }) {
  const place = h('div.list.wide-gap');
  const receipts = table(t('messages.receipts'), [
    { label: t('user'), show: (row) => link(to('users', row.user_id), row.user_id) },
    { label: t('messages.stored'), show: (row) => when(row.stored_at) },
    { label: t('status.delivered'), show: (row) => when(row.delivered_at) },
    { label: t('messages.acked'), show: (row) => when(row.acked_at) },
    { label: t('status.read'), show: (row) => when(row.read_at) },
    { label: t('devices.short'), show: (row) => h('span.badges', row.devices.map((device) => badge(device.device_id, device.acked_at ? 'good' : ''))) },
  ], []);
  const step = async () => {
    const found = await get(path`messages/${id}/receipts`, { query: walled({ size: 200 }), signal });
    receipts.put(found.receipts);
    place.replaceChildren(
      card('', facts([[t('status'), status(found.state)], [t('accepted'), when(found.accepted_at)], found.scheduled_at && [t('messages.due'), time(found.scheduled_at)], [t('status.sent'), when(found.sent_at)], [t('recipients'), found.recipients === null ? t('tail.groups') : number(found.recipients)], [t('id'), code(id)]])),
      found.receipts.length ? receipts.node : h('div.empty', h('p', t('messages.nobody'))));
    tools.replaceChildren(...(!may('operator') ? [] : found.state === 'scheduled' ? [button(t('messages.cancel'), (event) => take(event, t('messages.cancel'), t('messages.cancel.about'), () => cancel(id), again), { kind: 'danger' })]
      : found.state === 'sent' ? [button(t('messages.recall'), (event) => take(event, t('messages.recall'), t('messages.recall.about'), () => recall(id), again), { kind: 'danger' })] : []));
  };
  const tools = h('span.row');
  await step();
  every(REFRESH_MS, signal, () => (tools.matches(':focus-within') ? undefined : step()));
  return [link(to('messages'), `← ${t('view.messages')}`), heading(t('messages.one'), '', tools), place];
}
