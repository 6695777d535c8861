// The shell: who is in, which view is shown, the keyboard.

import { chooseTenant, currentTenant, may, me, page, post, seesAll, signedIn, signOut, whoAmI } from './api.js';
import { button, dialog, h, icon, link, reason, to, tool } from './ui.js';
import { VIEWS } from './views.js';
import { LANGUAGES, language, speak, t } from './words.js';

const app = document.getElementById('app');
const THEME = 'pushhub.theme';
const THEMES = ['system', 'light', 'dark'];

let leaving = new AbortController();
let shown;

function dress() {
  const theme = localStorage.getItem(THEME) ?? 'system';
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  return theme;
}

/** `#/users/ann?tab=x` in its parts. */
function place() {
  const [way = '', search = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [id, ...args] = way.split('/').map(decodeURIComponent);
  return { id: id || 'overview', args: args.filter(Boolean), query: Object.fromEntries(new URLSearchParams(search)) };
}

const allowed = (view) => (!view.needs || may(view.needs)) && (!view.all || seesAll()) && (!view.may || view.may());

/** The settings that are there before and after the login. */
function settings() {
  const languages = h('select.bare', { 'aria-label': t('language'), onchange: (event) => speak(event.target.value) },
    Object.entries(LANGUAGES).map(([id, name]) => h('option', { value: id, selected: id === language }, name)));
  const themes = h('select.bare', { 'aria-label': t('theme'), onchange: (event) => { localStorage.setItem(THEME, event.target.value); dress(); } },
    THEMES.map((id) => h('option', { value: id, selected: id === dress() }, t(`theme.${id}`))));
  return [languages, themes];
}

const brand = () => h('span.brand', h('img', { src: new URL('icon.svg', import.meta.url).href, alt: '', width: 22, height: 22 }), 'pushhub');

/** The code that a provider's login left behind the `#`; it stays in no history. */
function takeCode() {
  const code = decodeURIComponent(location.hash.slice('#login_code='.length));
  history.replaceState(null, '', location.pathname + location.search);
  return code;
}

async function loginPage(why, code) {
  leaving.abort();
  leaving = new AbortController();
  shown = undefined;
  document.title = `${t('login')} · pushhub`;
  const { default: login } = await import('./views/login.js');
  const main = h('main.login', { id: 'main' }, h('div.card', brand(), login({ why, code, done: enter, signal: leaving.signal })), h('div.row.settings', settings()));
  app.replaceChildren(main);
  main.querySelector('input')?.focus();
}

function navigation() {
  const groups = new Map();
  for (const view of VIEWS.filter(allowed)) groups.set(view.group, [...(groups.get(view.group) ?? []), view]);
  return h('nav', { id: 'navigation', 'aria-label': t('navigation') },
    [...groups].map(([group, views]) => [
      h('p.group', { id: `group-${group}` }, t(`group.${group}`)),
      h('ul', { 'aria-labelledby': `group-${group}` }, views.map((view) => h('li', h('a', { href: to(view.id), 'data-view': view.id }, icon(view.icon), t(`view.${view.id}`))))),
    ]));
}

function shell() {
  const names = [h('b', me.name), h('small', `${t(`role.${me.role}`)}${me.tenant_id ? ` · ${me.tenant_id}` : ''}`)];
  // Whoever logs in without a password has nothing of their own to change here.
  const who = me.admin?.has_password ? h('button.who', { type: 'button', title: t('own'), onclick: async () => (await import('./views/oneself.js')).default() }, icon('user'), h('span', names)) : h('div.who', names);
  const side = h('aside', h('div.side-head', brand(), tool(t('close'), 'close', () => app.classList.remove('open'), { class: 'tool narrow' })), navigation(),
    h('div.side-foot', who, tool(t('logout'), 'out', leave)));
  const bar = h('div.bar', tool(t('navigation'), 'menu', () => { app.classList.add('open'); side.querySelector('a')?.focus(); }, { class: 'tool narrow', 'aria-controls': 'navigation' }),
    button(t('jump'), palette, { kind: 'jump', symbol: 'search', title: 'Ctrl K', 'aria-label': t('jump') }), h('span.grow'), seesAll() && tenants(), ...settings(), tool(t('keys'), 'list', keys, { class: 'tool wide-only' }));
  const skip = h('a.skip', { href: '#main', onclick: (event) => { event.preventDefault(); document.querySelector('#main h1')?.focus(); } }, t('skip'));
  app.replaceChildren(skip, side, h('div.veil', { onclick: () => app.classList.remove('open') }), h('div.page', bar, h('main', { id: 'main' })));
}

/** Which tenant is looked at. The list is fetched when it is opened for the first time. */
function tenants() {
  const now = currentTenant();
  const select = h('select.bare', { 'aria-label': t('tenant'), onchange: () => { chooseTenant(select.value); show(); } },
    h('option', { value: '' }, t('tenant.all')), now && h('option', { value: now, selected: true }, now));
  const fetchAll = async () => {
    const { rows } = await page('tenants', 'tenants', { size: 200 });
    const known = new Set([...select.options].map((option) => option.value));
    select.append(...rows.filter((one) => !known.has(one.tenant_id)).map((one) => h('option', { value: one.tenant_id }, one.tenant_id)));
  };
  select.addEventListener('focus', () => fetchAll().catch(() => {}), { once: true });
  return select;
}

async function show() {
  if (!me) return;
  const { id, args, query } = place();
  const view = VIEWS.find((one) => one.id === id && allowed(one)) ?? VIEWS[0];
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const main = document.getElementById('main');
  app.classList.remove('open');
  for (const one of app.querySelectorAll('nav a')) {
    if (one.dataset.view === view.id) one.setAttribute('aria-current', 'page'); else one.removeAttribute('aria-current');
  }
  document.title = `${t(`view.${view.id}`)} · pushhub`;
  const moved = shown !== undefined && shown !== view.id + args.join('/');
  shown = view.id + args.join('/');
  main.setAttribute('aria-busy', 'true');
  try {
    const { default: build } = await view.load();
    if (signal.aborted) return;
    const content = await build({ args, query, signal, again: show, search: (changes) => seek(view.id, args, { ...query, ...changes }) });
    if (signal.aborted) return;
    main.replaceChildren(...[content].flat().filter(Boolean));
    // Whoever cannot see that the page has changed is told by the focus.
    if (moved) main.querySelector('h1')?.focus({ preventScroll: true });
    scrollTo(0, 0);
  } catch (error) {
    if (signal.aborted) return;
    const old = error instanceof TypeError && /module|import/i.test(error.message);
    main.replaceChildren(h('div.empty', h('h1', { tabindex: '-1' }, t(old ? 'error.old' : 'error.title')), h('p', old ? t('error.old.about') : reason(error)), button(t('again'), old ? () => location.reload() : show, { kind: 'primary' })));
  } finally {
    if (!signal.aborted) main.removeAttribute('aria-busy');
  }
}

/** Writes a filter into the address, without a place in the history for each letter. */
function seek(id, args, query) {
  history.replaceState(null, '', to(id, ...args, query));
}

async function enter() {
  try {
    await whoAmI();
  } catch (error) {
    signOut();
    return loginPage(reason(error));
  }
  shell();
  return show();
}

async function leave() {
  // What the view still asks for would be refused.
  leaving.abort();
  await post('auth/logout', undefined, { quiet: true }).catch(() => {});
  signOut();
  location.hash = '';
  await loginPage();
}

/** Goes anywhere by a few letters: a view, or a user by id. */
function palette() {
  if (!me || document.querySelector('dialog')) return;
  dialog(t('jump'), (close) => {
    const options = h('ul.options', { role: 'listbox', id: 'options', 'aria-label': t('jump') });
    const control = h('input', { type: 'search', role: 'combobox', 'aria-expanded': 'true', 'aria-controls': 'options', 'aria-label': t('jump.about'), placeholder: t('jump.about'), autocomplete: 'off', spellcheck: 'false' });
    let at = 0;
    const go = (href) => { close(); location.hash = href; };
    const offer = () => {
      const text = control.value.trim();
      const low = text.toLowerCase();
      const views = VIEWS.filter(allowed).filter((view) => view.id.includes(low) || t(`view.${view.id}`).toLowerCase().includes(low)).map((view) => [to(view.id), view.icon, t(`view.${view.id}`)]);
      const people = text ? [[to('users', text), 'user', t('jump.user', { user: text })], [to('connections', { user_id: text }), 'plug', t('jump.connections', { user: text })]] : [];
      const found = [...views, ...people];
      at = Math.max(0, Math.min(at, found.length - 1));
      options.replaceChildren(...found.map(([href, symbol, name], index) => h('li', { role: 'option', id: `option-${index}`, 'aria-selected': String(index === at), onclick: () => go(href) }, icon(symbol), name)));
      control.setAttribute('aria-activedescendant', `option-${at}`);
      options.children[at]?.scrollIntoView({ block: 'nearest' });
      return found;
    };
    control.addEventListener('input', () => { at = 0; offer(); });
    control.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowDown' || event.key === 'ArrowUp') { at += event.key === 'ArrowDown' ? 1 : -1; offer(); event.preventDefault(); }
      if (event.key === 'Enter') { const chosen = offer()[at]; if (chosen) go(chosen[0]); event.preventDefault(); }
    });
    offer();
    return h('div', control, options);
  });
}

