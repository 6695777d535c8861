// Webhooks of services, and the events that could not be delivered.

import { del, get, may, page, path, post, put, walled } from '../api.js';
import { act, badge, button, card, choice, code, confirm, dialog, facts, field, form, h, heading, link, list, secret, status, table, to, toast, when, words } from '../ui.js';
import { milliseconds, number, t, word } from '../words.js';

const EVENTS = ['*', 'message.delivered', 'message.acked', 'message.read', 'message.unread', 'message.archived', 'message.action'];

export default ({ args, ...view }) => (args[1] ? one(args, view) : args[0] ? ofService(args[0], view) : deadLetters(view));

const outcome = (attempt) => (attempt ? h('span', { title: attempt.detail ?? '' }, word('outcome', attempt.outcome), attempt.status_code && ` ${attempt.status_code}`, h('small.faint', ` ${milliseconds(attempt.duration_ms)}`)) : '–');
const again_ = (ids, row, done) => may('admin') && button(t('webhooks.redeliver'), async (event) => { if (await act(event, () => post(path`services/${ids[0]}/webhooks/${ids[1]}/deliveries/${row.event_id}/redeliver`), t('webhooks.redelivered'))) done(); }, { kind: 'small' });

async function deadLetters({ signal }) {
  const shown = list(t('view.webhooks'), [
    { label: t('event'), show: (row) => row.type },
    { label: t('service'), show: (row) => link(to('webhooks', row.service_id, row.webhook_id), row.service_id) },
    { label: t('created'), show: (row) => when(row.at) },
    { label: t('webhooks.attempts'), number: true, show: (row) => number(row.attempts) },
    { label: t('webhooks.last'), show: (row) => outcome(row.last_attempt) },
    { label: '', show: (row) => again_([row.service_id, row.webhook_id], row, shown.load) },
  ], (next) => page('dead-letters', 'dead_letters', { query: walled(), signal, next }), { signal, none: () => h('div.empty', h('p', t('webhooks.no_dead'))) });
  const { rows } = await page('services', 'services', { signal, size: 200 });
  await shown.load();
  const services = rows.length > 0 && h('span.row.tools', choice(t('service'), [['', t('webhooks.of')], ...rows.map((service) => [service.id, service.name])], '', (id) => { if (id) location.hash = to('webhooks', id); }));
  return [heading(t('view.webhooks'), t('about.webhooks'), services), card(t('webhooks.dead'), shown.node)];
}

const fields = (hook = {}) => [
  field('URL', 'url', { kind: 'url', value: hook.url, required: true, wide: true, placeholder: 'https://' }),
  field(t('description'), 'description', { value: hook.description, wide: true }),
  field(t('webhooks.events'), 'events', { value: (hook.events ?? ['*']).join(', '), hint: EVENTS.join(', '), wide: true }),
];
const given = ({ url, description, events }) => ({ url, description, events: words(events) });

async function ofService(id, { signal, again }) {
  const { webhooks } = await get(path`services/${id}/webhooks`, { signal });
  const make = () => dialog(t('webhooks.new'), (close) => form(fields(), t('create'), async (said) => {
    const made = await post(path`services/${id}/webhooks`, given(said));
    close();
    await secret(t('webhooks.secret'), t('webhooks.secret.about'), [[t('webhooks.secret'), made.secret]]);
    again();
  }));
  const shown = table(t('view.webhooks'), [
    { label: 'URL', show: (hook) => link(to('webhooks', id, hook.id), hook.url) },
    { label: t('status'), show: (hook) => (hook.status === 'active' && hook.failing_since ? status('failing') : status(hook.status)) },
    { label: t('webhooks.events'), show: (hook) => h('span.badges', hook.events.map((event) => badge(event))) },
    { label: t('webhooks.pending'), number: true, show: (hook) => number(hook.pending) },
    { label: t('webhooks.delivered'), number: true, show: (hook) => number(hook.delivered) },
    { label: t('webhooks.failed'), number: true, show: (hook) => number(hook.failed) },
  ], webhooks);
  return [link(to('services', id), `← ${id}`), heading(t('view.webhooks'), id, may('admin') && button(t('webhooks.new'), make, { kind: 'primary', symbol: 'plus' })), webhooks.length ? shown.node : h('div.empty', h('p', t('webhooks.none')))];
}

