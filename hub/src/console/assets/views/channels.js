// Channels: making them, and who is in them.

import { del, get, may, page, path, post, put, walled } from '../api.js';
import { act, badge, button, card, confirm, dialog, facts, field, form, h, heading, link, list, said, to, toast, when, words } from '../ui.js';
import { number, t } from '../words.js';

export default (view) => (view.args[0] ? one(view) : all(view));

const flags = (channel) => h('span.badges', channel.open && badge(t('channels.open')), channel.history && badge(t('channels.history')), channel.presence && badge(t('channels.presence')));

const fields = (channel = {}) => [
  field(t('name'), 'name', { value: channel.name, required: true }),
  field(t('description'), 'description', { value: channel.description, wide: true }),
  field(t('channels.open'), 'open', { kind: 'check', value: channel.open, hint: t('channels.open.about') }),
  field(t('channels.history'), 'history', { kind: 'check', value: channel.history, hint: t('channels.history.about') }),
  field(t('channels.presence'), 'presence', { kind: 'check', value: channel.presence, hint: t('channels.presence.about') }),
];

async function all({ signal }) {
  const shown = list(t('view.channels'), [
    { label: t('channel'), show: (channel) => link(to('channels', channel.id), channel.name || channel.id) },
    { label: t('id'), show: (channel) => channel.id, quiet: true },
    { label: t('members'), number: true, show: (channel) => number(channel.members) },
    { label: t('kind'), show: flags },
    { label: t('changed'), show: (channel) => when(channel.updated_at) },
  ], (next) => page('channels', 'channels', { query: walled(), signal, next }), { signal, none: () => h('div.empty', h('p', t('channels.none'))) });
  await shown.load();
  const make = () => dialog(t('channels.new'), (close) => form([field(t('id'), 'id', { hint: t('id.about') }), ...fields()], t('create'), async ({ id, ...rest }) => {
    const made = await post('channels', said({ id, ...rest }), { query: walled() });
    close();
    location.hash = to('channels', made.id);
  }));
  return [heading(t('view.channels'), t('about.channels'), may('operator') && button(t('channels.new'), make, { kind: 'primary', symbol: 'plus' })), shown.node];
}

async function one({ args: [id], signal, again }) {
  const channel = await get(path`channels/${id}`, { query: walled(), signal });
  const operator = may('operator');
  const leave = async (event, user) => {
    if (await act(event, () => post(path`channels/${id}/members`, { leave: [user] }, { query: walled() }), t('channels.left'))) members.load();
  };
  const members = list(t('members'), [
    { label: t('user'), show: (member) => link(to('users', member.user_id), member.user_id) },
    { label: t('since'), show: (member) => when(member.joined_at) },
    operator && { label: '', show: (member) => button(t('remove'), (event) => leave(event, member.user_id), { kind: 'small' }) },
  ].filter(Boolean), (next) => page(path`channels/${id}/members`, 'members', { query: walled(), signal, next }), { signal, none: () => h('p.faint', t('channels.empty')) });
  await members.load();
  const edit = () => dialog(t('edit'), (close) => form(fields(channel), t('save'), async (given) => {
    await put(path`channels/${id}`, { ...given, expected_version: channel.version }, { query: walled() });
    toast(t('saved'));
    close();
    again();
  }));
  const remove = async (event) => {
    const node = event.currentTarget;
    if (await confirm(t('channels.remove'), t('channels.remove.about', { name: channel.name }), t('channels.remove')) && await act(node, () => del(path`channels/${id}`, { query: walled() }), t('removed'))) location.hash = to('channels');
  };
  const join = form([field(t('channels.join'), 'join', { hint: t('channels.join.about'), wide: true })], t('add'), async ({ join: given }, node) => {
    const { joined } = await post(path`channels/${id}/members`, { join: words(given) }, { query: walled() });
    toast(t('channels.joined', { n: number(joined) }));
    node.reset();
    await members.load();
  });
  return [
    link(to('channels'), `← ${t('view.channels')}`),
    heading(channel.name || id, channel.description, operator && button(t('edit'), edit), operator && button(t('channels.remove'), remove, { kind: 'danger' })),
    h('div.grid',
      card(t('channel'), facts([[t('id'), h('code', channel.id)], [t('kind'), flags(channel)], [t('members'), number(channel.members)], [t('created'), when(channel.created_at)], [t('by'), channel.created_by]])),
      operator && card(t('channels.add'), join)),
    card(t('members'), members.node),
  ];
}
