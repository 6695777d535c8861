// Building blocks. Everything that comes from outside becomes text, never markup.

import { Refused } from './api.js';
import { ago, t, time, word } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child);
  }
  return node;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'selected') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  return node;
}

/** An element: `h('button.primary', {onclick}, 'text', …)`. Attributes may be left out. */
export function h(what, ...rest) {
  const [name, ...classes] = what.split('.');
  const node = document.createElement(name);
  if (classes.length) node.className = classes.join(' ');
  const first = rest[0];
  const plain = first !== null && typeof first === 'object' && !(first instanceof Node) && !Array.isArray(first);
  if (plain) set(node, rest.shift());
  return fill(node, rest);
}

export function svg(name, attributes = {}, ...children) {
  return fill(set(document.createElementNS(SVG, name), attributes), children);
}

const ICONS = {
  pulse: 'M1 8h3l2-5 4 10 2-5h3', plug: 'M6 1v4M10 1v4M4 5h8v3a4 4 0 0 1-8 0zM8 12v3',
  server: 'M2 3h12v4H2zM2 9h12v4H2zM5 5h.01M5 11h.01', user: 'M8 8a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2 14c.6-3 3-4 6-4s5.4 1 6 4',
  hash: 'M3 6h11M2 10h11M6.5 2 5 14M11 2 9.5 14', bars: 'M3 14V8M8 14V3M13 14v-4',
  key: 'M10 9a4 4 0 1 0-3-3L1.5 11.5V14H4v-2h2v-2l1-1M11 5h.01', hook: 'M9 2v7a3 3 0 1 1-6 0M9 2 6.5 4.5M9 2l2.5 2.5M13 8v6',
  shield: 'M8 1.5 13.5 4v4c0 3.5-2.5 5.5-5.5 6.5C5 13.5 2.5 11.5 2.5 8V4z', send: 'M14.5 1.5 1.5 6.5l5 3 3 5zM6.5 9.5l8-8',
  clock: 'M8 14.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM8 4v4l3 2', file: 'M3.5 1.5h6l3 3v10h-9zM6 7h4M6 10h4', list: 'M5 4h9M5 8h9M5 12h9M2 4h.01M2 8h.01M2 12h.01',
  tail: 'M2 3h12M2 6.5h8M2 10h10M2 13.5h5', sun: 'M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1',
  out: 'M6 2H2.5v12H6M10 5l3 3-3 3M13 8H6', menu: 'M2 4h12M2 8h12M2 12h12', search: 'M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM11 11l3.5 3.5',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3', close: 'M3.5 3.5l9 9M12.5 3.5l-9 9', plus: 'M8 2.5v11M2.5 8h11', check: 'M2.5 8.5 6 12l7.5-8', back: 'M10 3 5 8l5 5',
  book: 'M4 2h9v12H4zM4 2 2.5 3.5V14H4M6.5 5.5h4M6.5 8.5h4',
  wall: 'M2 3h12v10H2zM2 8h12M8 3v5M5 8v5M11 8v5', refresh: 'M13.5 8A5.5 5.5 0 1 1 11.5 3.7M13.5 1.5v3h-3',
};
export const icon = (name) =>
  svg('svg', { viewBox: '0 0 16 16', width: 16, height: 16, class: 'icon', 'aria-hidden': 'true' }, svg('path', { d: ICONS[name] }));

export const link = (href, ...children) => h('a', { href }, ...children);
/** Where a view is: `to('users', 'ann')`, with a query. */
export function to(view, ...rest) {
  const query = typeof rest.at(-1) === 'object' ? rest.pop() : {};
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#/${[view, ...rest].map(encodeURIComponent).join('/')}${search ? `?${search}` : ''}`;
}

export const button = (label, onclick, options = {}) => {
  const { kind = '', symbol, title, ...more } = options;
  return h(`button${kind ? `.${kind}` : ''}`, { type: 'button', onclick, title, ...more }, symbol && icon(symbol), label && h('span', label));
};
/** A button that is a picture; its name is for those who cannot see it, and on hover. */
export const tool = (name, symbol, onclick, more = {}) =>
  h('button.tool', { type: 'button', 'aria-label': name, title: name, onclick, ...more }, icon(symbol));

export const badge = (text, tone = '') => h(`span.badge${tone ? `.${tone}` : ''}`, text);
const TONES = {
  active: 'good', ready: 'good', up: 'good', alone: 'good', ok: 'good', delivered: 'good', sent: 'good',
  pending: 'warn', degraded: 'warn', suspended: 'warn', scheduled: 'warn', doubtful: 'warn', connecting: 'warn', draining: 'warn',
  disabled: 'bad', failed: 'bad', not_ready: 'bad', down: 'bad', silent: 'bad', recalled: 'bad', failing: 'bad',
};
/** A status of the API, in its colour. */
export const status = (value) => badge(word('status', value), TONES[value]);
export const when = (iso) => (iso ? h('time', { datetime: iso, title: time(iso) }, ago(iso)) : h('span.faint', '–'));
export const code = (text) => h('code', text);
/** A name that may be long: cut where it does not fit, whole on hover. */
export const clip = (text) => h('span.clip', { title: text }, text);

