// The nodes, as the one that answers hears them, and how it judges itself.

import { get, health } from '../api.js';
import { badge, card, every, facts, h, heading, link, status, table, to, when } from '../ui.js';
import { milliseconds, number, t, word } from '../words.js';

const REFRESH_MS = 3000;

export default async function nodes({ signal }) {
  const rows = table(t('view.nodes'), [
    { label: t('node'), show: (one) => h('span', one.node_id, one.silent_for_ms === null && h('small.faint', ` ${t('node.answers')}`)) },
    { label: t('status'), show: (one) => (one.draining ? status('draining') : status(one.bus)) },
    { label: t('role'), show: (one) => one.role ?? '–', quiet: true },
    { label: t('connections'), number: true, show: (one) => (one.connections === null ? '–' : link(to('connections', { node_id: one.node_id }), number(one.connections))) },
    { label: t('version'), show: (one) => one.version ?? '–', quiet: true },
    { label: t('started'), show: (one) => when(one.started_at) },
    { label: t('heard'), number: true, show: (one) => (one.silent_for_ms === null ? '–' : milliseconds(one.silent_for_ms)) },
  ], []);
  const judged = h('div');
  const step = async () => {
    const [found, state] = await Promise.all([get('nodes', { signal }), health({ signal })]);
    rows.put(found.nodes);
    const { checks } = state;
    judged.replaceChildren(card(t('health'), facts([
      [t('status'), status(state.status)],
      [t('role'), state.role],
      [t('health.store'), status(checks.store)],
      [t('health.bus'), status(checks.bus)],
      checks.sockets && [t('health.sockets'), checks.sockets === 'ok' ? status('ok') : badge(word('status', checks.sockets), 'warn')],
      [t('health.draining'), t(checks.draining ? 'yes' : 'no')],
    ])));
  };
  await step();
  every(REFRESH_MS, signal, step);
  return [heading(t('view.nodes'), t('about.nodes')), rows.node, judged];
}
