'use strict';
// The page is built from the description with createElement and textContent only: nothing that stands
// in it, or in an answer, is ever read as HTML.

/** An element with attributes and children; texts become text nodes. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== ''));
  return element;
}

const byId = (id) => document.getElementById(id);
// A proxy may have put the API below a path of its own.
const base = location.pathname.replace(/\/api\/v3\/docs\/?$/, '');
const methods = ['get', 'post', 'put', 'patch', 'delete'];

/** Markdown as far as descriptions use it: paragraphs, tables, `code`, **strong**, [links](x). */
function markdown(text) {
  return (text || '').split('\n\n').filter((part) => part.trim()).map((part) => {
    const lines = part.trim().split('\n');
    if (lines.length > 2 && lines[0].startsWith('|')) {
      const cells = (line) => line.replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());
      return make('table', {},
        make('thead', {}, make('tr', {}, cells(lines[0]).map((cell) => make('th', {}, inline(cell))))),
        make('tbody', {}, lines.slice(2).map((line) =>
          make('tr', {}, cells(line).map((cell) => make('td', {}, inline(cell)))))));
    }
    return make('p', {}, inline(part));
  });
}

function inline(text) {
  const parts = [];
  const pattern = /`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)]+)\)/g;
  let last = 0;
  for (const found of text.matchAll(pattern)) {
    parts.push(text.slice(last, found.index));
    if (found[1]) parts.push(make('code', {}, found[1]));
    else if (found[2]) parts.push(make('strong', {}, found[2]));
    else if (/^[\w./#-]+$/.test(found[4])) parts.push(make('a', { href: found[4] }, found[3]));
    else parts.push(found[3]);
    last = found.index + found[0].length;
  }
  parts.push(text.slice(last));
  return parts;
}

/** Follows `$ref`s inside a document; gives the name it led to as well. */
function resolve(root, value) {
  let name;
  while (value && value.$ref) {
    name = value.$ref.split('/').pop();
    const { $ref, ...beside } = value;
    const target = $ref.slice(2).split('/').reduce((at, key) =>
      at && at[key.replace(/~1/g, '/').replace(/~0/g, '~')], root);
    value = { ...target, ...beside };
  }
  return { value: value === undefined ? {} : value, name };
}

/** What a schema allows, in a few words. */
function kindOf(root, schema) {
  const { value, name } = resolve(root, schema);
  if (value === true) return 'anything';
  if ('const' in value) return JSON.stringify(value.const);
  if (value.enum) return value.enum.filter((word) => word !== null).map((word) => JSON.stringify(word)).join(' | ');
  const choices = value.oneOf || value.anyOf;
  if (choices) {
    const words = [...new Set(choices.map((choice) => kindOf(root, choice)))];
    if (words.length <= 6 && !value.properties) return words.filter((word) => word !== 'anything').join(' | ') || 'anything';
  }
  const types = [].concat(value.type || []).filter((type) => type !== 'null');
  let kind = types.join(' | ') || 'anything';
  if (kind === 'array') kind = `list of ${kindOf(root, value.items || {})}`;
  if (kind === 'object' && name) kind = name;
  if (value.format) kind = value.format;
  const limits = [];
  if (value.minimum !== undefined || value.maximum !== undefined) {
    const most = value.maximum > 2 ** 53 ? '…' : value.maximum;
    limits.push(`${value.minimum === undefined ? '' : value.minimum} to ${most === undefined ? '…' : most}`);
  }
  if (value.minLength && value.maxLength) limits.push(`${value.minLength} to ${value.maxLength} characters`);
  else if (value.maxLength) limits.push(`at most ${value.maxLength} characters`);
  if (value.minItems && value.maxItems) limits.push(`${value.minItems} to ${value.maxItems}`);
  else if (value.maxItems) limits.push(`at most ${value.maxItems}`);
  return limits.length ? `${kind}, ${limits.join(', ')}` : kind;
}

/** The fields of an object, or what is in a list of them. */
function fieldsOf(root, schema, seen) {
  const { value, name } = resolve(root, schema);
  if (!value || (name && seen.includes(name))) return null;
  const deeper = name ? [...seen, name] : seen;
  if (value.items) return fieldsOf(root, value.items, deeper);
  if (value.properties) return tree(root, value, deeper);
  if (value.additionalProperties && typeof value.additionalProperties === 'object') {
    return fieldsOf(root, value.additionalProperties, deeper);
  }
  for (const several of [value.oneOf, value.anyOf, value.allOf]) {
    const trees = (several || []).map((one) => {
      const inside = fieldsOf(root, one, deeper);
      const about = resolve(root, one).value.description;
      return inside && (several.length > 1 && about ? make('div', {}, make('p', { class: 'dim' }, inline(about)), inside) : inside);
    }).filter(Boolean);
    if (trees.length) return make('div', {}, trees);
  }
  return null;
}

function tree(root, object, seen) {
  const required = object.required || [];
  const names = Object.keys(object.properties).sort((a, b) =>
    required.includes(b) - required.includes(a));
  return make('div', { class: 'tree' }, names.map((name) => {
    const schema = object.properties[name];
    const { value } = resolve(root, schema);
    const inside = fieldsOf(root, schema, seen);
    const head = [
      make('span', { class: 'name' }, name),
      required.includes(name) ? make('span', { class: 'must', title: 'required' }, ' *') : '',
      ' ', make('span', { class: 'kind' }, kindOf(root, schema)),
      value.description ? make('span', { class: 'dim' }, ' — ', inline(value.description)) : '',
    ];
    return inside
      ? make('details', { class: 'field' }, make('summary', {}, head), inside)
      : make('div', { class: 'field' }, head);
  }));
}

function pretty(value) {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2);
}

/** A row of buttons of which one is pressed. */
function choice(labels, show) {
  const buttons = labels.map((label, index) => make('button', {
    type: 'button', 'aria-pressed': 'false', onclick: () => press(index),
  }, label));
  function press(index) {
    buttons.forEach((button, at) => button.setAttribute('aria-pressed', String(at === index)));
    show(index);
  }
  return { row: make('div', { class: 'examples' }, buttons), press };
}

function parametersOf(root, operation) {
  const parameters = (operation.parameters || []).map((one) => resolve(root, one).value);
  if (!parameters.length) return null;
  return make('div', {}, make('h3', {}, 'Parameters'), make('table', {}, make('tbody', {},
    parameters.map((parameter) => make('tr', {},
      make('td', {}, make('span', { class: 'name' }, parameter.name),
        parameter.required ? make('span', { class: 'must' }, ' *') : ''),
      make('td', { class: 'dim' }, parameter.in),
      make('td', {}, make('div', { class: 'kind' }, kindOf(root, parameter.schema)),
        inline(parameter.description || '')))))));
}

function bodyOf(root, operation) {
  const body = operation.requestBody;
  if (!body) return null;
  const schema = body.content['application/json'].schema;
  return make('div', {},
    make('h3', {}, 'Body', make('span', { class: 'kind' },
      ` ${body.required ? '' : 'May be left out. '}${body.description || ''}`)),
    fieldsOf(root, schema, []));
}

function answersOf(root, operation) {
  const rows = Object.entries(operation.responses).map(([status, response]) => {
    const { value } = resolve(root, response);
    const [media, content] = Object.entries(value.content || {})[0] || [];
    const inside = content && content.schema && status < '300' ? fieldsOf(root, content.schema, []) : null;
    return make('tr', {},
      make('td', {}, make('span', { class: `status ${status < '400' ? 'ok' : 'no'}` }, status)),
      make('td', {}, markdown(value.description),
        media && media !== 'application/json' ? make('div', { class: 'kind' }, media) : '',
        inside ? make('details', {}, make('summary', {}, 'Fields'), inside) : ''));
  });
  return make('div', {}, make('h3', {}, 'Answers'), make('table', {}, make('tbody', {}, rows)));
}

function examplesOf(operation, use) {
  const samples = operation['x-codeSamples'] || [];
  const examples = operation['x-examples'] || [];
  if (!samples.length) return null;
  const request = make('pre', {});
  const answer = make('pre', {});
  const before = make('p', { class: 'dim' });
  const { row, press } = choice(samples.map((sample) => sample.label), (index) => {
    const example = examples[index];
    request.textContent = samples[index].source;
    answer.textContent = example.answer ? pretty(example.answer) : `status ${example.status}`;
    const calls = example.given.map((given) => `${given.method} ${given.path}`);
    before.textContent = calls.length ? `After: ${calls.join(', ')}` : '';
    before.hidden = !calls.length;
    use(example);
  });
  const made = make('div', {}, make('h3', {}, 'Examples'), row, before, request, answer);
  return { made, press };
}

/** The form that sends a request to this very server. */
function tryOf(root, path, method, operation) {
  const fields = (operation.parameters || []).map((one) => resolve(root, one).value)
    .map((parameter) => ({ parameter, input: make('input', { type: 'text', spellcheck: 'false', placeholder: kindOf(root, parameter.schema) }) }));
  const body = operation.requestBody ? make('textarea', { spellcheck: 'false', 'aria-label': 'Body' }) : null;
  const status = make('p', {});
  const answer = make('pre', { hidden: true });
  const button = make('button', { type: 'submit' }, 'Send');
  const form = make('form', {
    class: 'try',
    onsubmit: async (event) => {
      event.preventDefault();
      let target = path;
      const query = new URLSearchParams();
      const headers = new Headers({ Accept: 'application/json, */*;q=0.5' });
      for (const { parameter, input } of fields) {
        if (parameter.in === 'path') target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
        else if (input.value && parameter.in === 'query') query.append(parameter.name, input.value);
        else if (input.value && parameter.in === 'header') headers.set(parameter.name, input.value);
      }
      const token = byId('token').value.trim();
      if (byId('scheme').value && token) headers.set('Authorization', `${byId('scheme').value} ${token}`);
      if (body && body.value.trim()) headers.set('Content-Type', 'application/json');
      button.disabled = true;
      status.textContent = '…';
      const began = performance.now();
      try {
        const response = await fetch(base + target + (query.size ? `?${query}` : ''), {
          method: method.toUpperCase(), headers, body: body && body.value.trim() ? body.value : undefined,
          credentials: 'omit', cache: 'no-store', redirect: 'manual',
        });
        const text = await readSome(response);
        status.replaceChildren(
          make('span', { class: `status ${response.ok ? 'ok' : 'no'}` }, String(response.status)),
          make('span', { class: 'dim' }, ` in ${Math.round(performance.now() - began)} ms, request `,
            response.headers.get('X-Request-Id') || ''));
        let shown = text;
        try { shown = pretty(JSON.parse(text)); } catch { /* No JSON: as it is. */ }
        answer.textContent = shown;
      } catch (error) {
        status.textContent = `No answer: ${error.message}`;
        answer.textContent = '';
      }
      answer.hidden = !answer.textContent;
      button.disabled = false;
    },
  }, make('strong', {}, 'Try it'),
  fields.map(({ parameter, input }) => make('label', {}, make('span', { class: 'name' }, parameter.name), input)),
  body, make('div', {}, button), status, answer);
  const use = (example) => {
    const query = new URLSearchParams(example.query);
    for (const { parameter, input } of fields) {
      const of = { path: example.path, header: example.headers };
      input.value = (parameter.in === 'query' ? query.get(parameter.name) : of[parameter.in][parameter.name]) || '';
    }
    if (body) body.value = example.body || '';
  };
  return { form, use };
}

/** At most 64 KiB, and no more than a second of an answer that does not end. */
async function readSome(response) {
  const reader = response.body && response.body.getReader();
  if (!reader) return '';
  const decoder = new TextDecoder();
  let text = '';
  const late = new Promise((done) => setTimeout(() => done({ done: true, late: true }), 1000));
  while (text.length < 65536) {
    const endless = (response.headers.get('Content-Type') || '').startsWith('text/event-stream');
    const { done, value } = await (endless ? Promise.race([reader.read(), late]) : reader.read());
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  reader.cancel();
  return text;
}

function operationOf(root, path, method, operation) {
  const inside = make('div', { class: 'inside' });
  const details = make('details', { class: 'operation', id: operation.operationId },
    make('summary', {},
      make('span', { class: `method ${method}` }, method.toUpperCase()),
      make('span', { class: 'path' }, path),
      make('span', { class: 'title' }, operation.summary)),
    inside);
  // Filled when it is first opened: with a hundred endpoints all at once would take a second.
  details.addEventListener('toggle', () => {
    if (!details.open || inside.hasChildNodes()) return;
    const { form, use } = tryOf(root, path, method, operation);
    const examples = examplesOf(operation, use);
    inside.append(...[markdown(operation.description), examples && examples.made, form,
      parametersOf(root, operation), bodyOf(root, operation), answersOf(root, operation)].flat().filter(Boolean));
    if (examples) examples.press(0);
  });
  const words = JSON.stringify([path, operation.summary, operation.description, operation['x-examples'],
    operation.parameters, operation.requestBody && resolve(root, operation.requestBody.content['application/json'].schema).value]);
  return { details, words: words.toLowerCase(), tag: operation.tags[0], path, method, operation };
}

/** The socket's frames, as operations are shown. */
function framesOf(socket) {
  return Object.entries(socket.components.messages).map(([id, message]) => {
    const side = id.startsWith('server_') ? 'server' : 'client';
    const details = make('details', { class: 'operation', id },
      make('summary', {},
        make('span', { class: `method ${side === 'server' ? 'get' : 'post'}` }, side === 'server' ? 'GETS' : 'SAYS'),
        make('span', { class: 'path' }, message.name),
        make('span', { class: 'title' }, (message.summary || '').replace(/\.$/, ''))),
      make('div', { class: 'inside' }, fieldsOf(socket, message.payload, []), make('h3', {}, 'Examples'),
        message.examples.map((example) => make('pre', {}, pretty(example.payload)))));
    return { details, words: `${id} ${JSON.stringify(message)}`.toLowerCase(), tag: 'Socket', path: message.name,
      method: side === 'server' ? 'get' : 'post', operation: { operationId: id, summary: message.summary }, label: side === 'server' ? 'GETS' : 'SAYS' };
  });
}

function show(root, socket) {
  document.title = root.info.title;
  byId('title').textContent = `${root.info.title} ${root.info.version}`;
  const entries = [];
  for (const [path, item] of Object.entries(root.paths)) {
    for (const method of methods) {
      if (item[method]) entries.push(operationOf(root, path, method, item[method]));
    }
  }
  const chapters = root.tags.map((tag) => ({ name: tag.name, about: tag.description }));
  if (socket) {
    chapters.push({ name: 'Socket', about: `What a client gets and says at \`/ws\`. ${socket.info.description}` });
    entries.push(...framesOf(socket));
  }
  const main = byId('main');
  const contents = byId('contents');
  main.replaceChildren(...markdown(root.info.description));
  for (const chapter of chapters) {
    const own = entries.filter((entry) => entry.tag === chapter.name);
    chapter.section = make('section', {}, make('h2', {}, chapter.name), markdown(chapter.about),
      own.map((entry) => entry.details));
    chapter.heading = make('h4', {}, chapter.name);
    for (const entry of own) {
      entry.link = make('a', { href: `#${entry.operation.operationId}`, title: entry.operation.summary },
        make('span', { class: `method ${entry.method}` }, entry.label || entry.method.toUpperCase()),
        make('span', { class: 'path' }, entry.path.replace('/api/v3', '')));
    }
    contents.append(chapter.heading, ...own.map((entry) => entry.link));
    main.append(chapter.section);
    chapter.entries = own;
  }
  const nothing = make('p', { hidden: true }, 'Nothing fits.');
  main.append(nothing);
  byId('search').addEventListener('input', (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const chapter of chapters) {
      let any = 0;
      for (const entry of chapter.entries) {
        const fits = words.every((word) => entry.words.includes(word));
        entry.details.hidden = entry.link.hidden = !fits;
        any += fits;
      }
      chapter.section.hidden = chapter.heading.hidden = !any;
      shown += any;
    }
    nothing.hidden = shown > 0;
  });
  const open = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.matches('details')) return;
    target.open = true;
    target.scrollIntoView();
    for (const entry of entries) entry.link.setAttribute('aria-current', String(entry.details === target));
  };
  addEventListener('hashchange', open);
  open();
}

function rememberToken() {
  const told = () => byId('who').setAttribute('data-set', byId('scheme').value && byId('token').value ? '1' : '0');
  byId('credentials').addEventListener('submit', (event) => event.preventDefault());
  byId('credentials').addEventListener('input', (event) => {
    if (event.target === byId('token') && byId('token').value && !byId('scheme').value) {
      byId('scheme').value = byId('token').value.startsWith('phk_') ? 'Service' : 'Bearer';
    }
    told();
  });
}

async function read(name) {
  const response = await fetch(name, { credentials: 'omit' });
  return response.ok ? response.json() : null;
}

rememberToken();
(async () => {
  try {
    const root = await read('openapi.json');
    show(root, root.paths['/api/v3/asyncapi.json'] ? await read('asyncapi.json') : null);
  } catch (error) {
    byId('wait').textContent = `The description cannot be read: ${error.message}`;
  }
})();
