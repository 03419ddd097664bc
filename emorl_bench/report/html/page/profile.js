// Performance profiles: for every threshold, the share of a method's runs whose utility is above it.

const FEWEST_RUNS = 5; // fewer runs give steps that no eye should compare

// The utilities of a method's whole runs, ascending.
const utilities = (name) =>
  runsOf(name)
    .map((run) => run.stages.at(-1)?.utility[state.judge])
    .filter(Number.isFinite)
    .sort((a, b) => a - b);

function profilePart() {
  const view = chart("profile-plot");
  const holder = el("div");
  const draw = () => drawProfile(view, holder);
  part("profile", "How often a run is good", holder);
  on("section", draw);
  on("choice", draw);
}

function drawProfile(view, holder) {
  const fair = (method) => judge()?.fair || !method.chooses;
  const known = methods()
    .filter(fair)
    .map((method) => ({ method, worth: utilities(method.name) }))
    .filter(({ worth }) => worth.length >= FEWEST_RUNS);
  if (!judge() || known.length === 0) {
    fill(holder, note(`A profile needs ${FEWEST_RUNS} runs of a method, and no method has as many.`));
    return;
  }
  fill(holder, view.figure);
  const range = padded(known.flatMap(({ worth }) => worth));
  const steps = (worth) => ({
    x: [range[0], ...worth, range[1]],
    y: [1, ...worth.map((_, i) => (worth.length - 1 - i) / worth.length), 0],
  });
  const shown = known.filter(({ method }) => state.drawn.has(method.name));
  const grey = known
    .filter(({ method }) => !state.drawn.has(method.name))
    .map(({ method, worth }) => ({ method, ...steps(worth) }));
  const traces = shown.map(({ method, worth }) =>
    trace(method, {
      ...steps(worth),
      marker: { size: 8 },
      line: { shape: "hv" },
      hovertemplate: `${plain(method.name)}<br>%{y:.0%} of runs above %{x:.3f}<extra></extra>`,
    }),
  );
  if (grey.length > 0) {
    const apart = (key) => grey.flatMap((one) => [...one[key], null]);
    const names = grey.flatMap(({ method, x }) => [...x.map(() => method.name), ""]);
    const pale = greyed(apart("x"), apart("y"), names, "lines");
    traces.unshift({ ...pale, line: { ...pale.line, shape: "hv" } });
  }
  const half = (worth) => number(worth[Math.floor(worth.length / 2)], 3);
  const said = {
    shown: shown.map((one) => one.method),
    description: `Share of runs above each utility by ${judge().title}. ${shown.map(({ method, worth }) => `Half of the runs of ${method.name} reach ${half(worth)}`).join("; ")}.`,
    text:
      `For each threshold, the share of a method's runs whose utility is above it, ${state.decoding} decoding. A curve that lies above another one everywhere is better at every ` +
      "threshold. A step is one run; report.md has bands.",
  };
  show(view, said, traces, {
    xaxis: { title: { text: `threshold of the utility by ${judge().title}` }, range },
    yaxis: { title: { text: "share of runs above it (up is better)" }, range: [-0.02, 1.02], tickformat: ".0%" },
  });
}
