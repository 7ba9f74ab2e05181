// -- charts: the last minutes, the newest at the right, with values at the axes ----------------------

const SVG = "http://www.w3.org/2000/svg", WIDTH = 300, HEIGHT = 100, BARS = 50, KINDS = 5;

function drawing(parts) {
  const made = document.createElementNS(SVG, "svg"), found = {};
  made.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  made.setAttribute("preserveAspectRatio", "none");
  made.setAttribute("role", "img");
  for (const name of parts) {
    found[name] = document.createElementNS(SVG, "path");
    found[name].setAttribute("class", name);
    made.append(found[name]);
  }
  found.grid.setAttribute("d", `M0 0H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT}H${WIDTH}`);
  return [made, found];
}

// A card with a title, the current value, a drawing, three values at its side and three times below.
function chartCard(parent, title, className, parts) {
  const card = element("figure", "card chart " + className), head = element("h3");
  const now = element("output"), [svg, found] = drawing(parts);
  head.append(element("span", "", title), now);
  const plot = element("div", "plot"), y = element("div", "y"), x = element("div", "x");
  for (const axis of [y, x]) axis.append(element("span"), element("span"), element("span"));
  plot.append(y, svg, x);
  card.append(head, plot);
  parent.append(card);
  return { title, now, svg, parts: found, y: y.children, x: x.children, n: 0, step: 2 };
}

// The least round number above a value, whose half is round too.
function ceiling(value, seconds) {
  if (seconds && value > 10) {
    return [20, 30, 60, 120, 240, 600, 1200, 1800, 3600, 7200].find((s) => s >= value) || value;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 10].find((n) => n * power >= value * 0.999) * power;
}

function axes(chart, maximum, show) {
  [maximum, maximum / 2, 0].forEach((value, i) => put(chart.y[i], value ? show(value) : "0"));
  const length = Math.max(0, chart.n - 1) * chart.step;
  [past(length), length > 20 ? past(length / 2) : "", "now"].forEach((text, i) => put(chart.x[i], text));
}

function lineOf(points, maximum) {
  const x = (i) => (points.length < 2 ? WIDTH : i * WIDTH / (points.length - 1));
  const y = (value) => HEIGHT - HEIGHT * value / maximum;
  let line = "", area = "", pen = false;
  points.forEach((value, i) => {
    if (value === null) { pen = false; return; }
    if (!pen) area += `M${x(i)} ${HEIGHT}`;
    line += `${pen ? "L" : "M"}${x(i)} ${y(value)}`;
    area += `L${x(i)} ${y(value)}`;
    if (i === points.length - 1 || points[i + 1] === null) area += `L${x(i)} ${HEIGHT}Z`;
    pen = true;
  });
  return [line, area];
}

const whole = (value) => (value < 10 && value % 1 ? value.toFixed(1) : count(Math.round(value)));
const short = (seconds) => span(seconds).replace(/\.0(?= s)| 0 [sm]$/, "");

const CHARTS = [
  ["turns", "Turns a second", "turns", null, whole],
  ["waiting", "Waiting", "waiting", null, whole],
  ["wait", "Wait, p99 / p50", "wait", "wait_p50", short],
  ["took", "Turn, p99 / p50", "turn_p99", "turn_p50", short],
].map(([className, title, first, second, show]) => {
  const chart = chartCard(at("charts"), title, className, ["grid", "area", "stroke", "second", "cursor"]);
  Object.assign(chart, { first, second, show });
  chart.svg.addEventListener("pointermove", (event) => pointAt(chart, event));
  chart.svg.addEventListener("pointerleave", () => draw(chart));
  return chart;
});

