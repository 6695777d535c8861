// Templates: the editor with its preview, and earlier versions.

import { del, get, may, page, path, post, put, walled } from '../api.js';
import { act, badge, button, card, code, confirm, field, form, h, heading, link, list, said, to, toast, when } from '../ui.js';
import { t, word } from '../words.js';
import { bubble, variables as variablesOf } from './send.js';

/** Of variables that take no text. */
const EXAMPLES = { number: 1, date: '2025-01-15', url: '/' };
const CATEGORIES = ['business', 'notification', 'system'];

export default (view) => (view.args[0] ? one(view) : all(view));

async function all({ signal }) {
  const shown = list(t('view.templates'), [
    { label: t('template'), show: (one_) => link(to('templates', one_.id), one_.name) },
    { label: t('id'), show: (one_) => code(one_.id), quiet: true },
    { label: t('category'), show: (one_) => badge(word('category', one_.category)) },
    { label: t('languages'), show: (one_) => h('span.badges', Object.keys(one_.locales ?? {}).map((locale) => badge(locale))) },
    { label: t('version'), number: true, show: (one_) => one_.version },
    { label: t('changed'), show: (one_) => (one_.builtin ? t('templates.builtin') : when(one_.updated_at)) },
  ], (next) => page('templates', 'templates', { query: walled(), signal, next }), { signal });
  await shown.load();
  return [heading(t('view.templates'), t('about.templates'), may('admin') && button(t('templates.new'), () => { location.hash = to('templates', 'new', 'new'); }, { kind: 'primary', symbol: 'plus' })), shown.node];
}

/** Lists and variants are edited as JSON. */
function parsed(text, name) {
  try { return text ? JSON.parse(text) : undefined; } catch (error) { throw Object.assign(new Error(error.message), { fields: [{ path: name, problem: error.message }] }); }
}
const pretty = (value) => (value && Object.keys(value).length ? JSON.stringify(value, null, 2) : '');

async function one({ args: [id, mode], query, signal, again }) {
  const fresh = mode === 'new';
  const at = fresh ? {} : { query: walled({ version: query.version }), signal };
  const [template, { versions }] = fresh ? [{ name: '', category: 'business', variables: [], version: 0 }, { versions: [] }]
    : await Promise.all([get(path`templates/${id}`, at), get(path`templates/${id}/versions`, { query: walled(), signal })]);
  const writes = may('admin') && !template.builtin;
  const shown = h('div', { 'aria-live': 'polite' });
  const values_ = field(t('templates.values'), 'values', { kind: 'area', wide: true, rows: 3, class: 'mono', value: pretty(Object.fromEntries(variablesOf(template).map((variable) => [variable.name, variable.default || EXAMPLES[variable.type] || `‹${variable.name}›`]))) });
  const look = async () => {
    try {
      shown.replaceChildren(bubble(await post(path`templates/${id}/preview`, { variables: parsed(values_.querySelector('textarea').value, 'values') ?? {} }, { query: walled(), signal })));
    } catch (error) {
      if (error.name !== 'AbortError') shown.replaceChildren(h('p.problem', (error.fields ?? []).map(({ path: where, problem }) => `${where} ${problem}`).join(' · ') || error.message));
    }
  };
  values_.querySelector('textarea').addEventListener('input', look);
  const readonly = !writes;
  const edit = form([
    fresh && field(t('id'), 'id', { hint: t('id.about') }),
    field(t('name'), 'name', { value: template.name, required: true, readonly }),
    field(t('category'), 'category', { kind: 'select', value: template.category, options: CATEGORIES.map((category) => [category, word('category', category)]), disabled: readonly }),
    field(t('type'), 'message_type', { value: template.message_type, placeholder: 'text', readonly }),
    field(t('priority'), 'priority', { kind: 'number', min: 1, max: 10, value: template.priority ?? '', readonly }),
    field(t('title'), 'title', { value: template.title, wide: true, hint: t('templates.braces'), readonly }),
    field(t('content'), 'content', { kind: 'area', value: template.content, wide: true, readonly }),
    field(t('templates.variables'), 'variables', { kind: 'area', value: pretty(template.variables), wide: true, class: 'mono', hint: t('templates.variables.about'), readonly }),
    field(t('templates.actions'), 'actions', { kind: 'area', rows: 2, value: pretty(template.actions), wide: true, class: 'mono', readonly }),
    field(t('templates.locales'), 'locales', { kind: 'area', rows: 3, value: pretty(template.locales), wide: true, class: 'mono', hint: t('templates.locales.about'), readonly }),
  ].filter(Boolean), t('save'), async ({ variables, actions, locales, priority, ...rest }) => {
    const body = said({ ...rest, priority: priority && Number(priority), variables: parsed(variables, 'variables'), actions: parsed(actions, 'actions'), locales: parsed(locales, 'locales') });
    const made = fresh ? await post('templates', body, { query: walled() }) : await put(path`templates/${id}`, { ...body, expected_version: versions[0]?.version ?? template.version }, { query: walled() });
    toast(t('saved'));
    if (fresh || query.version) location.hash = to('templates', made.id); else again();
  });
  if (readonly) edit.querySelector('button[type=submit]').remove();
  const remove = async (event) => {
    const node = event.currentTarget;
    if (await confirm(t('templates.remove'), t('templates.remove.about', { name: template.name }), t('templates.remove')) && await act(node, () => del(path`templates/${id}`, { query: walled() }), t('removed'))) location.hash = to('templates');
  };
  if (!fresh) look();
  const history = versions.map((version) => h('li', link(to('templates', id, { version: String(version.version) }), `${t('version')} ${version.version}`), ' ', h('small.faint', when(version.updated_at))));
  return [
    link(to('templates'), `← ${t('view.templates')}`),
    heading(fresh ? t('templates.new') : template.name, fresh ? '' : `${id} · ${t('version')} ${template.version}${template.builtin ? ` · ${t('templates.builtin')}` : ''}`,
      !fresh && may('operator') && h('a.button', { href: to('send', { template: id }) }, t('templates.use')), !fresh && writes && button(t('templates.remove'), remove, { kind: 'danger' })),
    h('div.grid.beside', card('', edit), !fresh && h('div.list.wide-gap', card(t('preview'), shown, values_), history.length > 0 && card(t('templates.versions'), h('ul.plain', history)))),
  ];
}
