// The one way to the hub. Paths are relative to the page, so that a proxy may put the console below a folder.
// The token is in this tab's sessionStorage and goes into `Authorization`: there is no cookie to be misused.

const KEY = 'pushhub.session';
const ROOT = new URL('.', document.baseURI);
const ANSWER_MS_MAX = 20_000;
/** For what takes long: a backup of a large inbox, a look at the whole audit log. */
export const LONG_MS_MAX = 600_000;

let token = sessionStorage.getItem(KEY);

/** Who is logged in, as `GET auth/me` says. */
export let me = null;

/** The tenant that is looked at; '' for all, where one may see all. */
let tenant = sessionStorage.getItem(`${KEY}.tenant`) ?? '';

/** An answer that says no, or none at all (`status` 0). */
export class Refused extends Error {
  constructor(status, message, error) {
    super(message);
    this.status = status;
    this.type = error?.type ?? '';
    this.fields = error?.fields ?? [];
  }
}

export const signedIn = () => token !== null;

export function signIn(given) {
  token = given;
  sessionStorage.setItem(KEY, given);
}

export function signOut() {
  token = me = null;
  sessionStorage.removeItem(KEY);
}

export async function whoAmI() {
  me = await get('auth/me');
  if (me.tenant_id) tenant = me.tenant_id;
  return me;
}

const ORDER = ['viewer', 'operator', 'admin'];
/** Whether the role of who is logged in reaches for this one. */
export const may = (role) => me !== null && ORDER.indexOf(me.role) >= ORDER.indexOf(role);
/** Whether they may see all tenants. */
export const seesAll = () => me !== null && me.tenant_id === null;
/** Whether they may keep admins: the login service's users may not. */
export const keepsAdmins = () => may('admin') && (me.admin !== null || me.name === 'admin_token');

export const currentTenant = () => tenant;
export function chooseTenant(id) {
  tenant = id;
  sessionStorage.setItem(`${KEY}.tenant`, id);
}
/** For the query of what is behind a wall. */
export const walled = (query = {}) => (tenant && seesAll() ? { ...query, tenant_id: tenant } : query);

/** A path in which whatever is put in is one segment. */
export const path = (texts, ...values) =>
  texts.reduce((all, text, at) => all + encodeURIComponent(values[at - 1]) + text);

function url(place, query) {
  const target = new URL(place, ROOT);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== '') target.searchParams.append(name, one);
  }
  return target;
}

function headers(more = {}) {
  return token === null ? more : { ...more, Authorization: `Bearer ${token}` };
}

async function ask(method, place, { query, body, signal, quiet, credentials = 'omit', ms = ANSWER_MS_MAX } = {}) {
  const limit = AbortSignal.timeout(ms);
  const json = body === undefined ? {} : { 'Content-Type': 'application/json' };
  let response;
  try {
    response = await fetch(url(place, query), {
      method,
      headers: headers(json),
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials,
      cache: 'no-store',
    });
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new Refused(0, String(error.message ?? error));
  }
  if (response.status === 401 && token !== null && !quiet) {
    signOut();
    dispatchEvent(new Event('signed-out'));
  }
  return response;
}

async function refuse(response) {
  const answer = await response.json().catch(() => ({}));
  throw new Refused(response.status, answer.message ?? response.statusText, answer.error);
}

async function call(method, place, options) {
  const response = await ask(method, `api/v3/admin/${place}`, options);
  if (!response.ok) await refuse(response);
  const answer = await response.json().catch(() => ({}));
  return options?.whole ? answer : answer.data;
}

export const get = (place, options) => call('GET', place, options);
export const post = (place, body, options) => call('POST', place, { ...options, body });
export const put = (place, body, options) => call('PUT', place, { ...options, body });
export const del = (place, options) => call('DELETE', place, options);

/** A page of a list: its entries by this name, where the next begins, and how many there are. */
export async function page(place, name, { query, signal, next, size = 50 } = {}) {
  const from = next === undefined ? {} : typeof next === 'number' ? { page: next } : { cursor: next };
  const { data, meta } = await get(place, { query: { size, ...query, ...from }, signal, whole: true });
  const more = meta?.page && meta.total_pages > meta.page ? meta.page + 1 : undefined;
  return { rows: data[name], next: meta?.next_cursor ?? more, total: data.total, data, meta };
}

/** What is no JSON of the API: metrics, exports. */
export async function raw(place, options) {
  const response = await ask('GET', place, options);
  if (!response.ok) throw new Refused(response.status, response.statusText);
  return response;
}

/** Lets the browser keep a file of the API, which it could not fetch by a link: a link shows no token. */
export async function download(place, name, options) {
  const response = await ask('GET', `api/v3/admin/${place}`, { ...options, ms: LONG_MS_MAX });
  if (!response.ok) await refuse(response);
  const href = URL.createObjectURL(await response.blob());
  Object.assign(document.createElement('a'), { href, download: name }).click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(href), ANSWER_MS_MAX);
}

/** Readiness, which answers 503 with the same words. */
export async function health(options) {
  const response = await ask('GET', 'health/ready', options);
  return response.json();
}

/** The events of a stream, until `signal` or its end. Not an EventSource, which could show no token. */
export async function* events(place, { query, signal }) {
  const response = await fetch(url(`api/v3/admin/${place}`, query), {
    headers: headers({ Accept: 'text/event-stream' }), signal, credentials: 'omit', cache: 'no-store',
  });
  if (!response.ok) await refuse(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split('\n\n');
    rest = pieces.pop();
    for (const piece of pieces) {
      const lines = piece.split('\n');
      const of = (field) => lines.find((line) => line.startsWith(`${field}: `))?.slice(field.length + 2);
      const data = of('data');
      if (data !== undefined) yield { event: of('event') ?? 'message', data: JSON.parse(data) };
    }
  }
}