function draw(chart) {
  const points = live.history[chart.first], others = chart.second ? live.history[chart.second] : [];
  const seconds = chart.show === short;
  const maximum = ceiling(Math.max(seconds ? 0.002 : 2, ...points, ...others), seconds);
  chart.n = points.length;
  chart.step = live.history.step;
  const [line, area] = lineOf(points, maximum);
  chart.parts.stroke.setAttribute("d", line);
  chart.parts.area.setAttribute("d", area);
  chart.parts.second.setAttribute("d", lineOf(others, maximum)[0]);
  chart.parts.cursor.style.visibility = "hidden";
  axes(chart, maximum, chart.show);
  say(chart, points.length - 1, "");
  chart.svg.setAttribute("aria-label", `${chart.title}: now ${chart.now.textContent}, most ${chart.show(Math.max(0, ...points))}`);
}

function say(chart, i, when) {
  const values = [chart.first, chart.second].filter(Boolean).map((key) => live.history[key][i]);
  const said = values.map((value) => (value === null || value === undefined ? "–" : chart.show(value)));
  put(chart.now, said.join(" / ") + when);
}

function pointAt(chart, event) {
  const box = chart.svg.getBoundingClientRect();
  const i = Math.max(0, Math.min(chart.n - 1, Math.round((event.clientX - box.left) / box.width * (chart.n - 1))));
  const x = chart.n < 2 ? WIDTH : i * WIDTH / (chart.n - 1), ago = (chart.n - 1 - i) * chart.step;
  chart.parts.cursor.setAttribute("d", `M${x} 0V${HEIGHT}`);
  chart.parts.cursor.style.visibility = "visible";
  say(chart, i, ago ? ", " + past(ago) : "");
}

// -- errors: bars of some seconds, one colour for each kind, the most frequent at the bottom ---------

const errorChart = chartCard(at("errors-chart"), "Errors", "", ["grid", "k5", "k4", "k3", "k2", "k1", "k0"]);

// The kinds, the most frequent first, with their values for the table and the chart.
function kindsOf() {
  const { failed } = live.history, names = new Set([...Object.keys(live.reasons), ...Object.keys(failed)]);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const kinds = [...names].map((name) =>
    ({ name, steps: failed[name] || [], recent: sum(failed[name] || []), total: live.reasons[name] || 0 }));
  kinds.sort((a, b) => b.recent - a.recent || b.total - a.total || (a.name < b.name ? -1 : 1));
  kinds.forEach((kind, i) => { kind.colour = "k" + Math.min(i, KINDS); });
  return kinds;
}

function drawErrors(kinds) {
  const n = live.history.turns.length, wide = Math.ceil(150 / BARS), bars = Math.ceil(n / wide);
  const heights = new Array(bars).fill(0), stacks = kinds.map((kind) => {
    const made = new Array(bars).fill(0);
    kind.steps.forEach((value, i) => { made[bars - 1 - Math.floor((n - 1 - i) / wide)] += value; });
    made.forEach((value, i) => { heights[i] += value; });
    return made;
  });
  const maximum = ceiling(Math.max(2, ...heights)), unit = WIDTH / Math.max(bars, 2), floor = new Array(bars).fill(0);
  const paths = {};
  stacks.forEach((values, k) => values.forEach((value, i) => {
    if (!value) return;
    const y = HEIGHT - HEIGHT * (floor[i] + value) / maximum, x = WIDTH - (bars - i) * unit;
    const bar = `M${x + unit * 0.12} ${y}h${unit * 0.76}v${HEIGHT * value / maximum}h${-unit * 0.76}Z`;
    paths[kinds[k].colour] = (paths[kinds[k].colour] || "") + bar;
    floor[i] += value;
  }));
  for (let k = 0; k <= KINDS; k++) errorChart.parts["k" + k].setAttribute("d", paths["k" + k] || "");
  errorChart.n = n;
  errorChart.step = live.history.step;
  axes(errorChart, maximum, whole);
  const recent = kinds.reduce((total, kind) => total + kind.recent, 0);
  put(errorChart.now, `bars of ${wide * live.history.step} s`);
  const each = kinds.filter((kind) => kind.recent).map((kind) => `${kind.name} ${kind.recent}`);
  errorChart.svg.setAttribute("aria-label", `Errors: ${recent} shown. ${each.join(", ")}`);
}
