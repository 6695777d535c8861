// Backends that may send, and their keys. A key is shown once.

import { currentTenant, del, get, may, page, path, post, put, seesAll } from '../api.js';
import { act, badge, button, card, code, confirm, dialog, facts, field, form, h, heading, link, list, moment, said, secret, status, table, to, toast, when, words } from '../ui.js';
import { t, word } from '../words.js';

const LEVELS = ['business', 'system', 'third_party'];
const TYPES = ['internal', 'external', 'system'];
const DAY_SECONDS = 86_400;

export default (view) => (view.args[0] ? one(view) : all(view));

const options = (kind, all_) => all_.map((value) => [value, word(kind, value)]);
const showKey = (key) => secret(t('keys.once'), t('keys.once.about'), [[t('keys.key'), key]]);
const scope = (given) => ({ templates: words(given.templates), channels: words(given.channels), message_types: words(given.message_types) });
const rights = (service = {}) => [
  field(t('services.permissions'), 'permissions', { value: (service.permissions ?? []).join(', '), hint: t('services.permissions.about') }),
  field(t('owner'), 'owner', { value: service.owner }),
  field(t('services.networks'), 'allowed_networks', { value: (service.allowed_networks ?? []).join(', '), hint: t('services.networks.about') }),
  field(t('services.templates'), 'templates', { value: (service.scope?.templates ?? []).join(', '), hint: t('services.scope.about') }),
  field(t('services.channels'), 'channels', { value: (service.scope?.channels ?? []).join(', ') }),
  field(t('services.message_types'), 'message_types', { value: (service.scope?.message_types ?? []).join(', ') }),
];

async function all({ signal }) {
  const shown = list(t('view.services'), [
    { label: t('service'), show: (service) => link(to('services', service.id), service.name) },
    { label: t('id'), show: (service) => service.id, quiet: true },
    { label: t('status'), show: (service) => status(service.status) },
    { label: t('level'), show: (service) => badge(word('level', service.level)) },
    seesAll() && { label: t('tenant'), show: (service) => service.tenant_id, quiet: true },
    { label: t('owner'), show: (service) => service.owner || '–', quiet: true },
    { label: t('created'), show: (service) => when(service.created_at) },
  ].filter(Boolean), (next) => page('services', 'services', { signal, next }), { signal, none: () => h('div.empty', h('p', t('services.none')), h('code', 'pushhub service create --name shop --level business')) });
  await shown.load();
  const make = () => dialog(t('services.new'), (close) => form([
    field(t('name'), 'name', { required: true }),
    field(t('id'), 'id', { hint: t('id.about') }),
    field(t('level'), 'level', { kind: 'select', options: options('level', LEVELS), value: 'business', hint: t('services.level.about') }),
    field(t('kind'), 'type', { kind: 'select', options: options('type', TYPES), value: 'internal' }),
    seesAll() && field(t('tenant'), 'tenant_id', { value: currentTenant(), placeholder: 'default' }),
    h('details.wide', h('summary', t('services.more')), h('div.fields', rights())),
  ], t('create'), async ({ permissions, allowed_networks: networks, templates, channels, message_types, ...rest }) => {
    const made = await post('services', { ...said(rest), permissions: words(permissions), allowed_networks: words(networks), scope: scope({ templates, channels, message_types }) });
    close();
    await showKey(made.api_key);
    location.hash = to('services', made.id);
  }));
  return [heading(t('view.services'), t('about.services'), may('admin') && button(t('services.new'), make, { kind: 'primary', symbol: 'plus' })), shown.node];
}

