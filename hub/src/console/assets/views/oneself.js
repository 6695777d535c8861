// What admins change of their own login.

import { me, post, put, whoAmI } from '../api.js';
import { button, dialog, field, form, h, secret, toast } from '../ui.js';
import { number, t } from '../words.js';
import { enrolment } from './login.js';

const password = (label, name, more) => field(label, name, { kind: 'password', autocomplete: 'current-password', required: true, wide: true, ...more });

export default () => dialog(t('own'), (close) => {
  const place = h('div.list');
  const show = (...nodes) => { place.replaceChildren(...nodes); (place.querySelector('input') ?? place.querySelector('button'))?.focus(); };
  const back = () => ({ extra: button(t('back'), first, { kind: 'quiet' }) });
  const over = async ({ ended, recovery_codes: codes }, text) => {
    close();
    toast(ended ? `${text} · ${t('own.ended', { n: number(ended) })}` : text);
    await whoAmI();
    if (codes) await secret(t('login.codes'), t('login.codes.about'), [[t('login.codes'), codes.join('\n')]]);
  };

  const change = () => show(form([
    password(t('own.old'), 'old_password'),
    password(t('admins.new_password'), 'new_password', { autocomplete: 'new-password', hint: t('own.password.about') }),
  ], t('save'), async (given) => over(await put('me/password', given), t('saved')), back()));
  /** What needs the password again. */
  const again = (about, label, go, more) => show(h('p', about), form([password(t('password'), 'password')], label, go, { ...back(), ...more }));

  const factor = () => again(t('own.factor.about'), t('login.go'), async (given) => {
    const { challenge, enrolment: found } = await post('me/totp', given);
    show(enrolment(found, t('own.factor.add')), form([field(t('login.code'), 'code', { inputmode: 'numeric', autocomplete: 'one-time-code', required: true, wide: true })], t('login.go'), async ({ code }) => over(await post('me/totp/confirm', { challenge, code: code.replace(/\s/g, '') }), t('saved')), back()));
  });
  const codes = () => again(t('own.codes.about'), t('create'), async (given) => over(await post('me/totp/recovery-codes', given), t('saved')));
  const remove = () => again(t('own.remove.about'), t('own.remove'), async (given) => over(await post('me/totp/remove', given), t('removed')), { danger: true });

  function first() {
    const ways = [['own.password', change], ['own.factor', factor], ...(me.admin.second_factor ? [['own.codes', codes], ['own.remove', remove]] : [])];
    show(...ways.map(([text, go]) => button(t(text), go)));
  }
  first();
  return place;
});
