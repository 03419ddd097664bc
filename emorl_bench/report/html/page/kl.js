// Reward against KL: how far a policy has moved from the base model for what it gained.

function klPoint(method) {
  const found = runsOf(method.name);
  const at = nearest(uniform());
  const kl = interval(found.map((run) => run.kl[at]));
  const reward = interval(found.map((run) => utility(uniform(), run.points[state.judge]?.[at])));
  return kl && reward ? [{ method, kl, reward }] : [];
}

function klPart() {
  const view = chart("reward-kl");
  const draw = () => drawKl(view);
  part("kl", "Reward against KL", view.figure);
  on("section", draw);
  on("choice", draw);
}

function drawKl(view) {
  if (!judge()) return;
  const fair = (method) => judge().fair || !method.chooses;
  const shown = drawn().filter(fair).flatMap(klPoint);
  const grey = others().filter(fair).flatMap(klPoint);
  const traces = shown.map(({ method, kl, reward }) =>
    trace(method, {
      x: [kl.mean],
      y: [reward.mean],
      error_x: bars([kl], method.colour),
      error_y: bars([reward], method.colour),
      mode: "markers",
      hovertemplate: `<b>${plain(method.name)}</b><br>reward ${written(reward)}<br>KL ${written(kl, 2)} nats a sequence<extra></extra>`,
    }),
  );
  if (grey.length > 0)
    traces.unshift(
      greyed(
        grey.map((one) => one.kl.mean),
        grey.map((one) => one.reward.mean),
        grey.map((one) => one.method.name),
      ),
    );
  const ends = (one) => [one.mean - (one.half ?? 0), one.mean + (one.half ?? 0)];
  const x = padded([...shown.flatMap((one) => ends(one.kl)), ...grey.map((one) => one.kl.mean), 0]);
  const y = padded([
    ...shown.flatMap((one) => ends(one.reward)),
    ...grey.map((one) => one.reward.mean),
    ...(shown.length > 0 ? [] : [0]),
  ]);
  const places = shown.map(({ method, kl, reward }) => ({ method, x: kl.mean, y: reward.mean }));
  traces.unshift(
    ...Object.entries(current().frontiers)
      .map(([family, rows]) => frontier(family, rows))
      .filter(Boolean),
  );
  const said = {
    shown: shown.map((one) => one.method),
    description: `Reward by ${judge().title} against KL. ${shown.map((one) => `${one.method.name}: reward ${written(one.reward)} at KL ${written(one.kl, 2)}`).join("; ")}.`,
    text:
      `Mean reward at the uniform preference, ${state.decoding} decoding, against KL, which is measured on sampled answers. Bars are 95 % intervals over seeds. ` +
      "A line joins the runs of one method that differ in the KL coefficient only. At equal KL, higher is better.",
  };
  show(view, said, traces, {
    xaxis: { title: { text: "KL to the base model, nats a sequence" }, range: x },
    yaxis: { title: { text: `mean reward by ${judge().title} (up is better)` }, range: y },
    annotations: sideLabels(places, x, y, plotWidth(view), 380),
  });
}

function frontier(family, rows) {
  const members = methods()
    .filter((method) => rows.includes(method.name))
    .flatMap(klPoint)
    .sort((a, b) => a.kl.mean - b.kl.mean);
  if (members.length < 2) return null;
  return {
    x: members.map((one) => one.kl.mean),
    y: members.map((one) => one.reward.mean),
    name: plain(`${family}, by KL coefficient`),
    mode: "lines",
    line: { color: members[0].method.colour, width: 1.5, dash: "dot" },
    hoverinfo: "skip",
  };
}
