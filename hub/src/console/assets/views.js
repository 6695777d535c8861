// Every view: one line here, one file below views/. `needs` is the least role, `all` wants an admin of all tenants,
// `key` follows `g` on the keyboard.

import { keepsAdmins } from './api.js';

export const VIEWS = [
  { id: 'overview', group: 'live', icon: 'pulse', key: 'o', load: () => import('./views/overview.js') },
  { id: 'connections', group: 'live', icon: 'plug', key: 'c', load: () => import('./views/connections.js') },
  { id: 'tail', group: 'live', icon: 'tail', key: 'l', load: () => import('./views/tail.js') },
  { id: 'nodes', group: 'live', icon: 'server', key: 'n', all: true, load: () => import('./views/nodes.js') },
  { id: 'users', group: 'people', icon: 'user', key: 'u', load: () => import('./views/users.js') },
  { id: 'channels', group: 'people', icon: 'hash', key: 'h', load: () => import('./views/channels.js') },
  { id: 'send', group: 'messages', icon: 'send', key: 's', needs: 'operator', load: () => import('./views/send.js') },
  { id: 'messages', group: 'messages', icon: 'clock', key: 'm', load: () => import('./views/messages.js') },
  { id: 'templates', group: 'messages', icon: 'file', key: 'e', load: () => import('./views/templates.js') },
  { id: 'stats', group: 'messages', icon: 'bars', key: 't', load: () => import('./views/stats.js') },
  { id: 'services', group: 'access', icon: 'key', key: 'v', load: () => import('./views/services.js') },
  { id: 'webhooks', group: 'access', icon: 'hook', key: 'w', load: () => import('./views/webhooks.js') },
  { id: 'tenants', group: 'access', icon: 'wall', key: 'd', needs: 'admin', all: true, load: () => import('./views/tenants.js') },
  { id: 'admins', group: 'access', icon: 'shield', key: 'a', may: keepsAdmins, load: () => import('./views/admins.js') },
  { id: 'audit', group: 'access', icon: 'book', key: 'r', load: () => import('./views/audit.js') },
];
