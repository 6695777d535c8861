// Tenants, what they have used today, and how much they may.

import { page, path, put } from '../api.js';
import { button, dialog, field, form, h, heading, list, toast, when } from '../ui.js';
import { number, t } from '../words.js';

const QUOTAS = ['messages_per_day', 'recipients_per_day', 'templates', 'channels'];

export default async function tenants({ signal }) {
  const shown = list(t('view.tenants'), [
    { label: t('tenant'), show: (one) => one.tenant_id },
    { label: t('tenants.messages'), number: true, show: (one) => number(one.usage.messages) },
    { label: t('tenants.recipients'), number: true, show: (one) => number(one.usage.recipients) },
    ...QUOTAS.map((quota) => ({ label: t(`tenants.${quota}`), number: true, show: (one) => (one.quotas[quota] === null ? '∞' : number(one.quotas[quota])) })),
    { label: t('changed'), show: (one) => when(one.updated_at) },
    { label: '', show: (one) => button(t('edit'), () => edit(one), { kind: 'small' }) },
  ], (next) => page('tenants', 'tenants', { signal, next }), { signal, none: () => h('div.empty', h('p', t('tenants.none'))) });
  const edit = (one) => dialog(one.tenant_id, (close) => form(
    QUOTAS.map((quota) => field(t(`tenants.${quota}`), quota, { kind: 'number', min: 0, value: one.quotas[quota] ?? '', placeholder: '∞' })), t('save'), async (given) => {
      const quotas = Object.fromEntries(QUOTAS.map((quota) => [quota, given[quota] === '' ? null : Number(given[quota])]));
      await put(path`tenants/${one.tenant_id}`, { quotas });
      toast(t('saved'));
      close();
      await shown.load();
    }));
  await shown.load();
  return [heading(t('view.tenants'), t('about.tenants')), shown.node];
}