async function one(ids, { signal, again, query, search }) {
  const [service, id] = ids;
  const hook = await get(path`services/${service}/webhooks/${id}`, { signal });
  const asked = { status: query.status };
  const shown = list(t('webhooks.deliveries'), [
    { label: t('event'), show: (row) => row.type },
    { label: t('status'), show: (row) => status(row.status) },
    { label: t('created'), show: (row) => when(row.at) },
    { label: t('webhooks.attempts'), number: true, show: (row) => number(row.attempts) },
    { label: t('webhooks.last'), show: (row) => outcome(row.last_attempt) },
    { label: t('webhooks.next'), show: (row) => when(row.next_attempt_at) },
    { label: '', show: (row) => row.status !== 'pending' && again_(ids, row, shown.load) },
  ], (next) => page(path`services/${service}/webhooks/${id}/deliveries`, 'deliveries', { query: asked, signal, next }), { signal, none: () => h('p.faint', t('webhooks.quiet')) });
  await shown.load();
  const active = hook.status === 'active';
  const edit = () => dialog(t('edit'), (close) => form(fields(hook), t('save'), async (said) => { await put(path`services/${service}/webhooks/${id}`, given(said)); close(); again(); }));
  const test = (event) => act(event, async () => { const done = await post(path`services/${service}/webhooks/${id}/test`); toast(`${word('outcome', done.outcome)} ${done.status_code ?? ''} · ${milliseconds(done.duration_ms)}`, done.outcome === 'delivered' ? 'good' : 'bad'); });
  const turn = async (event) => { if (await act(event, () => (active ? post(path`services/${service}/webhooks/${id}/disable`) : post(path`services/${service}/webhooks/${id}/enable`)), t('saved'))) again(); };
  const rotate = async (event) => { const made = await act(event, () => post(path`services/${service}/webhooks/${id}/secret`, {})); if (made) { await secret(t('webhooks.secret'), t('webhooks.secret.about'), [[t('webhooks.secret'), made.secret]]); again(); } };
  const remove = async (event) => {
    const node = event.currentTarget;
    if (await confirm(t('webhooks.remove'), t('webhooks.remove.about', { url: hook.url }), t('webhooks.remove')) && await act(node, () => del(path`services/${service}/webhooks/${id}`), t('removed'))) location.hash = to('webhooks', service);
  };
  const tools = may('admin') ? [button(t('webhooks.test'), test), button(t('edit'), edit), button(t('webhooks.rotate'), rotate), button(t(active ? 'webhooks.disable' : 'webhooks.enable'), turn), button(t('webhooks.remove'), remove, { kind: 'danger' })] : [];
  return [
    link(to('webhooks', service), `← ${service}`),
    heading(hook.description || t('webhook'), hook.url, ...tools),
    card('', facts([
      [t('status'), status(hook.status)], hook.disabled && [t('webhooks.why'), hook.disabled.reason], [t('webhooks.events'), h('span.badges', hook.events.map((event) => badge(event)))], [t('id'), code(hook.id)],
      [t('webhooks.pending'), number(hook.pending)], [t('webhooks.delivered'), number(hook.delivered)], [t('webhooks.failed'), number(hook.failed)], [t('webhooks.dropped'), number(hook.dropped)],
      [t('webhooks.success'), when(hook.last_success_at)], [t('webhooks.failure'), hook.last_failure ? h('span', word('outcome', hook.last_failure), ' ', when(hook.last_failure_at)) : '–'],
    ])),
    card(t('webhooks.deliveries'), h('div.row.tools', choice(t('status'), [['', t('webhooks.every')], ...['pending', 'delivered', 'failed'].map((value) => [value, word('status', value)])], asked.status ?? '', (value) => { asked.status = value; search(asked); shown.load(); })), shown.node),
  ];
}
