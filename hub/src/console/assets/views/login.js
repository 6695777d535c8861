// Logging in: an account with its second factor, a provider where one is set up, or a token.

import { get, post, Refused, signIn } from '../api.js';
import { button, copyable, field, form, h, reason, secret } from '../ui.js';
import { t } from '../words.js';

/** What an authenticator app needs. */
export const enrolment = ({ secret: text, otpauth_uri: href }, about) =>
  h('div.list', h('p', about), copyable(text, t('login.secret')), h('p.faint', h('a', { href }, t('login.open'))));

export default function login({ why, code, done, signal }) {
  const place = h('div.steps');
  const show = (...nodes) => { place.replaceChildren(...nodes.filter(Boolean)); place.querySelector('input')?.focus(); };

  async function accept({ token, recovery_codes: codes }) {
    signIn(token);
    if (codes?.length) await secret(t('login.codes'), t('login.codes.about'), [[t('login.codes'), codes.join('\n')]]);
    await done();
  }

  const others = h('div.others');
  function first(problem) {
    const node = form([
      field(t('username'), 'username', { autocomplete: 'username', autocapitalize: 'none', required: true }),
      field(t('password'), 'password', { kind: 'password', autocomplete: 'current-password', required: true }),
    ], t('login'), async ({ username, password }) => second(await post('auth/login', { username, password }, { quiet: true })));
    show(h('h1', t('login.title')), problem && h('p.notice', { role: 'alert' }, problem), node, others);
    return node;
  }

  function second({ challenge, enrolment: newly }) {
    const node = form([field(t('login.code'), 'code', { inputmode: 'numeric', autocomplete: 'one-time-code', required: true, hint: t('login.code.about') })], t('login.go'), async ({ code }) => {
      try {
        await accept(await post('auth/totp', { challenge, code: code.replace(/\s/g, '') }, { quiet: true }));
      } catch (error) {
        // Whoever waited too long begins anew.
        if (error instanceof Refused && error.status === 401 && /challenge/.test(error.message)) first(error.message); else throw error;
      }
    }, { extra: button(t('back'), () => first(), { kind: 'quiet' }) });
    show(h('h1', t('login.second')), newly && enrolment(newly, t('login.enrol')), node);
  }

  function byToken() {
    const node = form([field(t('login.token'), 'token', { kind: 'password', autocomplete: 'off', required: true, hint: t('login.token.about') })], t('login.go'), async ({ token }) => accept({ token }), { extra: button(t('back'), () => first(), { kind: 'quiet' }) });
    show(h('h1', t('login.by_token')), node);
  }

  const token = button(t('login.by_token'), byToken, { kind: 'quiet' });
  others.append(token);
  get('login/providers', { signal, quiet: true }).then(({ providers }) => {
    others.prepend(...providers.map(({ title, login_url: href }) => h('a.button', { href: href.replace(/^\//, '') }, t('login.with', { provider: title }))));
  }).catch(() => {});
  first(why);
  // Of a provider; its cookie says that it is this browser which began.
  if (code) {
    post('login/exchange', { code }, { quiet: true, credentials: 'same-origin' }).then((answer) => (answer.token ? accept(answer) : second(answer))).catch((error) => first(reason(error)));
  }
  return place;
}
