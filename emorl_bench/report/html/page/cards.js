// One answer with its scores: by the scorers that methods are given, by the held-out scorers, and by gold.

const WIDE_GAP = 0.2; // from here on a gap is marked

// other: the answer that this one is compared with, or null.
function card(name, found, other) {
  const method = methods().find((one) => one.name === name);
  const body = found
    ? [el("p", { class: "text" }, marked(found.text, other?.text ?? null)), scoreTable(name, found)]
    : [note("No answer to this prompt in the page.")];
  return el("article", { class: "card", "data-method": name }, el("h4", {}, named(method)), body);
}

function scoreTable(name, found) {
  const sets = current()
    .judges.filter((one) => found.scores[one.key])
    .sort(
      (a, b) => ["objectives", "held_out", "gold"].indexOf(a.key) - ["objectives", "held_out", "gold"].indexOf(b.key),
    );
  const head = ["", ...sets.map((one) => one.title), ...(truth() ? ["gap"] : [])];
  const weights = current().preferences[browser.preference];
  const line = (title, values, gap) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, title),
      values.map((value) => el("td", {}, value === null || value === undefined ? "–" : number(value, 2))),
      truth() && gapCell(gap),
    );
  const rows = current().objectives.map((objective, k) => {
    const values = sets.map((one) => found.scores[one.key][k]);
    const [ours, theirs] = [found.scores.objectives?.[k], found.scores[truth()?.key]?.[k]];
    return line(
      objective,
      values,
      ours === undefined || ours === null || theirs === undefined || theirs === null ? null : ours - theirs,
    );
  });
  rows.push(
    line(
      "utility",
      sets.map((one) => utility(weights, found.scores[one.key])),
      gapOf(found),
    ),
  );
  const header = el(
    "tr",
    {},
    head.map((title) => (title === "" ? el("td", {}) : el("th", { scope: "col" }, title))),
  );
  const caption = el("caption", { class: "hidden" }, `Scores of the answer of ${name}`);
  return el("table", { class: "scores" }, caption, el("thead", {}, header), el("tbody", {}, rows));
}

function gapCell(gap) {
  if (gap === null) return el("td", {}, "–");
  const wide = Math.abs(gap) >= WIDE_GAP;
  return el("td", { class: wide ? "apart" : null }, `${signed(gap)}${wide ? (gap > 0 ? " ▲" : " ▼") : ""}`);
}
