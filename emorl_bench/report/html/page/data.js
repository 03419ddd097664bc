// The report's data, what the reader has chosen, and the numbers that are computed from both.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SCALE = 1000; // scores of single answers are written in thousandths
const ENOUGH = 3; // seeds, below which no interval is shown

const state = { section: 0, decoding: "", judge: "", drawn: new Set(), weights: [] };
const listeners = { section: [], choice: [], preference: [] };

// A view registers what it draws again: after another task, after another choice in it, or after another preference.
function on(kind, draw) {
  listeners[kind].push(draw);
}

function tell(kind) {
  for (const draw of listeners[kind]) draw();
}

const current = () => DATA.sections[state.section];
const methods = () => current().methods;
const judge = () => current().judges.find((one) => one.key === state.judge);
const runs = () => current().runs[state.decoding] ?? [];
const runsOf = (name) => runs().filter((run) => run.method === name);

// Methods that are drawn in colour, in the order of the report; and the others, which are grey.
const drawn = () => methods().filter((one) => state.drawn.has(one.name));
const others = () => methods().filter((one) => !state.drawn.has(one.name));

function uniform() {
  return Array(current().objectives.length).fill(1 / current().objectives.length);
}

// The graded preference that is nearest to these weights: methods deploy a policy for graded preferences only.
function nearest(weights) {
  const apart = current().preferences.map((one) => one.reduce((sum, w, k) => sum + (w - weights[k]) ** 2, 0));
  return apart.indexOf(Math.min(...apart));
}

// Weighted mean of the scores that exist, as the runner computes it: the weights of the others are scaled up.
function utility(weights, scores) {
  if (!scores) return null;
  let total = 0;
  let sum = 0;
  scores.forEach((score, k) => {
    if (score === null || score === undefined) return;
    total += weights[k];
    sum += weights[k] * score;
  });
  return total > 0 ? sum / total : null;
}

// Mean and Student's 95 % interval; no interval below three seeds.
function interval(values) {
  const known = values.filter((value) => value !== null && value !== undefined && Number.isFinite(value));
  const n = known.length;
  if (n === 0) return null;
  const mean = known.reduce((sum, value) => sum + value, 0) / n;
  if (n < ENOUGH) return { mean, half: null, n };
  const variance = known.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { mean, half: (DATA.quantiles[n] ?? 1.96) * Math.sqrt(variance / n), n };
}

function written(found, digits = 3) {
  if (!found) return "–";
  const mean = number(found.mean, digits);
  if (found.half === null || found.half === undefined) return mean;
  const half = number(found.half, digits);
  return half === "0" ? mean : `${mean} ± ${half}`; // a count that does not vary needs no interval
}

function number(value, digits) {
  const rounded = Number(value.toFixed(digits)) === 0 ? 0 : value; // no "-0.000"
  return rounded.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

// "(0.33, 0.33, 0.33)", or "uniform".
function preferenceName(weights) {
  const even = 1 / weights.length;
  if (weights.every((w) => Math.abs(w - even) < 1e-4)) return "uniform";
  return `(${weights.map((w) => Number(w.toFixed(2))).join(", ")})`;
}