function keys() {
  const rows = [['Ctrl K', t('jump')], ['/', t('keys.filter')], ['?', t('keys')], ['Esc', t('close')], ...VIEWS.filter(allowed).map((view) => [`g ${view.key}`, t(`view.${view.id}`)])];
  dialog(t('keys'), () => h('dl.keys', rows.map(([key, about]) => h('div', h('dt', key.split(' ').map((one) => h('kbd', one))), h('dd', about)))));
}

let waitsForView = 0;
addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === 'k') { event.preventDefault(); palette(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || !me || document.querySelector('dialog')) return;
  if (event.key === 'Escape') app.classList.remove('open');
  if (event.target.closest('input,select,textarea')) return;
  if (Date.now() - waitsForView < 1500) {
    waitsForView = 0;
    const view = VIEWS.filter(allowed).find((one) => one.key === event.key);
    if (view) location.hash = to(view.id);
  } else if (event.key === 'g') waitsForView = Date.now();
  else if (event.key === '/') { document.querySelector('#main [data-filter]')?.focus(); event.preventDefault(); } else if (event.key === '?') keys();
});
addEventListener('hashchange', show);
addEventListener('signed-out', () => loginPage(t('login.over')));

dress();
if (/^#login_code=/.test(location.hash)) await loginPage(undefined, takeCode());
else if (signedIn()) await enter(); else await loginPage();