async function one({ args: [id], signal, again }) {
  const [service, { keys }] = await Promise.all([get(path`services/${id}`, { signal }), get(path`services/${id}/keys`, { signal })]);
  const admin = may('admin');
  const steps = {
    approve: () => post(path`services/${id}/approve`), suspend: () => post(path`services/${id}/suspend`),
    activate: () => post(path`services/${id}/activate`), disable: () => post(path`services/${id}/disable`),
  };
  const offered = { pending: ['approve', 'disable'], active: ['suspend', 'disable'], suspended: ['activate', 'disable'], disabled: ['activate'] }[service.status] ?? [];
  const step = (name) => button(t(`services.${name}`), async (event) => {
    const node = event.currentTarget;
    if (name === 'disable' && !(await confirm(t('services.disable'), t('services.disable.about', { name: service.name }), t('services.disable')))) return;
    if (await act(node, steps[name], t('saved'))) again();
  }, { kind: name === 'disable' ? 'danger' : name === 'suspend' ? '' : 'primary' });

  const edit = () => dialog(t('edit'), (close) => form([field(t('name'), 'name', { value: service.name, required: true }), ...rights(service)], t('save'), async ({ name, owner, permissions, allowed_networks: networks, ...rest }) => {
    await put(path`services/${id}`, { name, owner, permissions: words(permissions), allowed_networks: words(networks), scope: scope(rest) });
    toast(t('saved'));
    close();
    again();
  }));
  const newKey = () => dialog(t('keys.new'), (close) => form([
    field(t('name'), 'name'), field(t('expires'), 'expires_at', { kind: 'moment', hint: t('keys.expires.about') }), field(t('services.networks'), 'allowed_networks', { hint: t('services.networks.about') }),
  ], t('create'), async ({ name, expires_at: end, allowed_networks: networks }) => {
    const made = await post(path`services/${id}/keys`, said({ name, expires_at: moment(end), allowed_networks: words(networks) }));
    close();
    await showKey(made.api_key);
    again();
  }));
  const rotate = (key) => dialog(t('keys.rotate'), (close) => form([
    h('p.wide', t('keys.rotate.about')),
    field(t('keys.overlap'), 'overlap', { kind: 'select', value: String(DAY_SECONDS), options: [['0', t('keys.overlap.none')], ['3600', t('keys.overlap.hour')], [String(DAY_SECONDS), t('keys.overlap.day')], [String(7 * DAY_SECONDS), t('keys.overlap.week')]] }),
  ], t('keys.rotate'), async ({ overlap }) => {
    const made = await post(path`services/${id}/keys/${key.id}/rotate`, { overlap_seconds: Number(overlap) });
    close();
    await showKey(made.api_key);
    again();
  }));
  const revoke = async (event, key) => {
    const node = event.currentTarget;
    if (await confirm(t('keys.revoke'), t('keys.revoke.about', { name: key.name || key.id }), t('keys.revoke')) && await act(node, () => del(path`services/${id}/keys/${key.id}`), t('keys.revoked'))) again();
  };
  const shown = table(t('keys.title'), [
    { label: t('name'), show: (key) => key.name || '–' },
    { label: t('id'), show: (key) => code(key.id), quiet: true },
    { label: t('created'), show: (key) => when(key.created_at) },
    { label: t('expires'), show: (key) => (key.expires_at ? when(key.expires_at) : t('never')) },
    { label: t('keys.used'), show: (key) => h('span', when(key.last_used_at), key.last_used_from && h('small.faint', ` ${key.last_used_from}`)) },
    { label: t('status'), show: (key) => (key.replaced_by ? badge(t('keys.replaced'), 'warn') : '') },
    admin && { label: '', show: (key) => h('span.row.end', !key.replaced_by && button(t('keys.rotate'), () => rotate(key), { kind: 'small' }), button(t('keys.revoke'), (event) => revoke(event, key), { kind: 'small' })) },
  ].filter(Boolean), keys);
  const none = (values) => (values.length ? h('span.badges', values.map((value) => badge(value))) : h('span.faint', t('services.no_limit')));
  return [
    link(to('services'), `← ${t('view.services')}`),
    heading(service.name, service.owner, admin && button(t('edit'), edit), ...(admin ? offered.map(step) : [])),
    h('div.grid', card(t('service'), facts([
      [t('id'), code(service.id)], [t('status'), status(service.status)], [t('level'), word('level', service.level)], [t('kind'), word('type', service.type)],
      [t('tenant'), service.tenant_id], [t('services.permissions'), h('span.badges', service.permissions.map((one_) => badge(one_)))],
      [t('services.rate'), service.rate_limit ? `${service.rate_limit.per_second}/s, ${service.rate_limit.burst}` : t('services.rate.default')], [t('created'), when(service.created_at)],
    ])), card(t('services.scope'), facts([
      [t('services.templates'), none(service.scope.templates)], [t('services.channels'), none(service.scope.channels)], [t('services.message_types'), none(service.scope.message_types)], [t('services.networks'), none(service.allowed_networks)],
    ]), h('div.row', link(to('webhooks', id), t('view.webhooks'))))),
    card(t('keys.title'), shown.node, keys.length === 0 && h('p.faint', t('keys.none')), admin && h('div.row.end', button(t('keys.new'), newKey, { symbol: 'plus' }))),
  ];
}
