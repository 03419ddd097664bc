// Two objectives of all policies: a mark for each graded preference, and a ring on the policy for the preference asked for.

function points(name) {
  return current().preferences.map((weights, w) => {
    const scores = runsOf(name)
      .map((run) => run.points[state.judge]?.[w])
      .filter(Boolean);
    const means = current().objectives.map((_, k) => interval(scores.map((one) => one[k]))?.mean ?? null);
    return { w, weights, means, worth: interval(scores.map((one) => utility(weights, one))) };
  });
}

// The points that no other point of the method beats in both objectives, from left to right.
function undominated(found, { x, y }) {
  const beats = (a, b) =>
    a.means[x] >= b.means[x] && a.means[y] >= b.means[y] && (a.means[x] > b.means[x] || a.means[y] > b.means[y]);
  return found
    .filter((one) => !found.some((other) => beats(other, one)))
    .sort((a, b) => a.means[x] - b.means[x] || b.means[y] - a.means[y]);
}

function drawFronts(view, axes) {
  const { objectives } = current();
  if (objectives.length < 2 || !judge()) return;
  const complete = (name) => points(name).filter((one) => one.means[axes.x] !== null && one.means[axes.y] !== null);
  const traces = [];
  const grey = others().flatMap((method) => complete(method.name).map((one) => ({ method, ...one })));
  if (grey.length > 0)
    traces.push(
      greyed(
        grey.map((one) => one.means[axes.x]),
        grey.map((one) => one.means[axes.y]),
        grey.map((one) => one.method.name),
      ),
    );
  const ceiling = state.judge === "gold" && current().ceiling?.objectives;
  if (ceiling) traces.push(ceilingTrace(ceiling, axes));
  for (const method of drawn()) traces.push(...frontOf(method, complete(method.name), axes));
  traces.push(ring(complete, axes));
  const said = {
    shown: drawn(),
    description: `${objectives[axes.y]} against ${objectives[axes.x]}, by ${judge().title}, for ${drawn()
      .map((one) => one.name)
      .join(", ")}. The table above has the scores for your preference.`,
    text:
      `One mark for each graded preference, mean over seeds, by ${judge().title}, ${state.decoding} decoding. A line joins a method's points that none of ` +
      "its points beats in both objectives; the others are faint. Rings are the policies for your preference." +
      (ceiling ? " The dashed line joins the best legal answers for the preferences." : ""),
  };
  show(view, said, traces, {
    height: narrow() ? 400 : 540,
    xaxis: { title: { text: `${plain(objectives[axes.x])} (right is better)` } },
    yaxis: { title: { text: `${plain(objectives[axes.y])} (up is better)` } },
  });
}

function frontOf(method, found, axes) {
  const best = undominated(found, axes);
  const common = { legendgroup: method.name, hovertemplate: "%{text}<extra></extra>" };
  const given = (list) => ({
    x: list.map((one) => one.means[axes.x]),
    y: list.map((one) => one.means[axes.y]),
    text: list.map((one) => told(method, one)),
  });
  const faint = found.filter((one) => !best.includes(one));
  return [
    trace(method, {
      ...common,
      ...given(faint),
      mode: "markers",
      showlegend: false,
      marker: { opacity: 0.35, size: 8 },
    }),
    trace(method, { ...common, ...given(best), mode: best.length > 1 ? "lines+markers" : "markers" }),
  ];
}

function told(method, { weights, means, worth }) {
  const scores = current().objectives.map((name, k) => `${name} ${means[k] === null ? "–" : number(means[k], 3)}`);
  return [
    `<b>${plain(method.name)}</b> for ${plain(preferenceName(weights))}`,
    ...scores.map(plain),
    `utility ${written(worth)}`,
  ].join("<br>");
}

function ceilingTrace(best, axes) {
  const ordered = best.map((scores) => ({ means: scores }));
  const line = undominated(ordered, axes);
  return {
    x: line.map((one) => one.means[axes.x]),
    y: line.map((one) => one.means[axes.y]),
    name: "ceiling",
    mode: "lines",
    line: { dash: "dash", color: "#777", width: 1.5 },
    hovertemplate: "the best legal answers<extra></extra>",
  };
}

function ring(complete, axes) {
  const at = nearest(state.weights);
  const chosen = drawn().flatMap((method) =>
    complete(method.name)
      .filter((one) => one.w === at)
      .map((one) => ({ method, ...one })),
  );
  return {
    x: chosen.map((one) => one.means[axes.x]),
    y: chosen.map((one) => one.means[axes.y]),
    text: chosen.map((one) => told(one.method, one)),
    name: "for your preference",
    mode: "markers",
    marker: { symbol: "circle-open", size: 19, color: INK, line: { width: 2 } },
    hovertemplate: "%{text}<extra></extra>",
  };
}
