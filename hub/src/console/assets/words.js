// Languages: which one, its texts, and how it writes numbers and times.

const KEY = 'pushhub.language';
export const LANGUAGES = { en: 'English', zh: '中文' };

const wanted = localStorage.getItem(KEY) ?? navigator.languages.map((one) => one.slice(0, 2)).find((one) => one in LANGUAGES);
export const language = wanted in LANGUAGES ? wanted : 'en';
document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';

// A path that stands whole in the source, so that the test finds every file that is asked for.
const texts = (await (language === 'zh' ? import('./lang/zh.js') : import('./lang/en.js'))).default;

/** A text; `{name}` in it is replaced. */
export const t = (key, values = {}) =>
  (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '');

/** The text of a word of the API, such as a status; the word itself where it has none. */
export const word = (kind, value) => texts[`${kind}.${value}`] ?? String(value ?? '');

export function speak(chosen) {
  localStorage.setItem(KEY, chosen);
  location.reload();
}

const format = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat(language, { notation: 'compact', maximumFractionDigits: 1 });
export const number = (value) => (value === null || value === undefined ? '–' : format.format(value));
export const short = (value) => (value === null || value === undefined ? '–' : Math.abs(value) < 10_000 ? format.format(value) : compact.format(value));
export const percent = (value) =>
  value === null || value === undefined ? '–' : new Intl.NumberFormat(language, { style: 'percent', maximumFractionDigits: 1 }).format(value);

const moment = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'medium' });
const clock = new Intl.DateTimeFormat(language, { timeStyle: 'medium' });
const relative = new Intl.RelativeTimeFormat(language, { numeric: 'auto', style: 'short' });
export const time = (iso) => (iso ? moment.format(new Date(iso)) : '–');
export const clockTime = (at) => clock.format(new Date(at));

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
const weekday = new Intl.DateTimeFormat(language, { weekday: 'short', timeZone: 'UTC' });
/** Days of the API, in their order. The first of January 2024 was a Monday. */
export const weekdays = (days) => DAYS.flatMap((day, at) => (days.includes(day) ? [weekday.format(Date.UTC(2024, 0, 1 + at))] : [])).join(' ');

const STEPS = [[60, 'second'], [60, 'minute'], [24, 'hour'], [30, 'day'], [12, 'month'], [Infinity, 'year']];
export function ago(iso) {
  if (!iso) return '–';
  let span = (new Date(iso) - Date.now()) / 1000;
  for (const [many, unit] of STEPS) {
    if (Math.abs(span) < many) return relative.format(Math.round(span), unit);
    span /= many;
  }
  return '–';
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return '–';
  if (ms < 1) return `${format.format(Math.round(ms * 100) / 100)} ms`;
  if (ms < 1000) return `${format.format(ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms))} ms`;
  if (ms < 60_000) return `${format.format(ms / 1000)} s`;
  if (ms < 3_600_000) return `${format.format(ms / 60_000)} min`;
  return `${format.format(ms / 3_600_000)} h`;
}

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let size = value ?? 0;
  while (size >= 1024 && at < units.length - 1) { size /= 1024; at += 1; }
  return `${format.format(size)} ${units[at]}`;
}
