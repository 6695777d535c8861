// What admins have changed, and whether the log of it is whole.

import { get, LONG_MS_MAX, page, seesAll, walled } from '../api.js';
import { act, badge, button, clip, code, dialog, facts, filter, h, heading, list, moment, table, when } from '../ui.js';
import { bytes, number, t, time, word } from '../words.js';

const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
const shown = (value) => (value === null || value === undefined || value === '' ? '–' : Array.isArray(value) && !value.some((one) => one && typeof one === 'object') ? value.join(', ') || '–' : typeof value === 'string' ? value : JSON.stringify(value));

/** What differs, by the way to it: `[way, before, after]`. */
function differences(before, after, way = '') {
  if (!isObject(before) && !isObject(after)) return shown(before) === shown(after) ? [] : [[way, shown(before), shown(after)]];
  const names = new Set([...Object.keys(Object(before)), ...Object.keys(Object(after))]);
  return [...names].flatMap((name) => differences(Object(before)[name], Object(after)[name], way ? `${way}.${name}` : name));
}
const changes = ({ detail }) => differences(detail?.before, detail?.after).filter(([way]) => way);

const outcome = ({ status: answered }) =>
  answered < 300 ? badge(t('audit.done'), 'good') : answered < 500 ? badge(t('audit.refused'), 'bad') : badge(t('audit.doubtful'), 'warn');

const open = (entry) => dialog(entry.action, () => {
  const changed = changes(entry);
  return h('div', facts([
    [t('time'), time(entry.at)],
    [t('audit.actor'), h('span', entry.actor.name, ' ', h('small.faint', word('actor', entry.actor.kind), ' ', entry.actor.id))],
    [t('address'), entry.address],
    [t('audit.target'), code(entry.target)],
    [t('status'), h('span', outcome(entry), ' ', entry.status || '')],
    [t('tenant'), entry.tenant_id ?? t('tenant.all')],
    [t('audit.request'), entry.request_id && code(entry.request_id)],
    [t('audit.seq'), entry.seq],
    [t('audit.hash'), code(entry.hash)],
  ]), changed.length > 0 ? table(t('audit.changes'), [
    { label: t('audit.field'), show: ([way]) => code(way) },
    { label: t('audit.before'), show: ([, before]) => (before === '–' ? before : h('del', before)) },
    { label: t('audit.after'), show: ([, , after]) => (after === '–' ? after : h('ins', after)) },
  ], changed).node : h('p.faint', entry.detail?.bytes ? t('audit.long', { size: bytes(entry.detail.bytes) }) : t('audit.nothing')));
});

export default async function audit({ query, signal, search }) {
  const asked = { ...query };
  const rows = list(t('view.audit'), [
    { label: t('time'), show: (entry) => when(entry.at) },
    { label: t('audit.actor'), show: ({ actor: { kind, name } }) => (kind === 'admin_token' ? t('actor.admin_token') : h('span', name, kind !== 'admin' && h('small.faint', ` ${word('actor', kind)}`))) },
    { label: t('audit.action'), show: (entry) => code(entry.action) },
    { label: t('audit.target'), show: (entry) => code(entry.target) },
    { label: t('audit.changes'), quiet: true, show: (entry) => clip(changes(entry).map(([way]) => way).join(', ') || '–') },
    { label: t('status'), show: outcome },
    { label: '', show: (entry) => button(t('audit.open'), () => open(entry), { kind: 'small' }) },
  ], (next) => page('audit', 'entries', { query: walled({ ...asked, since: moment(asked.since), until: moment(asked.until) }), signal, next }), { signal, none: () => h('div.empty', h('p', t('audit.none'))) });
  const look = (name) => (value) => { asked[name] = value; search({ [name]: value }); act(null, rows.load); };
  const instant = (name) => h('label.instant', t(`audit.${name}`), h('input', { type: 'datetime-local', value: asked[name] ?? '', onchange: (event) => look(name)(event.target.value) }));

  const verdict = h('p.notice', { role: 'status', hidden: true });
  const verify = async (event) => {
    const found = await act(event, () => get('audit/verify', { signal, ms: LONG_MS_MAX }));
    if (!found) return;
    verdict.hidden = false;
    verdict.className = found.verdict === 'whole' ? 'notice good' : 'notice bad';
    verdict.replaceChildren(t(`verdict.${found.verdict}`, { n: number(found.entries), seq: found.first_wrong }), ' ', h('small', t('audit.hash'), ' ', code(found.hash)));
  };
  await rows.load();
  return [
    heading(t('view.audit'), t('about.audit'), seesAll() && button(t('audit.verify'), verify, { symbol: 'shield' })),
    verdict,
    h('div.row.tools.many', ['actor', 'action', 'target'].map((name) => filter(t(`audit.${name}`), asked[name], look(name))), instant('since'), instant('until')),
    rows.node,
  ];
}
