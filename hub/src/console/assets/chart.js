// Charts drawn by hand: lines over the last minutes, and bars by the hour.

import { h, svg } from './ui.js';
import { clockTime, t } from './words.js';

const WIDTH = 600;
const HEIGHT = 140;
const SPAN_MS_MIN = 60_000;
const ROOM = { left: 4, right: 4, top: 10, bottom: 4 };

/** The next round number above. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * step).find((round) => round >= value * 1.02) ?? value;
}

/** A card with a chart: `series` are `{name, tone}`, `show` writes a value, `span` is milliseconds. */
export function lines(title, series, show, { span = 300_000, least = 0, about } = {}) {
  const paths = series.map(({ tone }) => svg('path', { class: `line ${tone}` }));
  const area = svg('path', { class: `area ${series[0].tone}` });
  const top = h('span.axis');
  const guide = svg('line', { class: 'guide', y1: 0, y2: HEIGHT, visibility: 'hidden' });
  const rules = [0.5, 1].map((at) => svg('line', { class: 'rule', x1: 0, x2: WIDTH, y1: y(at, 1), y2: y(at, 1) }));
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', class: 'chart' }, rules, area, paths, guide);
  const values = series.map(({ name, tone }) => {
    const value = h('b', '–');
    return { value, node: h('span.value', h(`i.${tone}`), h('span', name), value) };
  });
  const moment = h('small.faint', '');
  const node = h('section.card.chart-card', h('h2', title), h('div.values', values.map((one) => one.node), moment), h('div.plot', top, picture), about && h('p.faint', about));
  const points = [];
  let over;

  function y(value, max) {
    return ROOM.top + (1 - value / max) * (HEIGHT - ROOM.top - ROOM.bottom);
  }

  function draw() {
    const end = points.at(-1)?.at ?? Date.now();
    const max = ceiling(Math.max(least, ...points.flatMap((point) => point.values.filter(Number.isFinite))));
    // What there is fills the chart; a minute at least, so that the first looks are no giants.
    const width = Math.min(span, Math.max(SPAN_MS_MIN, end - (points[0]?.at ?? end)));
    const x = (at) => ROOM.left + (1 - (end - at) / width) * (WIDTH - ROOM.left - ROOM.right);
    top.textContent = show(max);
    series.forEach((_, index) => {
      let way = '';
      let open = false;
      for (const point of points) {
        const value = point.values[index];
        if (!Number.isFinite(value)) { open = false; continue; }
        way += `${open ? 'L' : 'M'}${x(point.at).toFixed(1)} ${y(value, max).toFixed(1)}`;
        open = true;
      }
      paths[index].setAttribute('d', way);
      // Only a line without holes has a floor.
      if (index === 0) {
        const whole = points.length > 1 && points.every((point) => Number.isFinite(point.values[0]));
        area.setAttribute('d', whole ? `${way}L${x(end).toFixed(1)} ${HEIGHT}L${x(points[0].at).toFixed(1)} ${HEIGHT}Z` : '');
      }
    });
    const point = over === undefined ? points.at(-1) : points.reduce((near, one) => (Math.abs(x(one.at) - over) < Math.abs(x(near.at) - over) ? one : near), points[0]);
    if (!point) return;
    guide.setAttribute('visibility', over === undefined ? 'hidden' : 'visible');
    guide.setAttribute('x1', x(point.at));
    guide.setAttribute('x2', x(point.at));
    moment.textContent = over === undefined ? '' : clockTime(point.at);
    values.forEach(({ value }, index) => { value.textContent = Number.isFinite(point.values[index]) ? show(point.values[index]) : '–'; });
    picture.setAttribute('aria-label', `${title}: ${series.map(({ name }, index) => `${name} ${values[index].value.textContent}`).join(', ')}`);
  }

  const point = (event) => {
    const box = picture.getBoundingClientRect();
    over = ((event.clientX - box.left) / box.width) * WIDTH;
    draw();
  };
  picture.addEventListener('pointermove', point);
  picture.addEventListener('pointerdown', point);
  picture.addEventListener('pointerleave', () => { over = undefined; draw(); });

  return {
    node,
    push(at, ...next) {
      points.push({ at, values: next });
      while (points.length && points[0].at < at - span) points.shift();
      draw();
    },
    fill(all) {
      points.splice(0, points.length, ...all);
      draw();
    },
  };
}

/** Bars: `rows` are `{name, values}`, one value for each series, drawn over each other. */
export function bars(title, series, rows, show) {
  const max = ceiling(Math.max(0, ...rows.flatMap((row) => row.values)));
  const step = WIDTH / Math.max(rows.length, 1);
  const wide = Math.max(1, step * 0.7);
  const height = (value) => (value / max) * (HEIGHT - ROOM.top);
  const columns = rows.map((row, at) => svg('g', { class: 'column' },
    svg('rect', { class: 'hit', x: at * step, y: 0, width: step, height: HEIGHT }),
    row.values.map((value, index) => svg('rect', { class: `bar ${series[index].tone}`, x: at * step + (step - wide) / 2, width: wide, y: HEIGHT - height(value), height: height(value), rx: 1.5 })),
    svg('title', {}, `${row.name}\n${series.map(({ name }, index) => `${name}: ${show(row.values[index])}`).join('\n')}`)));
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'chart', role: 'img', 'aria-label': title }, columns);
  const legend = series.map(({ name, tone }) => h('span.value', h(`i.${tone}`), h('span', name)));
  return h('section.card.chart-card', h('h2', title), h('div.values', legend), h('div.plot', h('span.axis', show(max)), picture), rows.length > 0 && h('div.ends', h('small.faint', rows[0].name), h('small.faint', rows.at(-1).name)), rows.length === 0 && h('p.faint', t('chart.none')));
}
