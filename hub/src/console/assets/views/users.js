// People: who there is, and of one of them the connections, sessions and rights.

import { del, download, get, may, page, path, post, put, walled } from '../api.js';
import { act, badge, button, card, choice, code, confirm, dialog, facts, field, filter, form, h, heading, link, list, status, to, toast, when, words } from '../ui.js';
import { number, t, weekdays, word } from '../words.js';

export default (view) => (view.args[0] ? one(view) : all(view));

async function all({ signal }) {
  const shown = list(t('view.users'), [
    { label: t('user'), show: (user) => link(to('users', user.user_id), user.user_id) },
    { label: t('name'), show: (user) => user.username || '–' },
    { label: t('department'), show: (user) => user.department ?? '–', quiet: true },
    { label: t('roles'), show: (user) => h('span.badges', user.roles.map((role) => badge(role))) },
    { label: t('status'), show: (user) => (user.disabled ? badge(t('status.disabled'), 'bad') : '') },
    { label: t('created'), show: (user) => when(user.created_at) },
  ], (next) => page('users', 'users', { query: walled(), signal, next }), { signal, none: () => h('div.empty', h('p', t('users.none'))) });
  await shown.load();
  const go = (event) => { if (event.key === 'Enter' && event.target.value.trim()) location.hash = to('users', event.target.value.trim()); };
  const find = filter(t('users.find'), '', () => {});
  find.querySelector('input').addEventListener('keydown', go);
  return [heading(t('view.users'), t('about.users')), h('div.row.tools', find), shown.node];
}

