// A preference, set by one slider for each objective, and the methods ranked for it.

// Each run deploys its policy for the nearest graded preference; that policy is worth its scores weighted as asked.
function ranking() {
  const at = nearest(state.weights);
  const rows = methods().flatMap((method) => {
    const scores = runsOf(method.name).map((run) => run.points[state.judge]?.[at]);
    const worth = interval(scores.map((one) => utility(state.weights, one)));
    if (!worth) return [];
    const each = current().objectives.map((_, k) => interval(scores.map((one) => one?.[k]))?.mean ?? null);
    return [{ method, worth, each, fair: judge().fair || !method.chooses }];
  });
  return rows.sort((a, b) => b.fair - a.fair || b.worth.mean - a.worth.mean);
}

function preferencePart() {
  const sliders = el("fieldset", { class: "sliders" });
  const table = el("div");
  const said = el("p", { class: "said", "aria-live": "polite", id: "ranked" });
  const view = chart("fronts");
  const axes = { x: 0, y: 1 };
  const panel = el("form", { class: "controls" });
  const [asked, shown] = [el("div", {}, sliders, said, table), el("div", {}, panel, view.figure)];
  part("preference", "Fronts, and the methods for your preference", el("div", { class: "explore" }, asked, shown));

  let waiting = false; // a slider moves faster than a chart is drawn
  const redraw = () => {
    waiting = false;
    drawFronts(view, axes);
  };
  const again = () => {
    drawRanking(table, said);
    if (paper) return redraw(); // the printer does not wait for a frame
    if (!waiting) requestAnimationFrame(redraw);
    waiting = true;
    return undefined;
  };
  const restart = () => {
    const { objectives } = current();
    Object.assign(axes, { x: 0, y: Math.min(1, objectives.length - 1) });
    drawSliders(sliders);
    const names = objectives.map((name, k) => [k, name]);
    const pick = (axis) => (value) => {
      axes[axis] = Number(value);
      again();
    };
    fill(
      panel,
      picker("Across", names, axes.x, pick("x"), { id: "fronts-x" }),
      picker("Up", names, axes.y, pick("y"), { id: "fronts-y" }),
    );
    shown.hidden = sliders.hidden = objectives.length < 2; // with one objective there is nothing to prefer
    again();
  };
  on("section", restart);
  on("choice", again);
  on("preference", again);
}

function drawSliders(holder) {
  const { objectives, preferences } = current();
  const inputs = objectives.map(() => el("input", { type: "range", min: 0, max: 100, step: 1 }));
  const outputs = objectives.map(() => el("output"));
  const known = preferences.map((one, index) => [index, preferenceName(one)]);
  const graded = picker(
    "or one that was graded",
    [["", "–"], ...known],
    "",
    (value) => value !== "" && jump(Number(value)),
    { id: "graded" },
  );
  const write = () => {
    inputs.forEach((input, k) => {
      outputs[k].textContent = state.weights[k].toFixed(2);
      input.setAttribute("aria-valuetext", `${state.weights[k].toFixed(2)} of the weight`);
    });
    const same = preferences.findIndex((one) => one.every((w, k) => Math.abs(w - state.weights[k]) < 0.005));
    graded.querySelector("select").value = same < 0 ? "" : same;
  };
  const moved = () => {
    const raw = inputs.map((input) => Number(input.value));
    const total = raw.reduce((sum, value) => sum + value, 0);
    state.weights = total > 0 ? raw.map((value) => value / total) : uniform();
    write();
    tell("preference");
  };
  const jump = (index) => {
    state.weights = preferences[index];
    inputs.forEach((input, k) => {
      input.value = Math.round(100 * state.weights[k]);
    });
    write();
    tell("preference");
  };
  inputs.forEach((input, k) => {
    input.value = Math.round(100 * state.weights[k]);
    input.id = `weight-${k}`;
    input.addEventListener("input", moved);
  });
  const rows = objectives.map((name, k) =>
    el("div", { class: "slider" }, el("label", { for: `weight-${k}` }, name), inputs[k], outputs[k]),
  );
  write();
  fill(holder, el("legend", {}, "Your preference"), rows, graded);
}

function drawRanking(holder, said) {
  const rows = ranking();
  const { objectives, preferences } = current();
  const weights = objectives.map((name, k) => `${name} ${state.weights[k].toFixed(2)}`).join(", ");
  const fair = rows.filter((row) => row.fair);
  const best = fair
    .slice(0, 3)
    .map((row) => `${row.method.name} ${written(row.worth)}`)
    .join(", then ");
  const at = preferenceName(preferences[nearest(state.weights)]);
  said.textContent = `For ${weights}: ${best || "no method has these scores"}. Each method answers with its policy for the nearest graded preference, ${at}. The order is that of the means, and no claim.`;
  const [low, high] = [0, Math.max(...rows.map((row) => row.worth.mean + (row.worth.half ?? 0)), 1e-9)];
  const head = ["rank", "method", `utility by ${judge()?.title}`, "", ...objectives].map((title, i) =>
    el("th", { scope: "col" }, title || el("span", { class: "hidden" }, `bar ${i}`)),
  );
  const body = rows.map((row, i) =>
    el(
      "tr",
      { "data-method": row.method.name },
      el("td", {}, row.fair ? String(i + 1) : "–"),
      el("th", { scope: "row" }, named(row.method)),
      el("td", {}, row.fair ? written(row.worth) : `(${written(row.worth)})`),
      el("td", { class: "wide" }, barOf(row.worth, low, high, row.method.colour)),
      row.each.map((score) => el("td", {}, score === null ? "–" : number(score, 3))),
    ),
  );
  const caption = "Methods for this preference, best mean first";
  const top = holder.firstChild?.scrollTop ?? 0;
  fill(
    holder,
    scrolling(
      caption,
      el(
        "table",
        { id: "ranking" },
        el("caption", {}, caption),
        el("thead", {}, el("tr", {}, head)),
        el("tbody", {}, body),
      ),
    ),
  );
  holder.firstChild.scrollTop = top;
}

// A bar from 0 with its interval, drawn in the table.
function barOf(found, low, high, colour) {
  const share = (value) => `${Math.max(0, Math.min(100, (100 * (value - low)) / (high - low)))}%`;
  const half = found.half ?? 0;
  const bar = el(
    "span",
    { class: "bar", "aria-hidden": "true" },
    el("span", { class: "full" }),
    el("span", { class: "range" }),
  );
  bar.firstChild.style.width = share(found.mean);
  bar.firstChild.style.background = colour;
  bar.lastChild.style.left = share(found.mean - half);
  bar.lastChild.style.width = `calc(${share(found.mean + half)} - ${share(found.mean - half)})`;
  return bar;
}
