// Score against cost: each run graded at shares of its budget.

const COSTS = { data_points: "prompts spent", tflop: "TFLOP spent", seconds: "seconds" };

// The stages of a method: mean over seeds of cost and utility at each share.
function climb(name, cost) {
  const shares = [...new Set(runsOf(name).flatMap((run) => run.stages.map((stage) => stage.share)))].sort(
    (a, b) => a - b,
  );
  return shares.flatMap((share) => {
    const stages = runsOf(name).flatMap((run) => run.stages.filter((stage) => stage.share === share));
    const spent = interval(stages.map((stage) => stage[cost]));
    const worth = interval(stages.map((stage) => stage.utility[state.judge]));
    return spent && worth ? [{ share, x: spent.mean, worth }] : [];
  });
}

function ladderPart() {
  const view = chart("ladder");
  const table = el("div");
  let cost = "data_points";
  const controls = el("form", { class: "controls" });
  const draw = () => {
    fill(
      controls,
      picker(
        "Cost",
        Object.entries(COSTS),
        cost,
        (value) => {
          cost = value;
          draw();
        },
        { id: "ladder-cost" },
      ),
    );
    drawLadder(view, cost);
    fill(table, ladderTable(cost));
  };
  part(
    "cost",
    "Score against cost",
    controls,
    view.figure,
    el("details", {}, el("summary", {}, "The same as a table"), table),
  );
  on("section", draw);
  on("choice", draw);
}

function drawLadder(view, cost) {
  if (!judge()) return undefined;
  const fair = (method) => judge().fair || !method.chooses;
  const lines = drawn()
    .filter(fair)
    .map((method) => ({ method, stages: climb(method.name, cost) }))
    .filter((one) => one.stages.length > 0);
  const grey = others()
    .filter(fair)
    .map((method) => ({ method, stages: climb(method.name, cost) }));
  const all = [...lines, ...grey].flatMap((one) => one.stages);
  if (all.length === 0) return fill(view.caption, "These runs have no such scores.");
  const best = state.judge === "gold" ? current().ceiling?.mean_utility : undefined;
  const y = padded([
    ...all.flatMap(({ worth }) => [worth.mean - (worth.half ?? 0), worth.mean + (worth.half ?? 0)]),
    ...(best === undefined ? [] : [best]),
  ]);
  const most = Math.max(...all.map((stage) => stage.x));
  const room = (7.2 * Math.max(0, ...lines.map(({ method }) => method.name.length)) + 30) / plotWidth(view);
  const wide = !narrow() && room < 0.4; // long names stand in the legend alone
  const traces = lines.map(({ method, stages }) =>
    trace(method, {
      x: stages.map((stage) => stage.x),
      y: stages.map((stage) => stage.worth.mean),
      error_y: bars(
        stages.map((stage) => stage.worth),
        method.colour,
      ),
      text: stages.map((stage) => plain(`${method.name}, ${stage.share} of the budget: ${written(stage.worth)}`)),
      hovertemplate: `%{text}<br>%{x:,.4~g} ${COSTS[cost]}<extra></extra>`,
    }),
  );
  const apart = grey.flatMap(({ method, stages }) => [...stages.map((stage) => ({ method, ...stage })), null]);
  if (grey.length > 0)
    traces.unshift(
      greyed(
        apart.map((one) => one?.x),
        apart.map((one) => one?.worth.mean),
        apart.map((one) => one?.method.name ?? ""),
        "lines",
      ),
    );
  const ends = lines.map(({ method, stages }) => ({ method, x: stages.at(-1).x, y: stages.at(-1).worth.mean }));
  const label = {
    x: 0,
    xref: "paper",
    xanchor: "left",
    y: best,
    yanchor: "bottom",
    showarrow: false,
    text: "ceiling: the best legal answers",
  };
  const said = {
    shown: lines.map((one) => one.method),
    description: `Utility against ${COSTS[cost]}. ${ends.map((end) => `${end.method.name} ends at ${number(end.y, 3)}`).join(", ")}.`,
    text:
      `Utility of the policies that would be deployed after each share of the budget, mean over the preferences, ${state.decoding} decoding. ` +
      "Marks are means and bars 95 % intervals over seeds. A method with one mark was graded at its end only.",
  };
  return show(view, said, traces, {
    xaxis: {
      title: { text: `${COSTS[cost]} (left is cheaper)` },
      range: [-0.03 * most, (1.05 * (most || 1)) / (wide ? 1 - room : 1)],
    },
    yaxis: { title: { text: `utility by ${judge().title} (up is better)` }, range: y },
    annotations: [
      ...(wide ? endLabels(ends, y, HEIGHT, 1.05 * (most || 1)) : []),
      ...(best === undefined ? [] : [label]),
    ],
    shapes:
      best === undefined
        ? []
        : [
            {
              type: "line",
              xref: "paper",
              x0: 0,
              x1: 1,
              y0: best,
              y1: best,
              line: { dash: "dash", color: "#777", width: 1.5 },
            },
          ],
  });
}

// Every method's utility at each share, with what was spent until then.
function ladderTable(cost) {
  if (!judge()) return null;
  const rows = methods()
    .map((method) => ({ method, stages: climb(method.name, cost) }))
    .filter((one) => one.stages.length > 0 && (judge().fair || !one.method.chooses));
  const shares = [...new Set(rows.flatMap((row) => row.stages.map((stage) => stage.share)))].sort((a, b) => a - b);
  const at = ({ stages }, share) => stages.find((stage) => stage.share === share);
  const body = rows.map((row) => [
    el("th", { scope: "row" }, named(row.method)),
    shares.flatMap((share) => {
      const stage = at(row, share);
      return [
        el("td", {}, stage ? number(stage.x, cost === "tflop" ? 3 : 0) : "–"),
        el("td", {}, written(stage?.worth)),
      ];
    }),
  ]);
  const titles = shares.flatMap((share) => [`${COSTS[cost]} at ${share} of the budget`, `utility at ${share}`]);
  const head = ["method", ...titles].map((title) => el("th", { scope: "col" }, title));
  const caption = `Utility by ${judge().title} after each share of the budget, ${state.decoding} decoding`;
  const rowsMade = body.map((cells) => el("tr", {}, cells));
  return scrolling(
    caption,
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rowsMade)),
  );
}
