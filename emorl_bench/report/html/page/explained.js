// Which expert said each word: one answer at a time, and the totals over all answers that were explained.

const LABEL_LENGTH = 80; // characters of a prompt in the list

const explaining = { run: 0, answer: 0 };
const letter = (m) => String.fromCharCode(65 + (m % 26)); // tells experts apart without colour
const percent = (part) => (part === null || part === undefined ? "–" : `${number(100 * part, 0)} %`);

function explainedPart() {
  if (DATA.explained.length === 0) return;
  const controls = el("form", { class: "controls", onsubmit: (event) => event.preventDefault() });
  const shown = el("div", { class: "spoken", id: "spoken" });
  const totals = el("div", { id: "explained-totals" });
  part("explained", "Which expert said this word", controls, shown, totals);
  const draw = () => {
    drawExplainedControls(controls, draw);
    drawSpoken(shown, draw);
    drawTotals(totals);
  };
  draw();
}

const explainedRun = () => DATA.explained[explaining.run];

function drawExplainedControls(controls, draw) {
  const choose = (change) => (value) => {
    Object.assign(explaining, change(Number(value)));
    const id = document.activeElement?.id;
    draw();
    if (id) document.getElementById(id)?.focus();
  };
  const names = DATA.explained.map((run, i) => [i, `${run.run} for ${preferenceName(Object.values(run.asked))}`]);
  const prompts = explainedRun().answers.map(({ place, prompt }, i) => {
    const short = prompt.length > LABEL_LENGTH ? `${prompt.slice(0, LABEL_LENGTH)}…` : prompt;
    return [i, `${place + 1}. ${short}`];
  });
  fill(
    controls,
    picker("Run and preference", names, explaining.run, choose((run) => ({ run, answer: 0 })), { id: "explained-run" }),
    prompts.length > 0 &&
      picker("Prompt", prompts, explaining.answer, choose((answer) => ({ answer })), { id: "explained-prompt" }),
  );
}

// The experts with letter, pattern and the weights that the blend gives them.
function expertLegend(run) {
  const entries = run.experts.map((expert, m) =>
    el(
      "li",
      {},
      el(
        "span",
        { class: `said-by pattern-${m % 5}`, style: `--own: ${expert.colour}`, "data-letter": letter(m) },
        expert.name,
      ),
      ` weight ${number(expert.weight, 2)}`,
    ),
  );
  return el("ul", { class: "legend", "aria-label": "Experts of the blend, with their weights" }, entries);
}

function drawTotals(holder) {
  const { experts, totals, answers, count, file, title } = explainedRun();
  const columns = [
    ["asked", (expert) => (expert.asked === null ? "–" : number(expert.asked, 2))],
    ["weight", (expert) => number(expert.weight, 2)],
    ...[
      ["decided", "decided"],
      ["of margins", "margin"],
      ["needed", "pivotal"],
      ["agrees", "agrees"],
    ].map(([heading, key]) => [heading, (_, m) => percent(totals.parts[key]?.[m])]),
  ];
  const rows = experts.map((expert, m) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, `${letter(m)} ${expert.name}`),
      columns.map(([, value]) => el("td", {}, value(expert, m))),
    ),
  );
  const head = ["expert", ...columns.map(([heading]) => heading)].map((text) => el("th", { scope: "col" }, text));
  const caption =
    `All ${number(count, 0)} answers in ${file}: ${number(totals.tokens, 0)} tokens. ` +
    `Of ${percent(totals.disputed)} of them, some expert alone would have said another.`;
  const left =
    answers.length < count ? ` ${answers.length} of the answers are in the page; the totals are over all.` : "";
  fill(
    holder,
    el("h3", {}, "How much of the answers each expert decided"),
    scrolling(
      "Totals of the experts",
      el("table", {}, el("caption", {}, caption + left), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)),
    ),
    note(
      "asked: the weight of the expert's objective in the preference. weight: that of the expert in the blend. ",
      "decided: shares above 0, scaled to sum 1 at each word, averaged over words. of margins: part of the sum of all margins; below 0 for an expert that was mostly against. ",
      "needed: words that the others would not have said. agrees: words that the expert alone would have said.",
    ),
    note(title === null ? "This run is not among the runs of this report." : `The run is one of ${title}.`),
  );
}