export function heading(title, about, ...actions) {
  return h('header.head', h('div', h('h1', { tabindex: '-1' }, title), about && h('p.about', about)), h('div.actions', ...actions));
}

export const card = (title, ...children) => h('section.card', title && h('h2', title), ...children);
export const empty = (text, ...more) => h('div.empty', h('p', text), ...more);

let toasts;
/** A line that goes by itself; errors stay longer. */
export function toast(text, tone = 'good') {
  toasts ??= document.body.appendChild(h('div.toasts', { role: 'status', 'aria-live': 'polite' }));
  const line = h(`div.toast.${tone}`, text);
  toasts.append(line);
  // A dialog's layer would hide it.
  const dialog = document.querySelector('dialog[open]');
  (dialog ?? document.body).append(toasts);
  setTimeout(() => line.remove(), tone === 'good' ? 3500 : 8000);
}

export const reason = (error) =>
  error instanceof Refused && error.status === 0 ? t('error.away') : [error.message, ...(error.fields ?? []).map((field) => `${field.path}: ${field.problem}`)].join(' · ');

/** Does something by a button: it cannot be pressed twice, and what goes wrong is said. */
export async function act(node, work, said) {
  const pressed = node instanceof Event ? node.currentTarget : node;
  if (pressed) { pressed.disabled = true; pressed.setAttribute('aria-busy', 'true'); }
  try {
    const done = await work();
    if (said) toast(said);
    return done;
  } catch (error) {
    if (error.name !== 'AbortError') toast(reason(error), 'bad');
    return undefined;
  } finally {
    if (pressed) { pressed.disabled = false; pressed.removeAttribute('aria-busy'); }
  }
}

/** A dialog. The browser keeps the focus in it, ends it with Escape, and gives the focus back. */
export function dialog(title, build) {
  return new Promise((resolve) => {
    const node = h('dialog', { 'aria-labelledby': 'dialog-title' });
    const close = (value) => { node.returned = value; node.close(); };
    node.append(h('div.dialog-head', h('h2', { id: 'dialog-title' }, title), tool(t('close'), 'close', () => close())), h('div.dialog-body', build(close)));
    node.addEventListener('close', () => { document.body.append(...node.querySelectorAll('.toasts')); node.remove(); resolve(node.returned); });
    node.addEventListener('click', (event) => { if (event.target === node) close(); });
    document.body.append(node);
    node.showModal();
    (node.querySelector('input,select,textarea') ?? node.querySelector('.dialog-body button'))?.focus();
  });
}

/** Asks before something that cannot be taken back. */
export const confirm = (title, text, label) =>
  dialog(title, (close) => h('div', h('p', text), h('div.row.end', button(t('cancel'), () => close(false)), button(label, () => close(true), { kind: 'danger' }))));

let fields = 0;
/** A labelled control. `kind`: text, password, number, area, select, check, moment. */
export function field(label, name, { kind = 'text', options, hint, value, wide, ...more } = {}) {
  const id = `field-${(fields += 1)}`;
  const about = hint ? { 'aria-describedby': `${id}-hint` } : {};
  const common = { id, name, ...about, ...more };
  let control;
  if (kind === 'area') control = h('textarea', { rows: 4, value: value ?? '', ...common });
  else if (kind === 'select') {
    control = h('select', common, options.map(([of, text]) => h('option', { value: of, selected: of === value }, text)));
  } else if (kind === 'check') {
    return h('label.check', h('input', { type: 'checkbox', checked: value, ...common }), h('span', label, hint && h('small', { id: `${id}-hint` }, hint)));
  } else {
    const type = kind === 'moment' ? 'datetime-local' : kind;
    control = h('input', { type, value: value ?? '', autocomplete: 'off', ...(kind === 'moment' ? { step: 1 } : {}), ...common });
  }
  return h(`div.field${wide ? '.wide' : ''}`, h('label', { for: id }, label), control, hint && h('small', { id: `${id}-hint` }, hint), h('small.problem', { 'data-problem': name, role: 'alert' }));
}

/** A form: `submit` gets its values; what the API says of a field stands below it. */
export function form(children, label, submit, { danger, extra } = {}) {
  const send = h(`button.${danger ? 'danger' : 'primary'}`, { type: 'submit' }, label);
  const said = h('p.problem', { role: 'alert' });
  const node = h('form', { novalidate: true }, h('div.fields', children), said, h('div.row.end', extra, send));
  node.addEventListener('submit', async (event) => {
    event.preventDefault();
    for (const problem of node.querySelectorAll('.problem')) problem.textContent = '';
    for (const control of node.querySelectorAll('[aria-invalid]')) control.removeAttribute('aria-invalid');
    send.disabled = true;
    try {
      await submit(values(node), node);
    } catch (error) {
      if (error.name === 'AbortError') return;
      const left = (error.fields ?? []).filter(({ path, problem }) => {
        const place = node.querySelector(`[data-problem="${CSS.escape(path.split(/[.[]/)[0])}"]`);
        if (!place) return true;
        place.textContent = problem;
        const control = node.elements[place.dataset.problem];
        control?.setAttribute?.('aria-invalid', 'true');
        control?.focus?.();
        return false;
      });
      if (left.length || !(error.fields ?? []).length) said.textContent = reason(Object.assign(error, { fields: left }));
    } finally {
      send.disabled = false;
    }
  });
  return node;
}

