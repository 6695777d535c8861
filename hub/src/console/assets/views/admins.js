// Who may do what here, and from where they are logged in.

import { del, get, me, page, path, post, put, seesAll } from '../api.js';
import { act, badge, button, code, confirm, dialog, field, form, h, heading, list, said, table, toast, when } from '../ui.js';
import { t, word } from '../words.js';

const ROLES = ['viewer', 'operator', 'admin'];
const roles = () => ROLES.map((role) => [role, `${word('role', role)} – ${t(`role.${role}.about`)}`]);

export default async function admins({ signal }) {
  const shown = list(t('view.admins'), [
    { label: t('username'), show: (one) => h('span', one.username, one.id === me.admin?.id && h('small.faint', ` ${t('admins.you')}`)) },
    { label: t('name'), show: (one) => one.name || '–' },
    { label: t('role'), show: (one) => badge(word('role', one.role)) },
    seesAll() && { label: t('tenant'), show: (one) => one.tenant_id ?? t('tenant.all'), quiet: true },
    { label: t('admins.factor'), show: (one) => (one.second_factor ? badge(t('yes'), 'good') : badge(t('admins.no_factor'), 'warn')) },
    { label: t('status'), show: (one) => (one.disabled_at ? badge(t('status.disabled'), 'bad') : badge(t('status.active'), 'good')) },
    { label: t('admins.login'), show: (one) => when(one.last_login_at) },
    { label: '', show: (one) => h('span.row.end', button(t('sessions'), () => sessions(one), { kind: 'small' }), button(t('edit'), () => edit(one), { kind: 'small' })) },
  ].filter(Boolean), (next) => page('admins', 'admins', { signal, next }), { signal, none: () => h('div.empty', h('p', t('admins.none'))) });

  const make = () => dialog(t('admins.new'), (close) => form([
    field(t('username'), 'username', { required: true, autocomplete: 'off' }), field(t('name'), 'name'),
    field(t('role'), 'role', { kind: 'select', options: roles(), value: 'viewer' }), seesAll() && field(t('tenant'), 'tenant_id', { hint: t('admins.tenant.about') }),
    field(t('password'), 'password', { kind: 'password', autocomplete: 'new-password', required: true, hint: t('admins.password.about') }),
  ], t('create'), async (given) => { await post('admins', said(given)); toast(t('saved')); close(); shown.load(); }));

  const edit = (one) => dialog(one.username, (close) => form([
    field(t('name'), 'name', { value: one.name }), field(t('role'), 'role', { kind: 'select', options: roles(), value: one.role }),
    field(t('admins.new_password'), 'password', { kind: 'password', autocomplete: 'new-password', hint: t('admins.new_password.about') }),
    field(t('admins.disabled'), 'disabled', { kind: 'check', value: Boolean(one.disabled_at), hint: t('admins.disabled.about') }),
    field(t('admins.forget'), 'forget_second_factor', { kind: 'check', hint: t('admins.forget.about') }),
  ], t('save'), async ({ name, role, password, disabled, forget_second_factor: forget }) => {
    const changes = { ...(name !== one.name && { name }), ...(role !== one.role && { role }), ...(password && { password }), ...(disabled !== Boolean(one.disabled_at) && { disabled }), ...(forget && { forget_second_factor: true }) };
    await put(path`admins/${one.id}`, changes);
    toast(t('saved'));
    close();
    shown.load();
  }, { extra: button(t('remove'), async () => {
    if (await confirm(t('admins.remove'), t('admins.remove.about', { name: one.username }), t('remove')) && await act(null, () => del(path`admins/${one.id}`), t('removed'))) { close(); shown.load(); }
  }, { kind: 'danger' }) }));

  const sessions = (one) => dialog(t('admins.sessions', { name: one.username }), (close) => {
    const place = h('div');
    const load = async () => {
      const found = await get(path`admins/${one.id}/sessions`, { signal });
      place.replaceChildren(found.sessions.length === 0 ? h('p.faint', t('sessions.none')) : table(t('sessions'), [
        { label: t('address'), show: (session) => code(session.address) },
        { label: t('agent'), show: (session) => h('small.faint', session.user_agent) },
        { label: t('seen'), show: (session) => when(session.last_seen_at) },
        { label: '', show: (session) => button(t('sessions.end'), async (event) => { if (await act(event, () => del(path`admins/${one.id}/sessions/${session.session_id}`), t('sessions.ended'))) load(); }, { kind: 'small' }) },
      ], found.sessions).node);
    };
    act(null, load);
    return h('div', place, h('div.row.end', button(t('sessions.end_all'), async (event) => { if (await act(event, () => del(path`admins/${one.id}/sessions`), t('sessions.ended'))) close(); })));
  });

  await shown.load();
  return [heading(t('view.admins'), t('about.admins'), button(t('admins.new'), make, { kind: 'primary', symbol: 'plus' })), shown.node];
}