async function one({ args: [id], signal, again }) {
  let user = null;
  try {
    user = await get(path`users/${id}`, { query: walled(), signal });
  } catch (error) {
    if (error.status !== 404) throw error;
  }
  const back = link(to('users'), `← ${t('view.users')}`);
  const make = (disabled) => async (event) => {
    const node = event.currentTarget;
    if (disabled && !(await confirm(t('users.disable'), t('users.disable.about', { user: id }), t('users.disable')))) return;
    const place = disabled ? post(path`users/${id}/disable`, undefined, { query: walled() }) : post(path`users/${id}/enable`, undefined, { query: walled() });
    if (await act(node, () => place, t('saved'))) again();
  };
  const actions = may('operator') ? [h('a.button', { href: to('send', { to: id, kind: 'user' }) }, t('send.message')), user?.disabled ? button(t('users.enable'), make(false), { kind: 'primary' }) : button(t('users.disable'), make(true), { kind: 'danger' })] : [];
  if (!user) return [back, heading(id, t('users.unknown'), ...actions)];

  const roles = () => dialog(t('users.roles'), (close) => form([
    field(t('users.added'), 'roles', { value: user.added_roles.join(', '), hint: t('users.added.about'), wide: true }),
    field(t('department'), 'department', { value: user.department_set ? user.department : '', hint: t('users.department.about'), wide: true }),
  ], t('save'), async ({ roles: given, department }) => {
    await put(path`users/${id}/roles`, { roles: words(given) }, { query: walled() });
    await put(path`users/${id}/department`, { department: department || null }, { query: walled() });
    toast(t('saved'));
    close();
    again();
  }));

  const remove = () => dialog(t('users.delete'), (close) => {
    const node = form([field(t('users.delete.confirm', { user: id }), 'confirm', { autocapitalize: 'none', spellcheck: 'false', wide: true })], t('users.delete'), async () => {
      const { state } = await del(path`users/${id}`, { query: walled() });
      close();
      toast(t(`users.${state}`));
      location.hash = to('users');
    }, { danger: true, extra: button(t('cancel'), () => close()) });
    const sure = () => { node.querySelector('[type=submit]').disabled = node.elements.confirm.value !== id; };
    node.addEventListener('input', sure);
    sure();
    return h('div', h('p', t('users.delete.about')), node);
  });
  const data = h('div.row', may('operator') && button(t('users.backup'), (event) => act(event, () => download(path`users/${id}/backup/database`, `backup_${id}.db`, { query: walled(), signal }))), may('admin') && button(t('users.delete'), remove, { kind: 'danger' }));

  const sessions = list(t('sessions'), [
    { label: t('device'), show: (session) => h('span', session.device_name || session.device_id || '–') },
    { label: t('provider'), show: (session) => session.provider, quiet: true },
    { label: t('address'), show: (session) => code(session.address || '–') },
    { label: t('seen'), show: (session) => when(session.last_seen_at) },
    { label: t('expires'), show: (session) => when(session.expires_at) },
    may('operator') && { label: '', show: (session) => button(t('sessions.end'), async (event) => { if (await act(event, () => del(path`sessions/${session.session_id}`, { query: walled() }), t('sessions.ended'))) sessions.load(); }, { kind: 'small' }) },
  ].filter(Boolean), (next) => page('sessions', 'sessions', { query: walled({ user_id: id }), signal, next }), { signal, none: () => h('p.faint', t('sessions.none')) });

  const sockets = list(t('view.connections'), [
    { label: t('device'), show: (entry) => h('span', { title: entry.node_id }, word('device', entry.device_type), ' ', h('small.faint', entry.device_id)) },
    { label: t('since'), show: (entry) => when(entry.connected_at) },
    { label: t('position'), number: true, show: (entry) => `${entry.acked_seq} / ${entry.last_seq}` },
    may('operator') && { label: '', show: (entry) => button(t('disconnect'), async (event) => { if (await act(event, () => del(path`connections/${entry.connection_id}`, { query: walled() }), t('connections.dropped'))) sockets.load(); }, { kind: 'small' }) },
  ].filter(Boolean), (next) => page('connections', 'connections', { query: walled({ user_id: id }), signal, next }), { signal, none: () => h('p.faint', t('users.offline')) });

  const asked = { status: 'all' };
  const inbox = may('operator') && list(t('inbox'), [
    { label: t('title'), show: (message) => link(to('messages', message.id), message.title || message.content || message.id) },
    { label: t('type'), show: (message) => badge(message.message_type) },
    { label: t('sender'), show: (message) => message.sender, quiet: true },
    { label: t('status'), show: (message) => status(message.status) },
    { label: t('created'), show: (message) => when(message.created_at) },
  ], (next) => page(path`users/${id}/messages`, 'messages', { query: walled(asked), signal, next, size: 20 }), { signal, none: () => h('p.faint', t('inbox.none')) });
  const look = (changes) => { Object.assign(asked, changes); act(null, inbox.load); };

  const [preferences] = await Promise.all([get(path`users/${id}/preferences`, { query: walled(), signal }), sessions.load(), sockets.load(), inbox && inbox.load()]);
  const quiet = preferences.quiet_hours;
  return [
    back,
    heading(id, [user.username, user.email].filter(Boolean).join(' · '), ...actions),
    h('div.grid',
      card(t('users.person'), facts([
        [t('status'), user.disabled ? badge(t('status.disabled'), 'bad') : badge(t('status.active'), 'good')],
        [t('department'), user.department],
        [t('users.token_roles'), h('span.badges', user.token_roles.map((role) => badge(role)))],
        [t('users.added'), h('span.badges', user.added_roles.map((role) => badge(role, 'good')))],
        [t('created'), when(user.created_at)],
      ]), may('operator') && h('div.row', button(t('users.roles'), roles))),
      card(t('devices'), sockets.node),
      card(t('users.preferences'), facts([
        [t('users.quiet'), quiet && h('span', `${quiet.start} – ${quiet.end} ${quiet.time_zone ?? ''}`, h('small.faint', ` ${weekdays(quiet.days)} · ${t('users.quiet.from', { n: quiet.allow_priority })}`), !quiet.enabled && badge(t('users.quiet.off'), 'warn'))],
        [t('users.muted'), preferences.muted_channels.length > 0 && h('span.badges', preferences.muted_channels.map((channel) => badge(channel)))],
        [t('languages'), preferences.languages.join(', ')],
      ])),
      may('operator') && card(t('users.data'), data)),
    inbox && card(t('inbox'), h('div.row.tools', filter(t('inbox.find'), '', (q) => look({ q })), choice(t('status'), ['all', 'unread', 'read', 'archived'].map((value) => [value, value === 'all' ? t('webhooks.every') : word('status', value)]), 'all', (value) => look({ status: value }))), inbox.node),
    card(t('sessions'), sessions.node, may('operator') && h('div.row.end', button(t('sessions.end_all'), async (event) => {
      const node = event.currentTarget;
      if (!(await confirm(t('sessions.end_all'), t('sessions.end_all.about', { user: id }), t('sessions.end_all')))) return;
      const done = await act(node, () => del('sessions', { query: walled({ user_id: id }) }));
      if (done) { toast(t('sessions.ended_n', { n: number(done.ended) })); sessions.load(); }
    }))),
  ];
}