/** What stands in a form: texts without what surrounds them, check boxes as true or false. */
export function values(node) {
  const found = {};
  for (const control of node.elements) {
    if (!control.name) continue;
    found[control.name] = control.type === 'checkbox' ? control.checked : control.type === 'password' ? control.value : control.value.trim();
  }
  return found;
}

/** Words between commas, spaces or lines. */
export const words = (text) => text.split(/[\s,，;；]+/).filter(Boolean);
/** An API's time of a control's, which is in the zone of who looks. */
export const moment = (text) => (text ? new Date(text).toISOString() : undefined);
/** Only what is said. */
export const said = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== '' && value !== undefined && value !== null && !(Array.isArray(value) && value.length === 0)));

/**
 * A table. Columns: `{name, label, show(row), number, quiet}`. On a phone each row is a card, with its labels.
 */
export function table(label, columns, rows) {
  const row = (entry) =>
    h('tr', columns.map(({ label: name, show, number: right, quiet }) => h(`td${right ? '.number' : ''}${quiet ? '.faint' : ''}`, { 'data-label': name }, show(entry))));
  const body = h('tbody', rows.map(row));
  const node = h('div.table', { role: 'region', 'aria-label': label, tabindex: '0' },
    h('table', h('thead', h('tr', columns.map((column) => h(`th${column.number ? '.number' : ''}`, { scope: 'col' }, column.label)))), body));
  return { node, put: (entries) => body.replaceChildren(...entries.map(row)), add: (entries) => body.append(...entries.map(row)) };
}

/** A list by pages: `fetch(next)` gives `{rows, next, total}`. Answers its node, and `load` to begin again. */
export function list(label, columns, fetch, { none, signal, after } = {}) {
  const rows = table(label, columns, []);
  const note = h('p.faint.count', { role: 'status' });
  const more = button(t('more'), (event) => act(event, () => step(true)), { kind: 'quiet' });
  const nothing = h('div.nothing');
  const node = h('div.list', rows.node, nothing, h('div.row.foot', note, more));
  let next;
  let shown = 0;
  let turn = 0;
  async function step(further) {
    const mine = (turn += 1);
    const found = await fetch(further ? next : undefined);
    if (signal?.aborted || mine !== turn) return;
    if (further) rows.add(found.rows); else rows.put(found.rows);
    shown = (further ? shown : 0) + found.rows.length;
    next = found.next ?? undefined;
    more.hidden = next === undefined;
    rows.node.hidden = shown === 0;
    nothing.replaceChildren(...(shown === 0 && none ? [none()] : []));
    note.textContent = shown === 0 ? '' : found.total === null || found.total === undefined ? t('list.shown', { shown }) : t('list.of', { shown, total: found.total });
    after?.(found);
  }
  more.hidden = true;
  return { node, load: () => step(false) };
}

/** A field to look for something, which `/` goes to. */
export const filter = (label, value, apply) => {
  let timer;
  const control = h('input', { type: 'search', placeholder: label, 'aria-label': label, 'data-filter': true, value: value ?? '', autocomplete: 'off', spellcheck: 'false' });
  control.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => apply(control.value.trim()), 250); });
  return h('span.filter', icon('search'), control);
};
export const choice = (label, options, value, apply) =>
  h('select', { 'aria-label': label, onchange: (event) => apply(event.target.value) }, options.map(([of, text]) => h('option', { value: of, selected: of === value }, text)));

/** Names and values, one below the other. */
export const facts = (pairs) =>
  h('dl.facts', pairs.filter(Boolean).map(([name, value]) => h('div', h('dt', name), h('dd', value === '' || value === null || value === undefined || value === false ? '–' : value))));

/** A text that is to be taken elsewhere. */
export function copyable(text, name) {
  return h('div.copyable', h('code', { tabindex: '0', 'aria-label': name }, text), tool(t('copy'), 'copy', async () => {
    try { await navigator.clipboard.writeText(text); toast(t('copied')); } catch { toast(t('copy.failed'), 'bad'); }
  }));
}

/** Shows what is shown once. */
export const secret = (title, about, pairs) =>
  dialog(title, (close) => h('div', h('p', about), pairs.map(([name, value]) => h('div.field', h('label', name), copyable(value, name))), h('div.row.end', button(t('done'), () => close(true), { kind: 'primary' }))));

/** Does something now and then while somebody looks. */
export function every(ms, signal, work) {
  let timer;
  const round = async () => {
    if (signal.aborted) return;
    if (!document.hidden) {
      try { await work(); } catch (error) { if (signal.aborted) return; console.debug(error); }
    }
    if (!signal.aborted) timer = setTimeout(round, ms);
  };
  signal.addEventListener('abort', () => clearTimeout(timer));
  return round();
}
