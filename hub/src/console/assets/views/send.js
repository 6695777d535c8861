// Writing a message, or filling a template, and sending it.

import { currentTenant, page, path, post, walled } from '../api.js';
import { badge, card, copyable, field, form, h, heading, moment, said, to, toast, values, words } from '../ui.js';
import { number, t } from '../words.js';

const KINDS = ['', 'user', 'channel', 'role', 'all'];
const PREVIEW_MS = 300;

/** What a template takes: what it declares. A text that looks like a number is one where the template wants one. */
const typed = ({ type }, text) => (type === 'number' && Number.isFinite(Number(text)) ? Number(text) : text);

/** The variables of a template: those that it declares, and those that only stand in its texts and links. */
export function variables({ variables: declared = [], title, content, actions, locales }) {
  const known = new Set(declared.map(({ name }) => name));
  const texts = JSON.stringify([title, content, actions, locales]);
  const links = JSON.stringify((actions ?? []).map(({ url }) => url));
  const found = new Set([...texts.matchAll(/\{\{\s*([\w.-]+)\s*\}\}/g)].map(([, name]) => name));
  return [...declared, ...[...found].filter((name) => !known.has(name)).map((name) => ({ name, type: links.includes(name) ? 'url' : 'string', required: links.includes(name) }))];
}

export function bubble({ title, content, actions = [] }) {
  return h('div.bubble', title && h('b', title), content && h('p', content), actions.length > 0 && h('div.row', actions.map((action) => badge(action.text, action.style === 'danger' ? 'bad' : 'good'))));
}

export default async function send({ query, signal }) {
  const { rows: templates } = await page('templates', 'templates', { query: walled(), signal, size: 200 });
  const shown = h('div', { 'aria-live': 'polite' });
  const equivalent = h('div');
  const filling = h('div.fields.wide');
  let template = null;
  let timer;

  const read = (node) => {
    const given = values(node);
    const own = said({
      recipients: given.recipient_type === 'all' ? [] : words(given.recipients), recipient_type: given.recipient_type,
      scheduled_at: moment(given.scheduled_at), expire_at: moment(given.expire_at), collapse_key: given.collapse_key, priority: given.priority && Number(given.priority),
    });
    if (!template) return { ...own, ...said({ title: given.title, content: given.content, message_type: given.message_type }) };
    const filled = variables(template).filter(({ name }) => given[`variable ${name}`] !== '').map((variable) => [variable.name, typed(variable, given[`variable ${variable.name}`])]);
    return { ...own, template_id: template.id, variables: Object.fromEntries(filled), ...said({ locale: given.locale }) };
  };

  async function preview() {
    const body = read(node);
    const curl = `curl -sS http://127.0.0.1:8080/api/v3/messages/send \\\n  -H "Authorization: Service $KEY" -H "Content-Type: application/json" \\\n  -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
    equivalent.replaceChildren(copyable(curl, 'curl'));
    if (!template) { shown.replaceChildren(body.title || body.content ? bubble(body) : h('p.faint', t('send.nothing'))); return; }
    try {
      shown.replaceChildren(bubble(await post(path`templates/${template.id}/preview`, { variables: body.variables, ...said({ locale: body.locale }) }, { query: walled(), signal })));
    } catch (error) {
      if (error.name !== 'AbortError') shown.replaceChildren(h('p.faint', (error.fields.length ? error.fields : [{ path: '', problem: error.message }]).map((one) => h('span', `${one.path.replace('variables.', '')} ${one.problem}`, h('br')))));
    }
  }
  const later = () => { clearTimeout(timer); timer = setTimeout(preview, PREVIEW_MS); };

  const written = [field(t('title'), 'title', { wide: true }), field(t('content'), 'content', { kind: 'area', wide: true }), field(t('type'), 'message_type', { placeholder: 'text' })];
  const choose = (id) => {
    template = templates.find((one) => one.id === id) ?? null;
    filling.replaceChildren(...(template ? [
      ...variables(template).map((variable) => field(`${variable.name}${variable.required ? ' *' : ''}`, `variable ${variable.name}`, { hint: variable.description, placeholder: variable.default ?? '' })),
      Object.keys(template.locales ?? {}).length > 0 && field(t('language'), 'locale', { kind: 'select', options: [['', '–'], ...Object.keys(template.locales).map((locale) => [locale, locale])] }),
    ].filter(Boolean) : written));
    later();
  };

  const node = form([
    field(t('send.to'), 'recipients', { value: query.to ?? '', hint: t('send.to.about'), wide: true }),
    field(t('send.kind'), 'recipient_type', { kind: 'select', value: query.kind ?? '', options: KINDS.map((kind) => [kind, t(`send.kind.${kind || 'auto'}`)]) }),
    field(t('template'), 'template', { kind: 'select', value: query.template ?? '', options: [['', t('send.written')], ...templates.map((one) => [one.id, `${one.name} (${one.id})`])], onchange: (event) => choose(event.target.value) }),
    filling,
    h('details.wide', h('summary', t('send.more')), h('div.fields',
      field(t('priority'), 'priority', { kind: 'number', min: 1, max: 10, placeholder: '5' }), field(t('send.collapse'), 'collapse_key', { hint: t('send.collapse.about') }),
      field(t('send.later'), 'scheduled_at', { kind: 'moment' }), field(t('send.expires'), 'expire_at', { kind: 'moment' }))),
  ], t('send'), async (_, form_) => {
    const done = await post('messages/send', read(form_), { query: walled() });
    toast(t(done.status === 'scheduled' ? 'send.scheduled' : 'send.done', { n: done.recipients === null ? t('tail.groups') : number(done.recipients) }));
    location.hash = to('messages', done.message_id);
  });
  node.addEventListener('input', later);
  signal.addEventListener('abort', () => clearTimeout(timer));
  choose(query.template);
  return [heading(t('view.send'), t('about.send', { tenant: currentTenant() || 'default' })), h('div.grid.beside', card('', node), h('div.list.wide-gap', card(t('preview'), shown), card(t('send.curl'), equivalent)))];
}
