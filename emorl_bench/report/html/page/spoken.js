// One explained answer: its words, and below them what is known of the word under the pointer or the focus.

const MOST_OF_IT = 0.5; // of a decision: an expert that has less of it did not decide alone

// The place of the expert with the largest share; -1 where none was for the word.
function sayer({ decided }) {
  return decided === null ? -1 : decided.indexOf(Math.max(...decided));
}

function record([text, margin, shares, decided, runnerUp, alone, agrees, pivotal]) {
  return { text, margin, shares, decided, runnerUp, alone, agrees, pivotal };
}

function drawSpoken(holder, draw) {
  const run = explainedRun();
  const found = run.answers[explaining.answer];
  if (!found) return fill(holder, note("The file has no answer."));
  const step = (by) => () => {
    explaining.answer += by;
    draw();
    document.getElementById(by < 0 ? "explained-previous" : "explained-next")?.focus();
  };
  const words = found.words.map(record);
  const details = el("div", { id: "word", "aria-live": "polite" });
  const last = run.answers.length - 1;
  fill(
    holder,
    el(
      "div",
      { class: "buttons" },
      el(
        "button",
        { type: "button", id: "explained-previous", disabled: explaining.answer === 0, onclick: step(-1) },
        "← previous",
      ),
      el(
        "button",
        { type: "button", id: "explained-next", disabled: explaining.answer === last, onclick: step(1) },
        "next →",
      ),
    ),
    el("h3", {}, "Prompt"),
    el("blockquote", {}, found.prompt),
    expertLegend(run),
    el("p", { class: "text words", id: "words" }, wordElements(run, words, details)),
    note(
      "A word has the colour, the letter and the line of the expert with the largest share of its decision. ",
      "Bold: without that expert, the others would have said another word. No background: no expert has half of the decision. ",
      "No letter: no expert was for it. Point at a word or go to it with Tab and the arrow keys to see the shares.",
    ),
    details,
  );
}

// One word is in the order of Tab; arrow keys go to the others. White space stands outside the words.
function wordElements(run, words, details) {
  const made = words.map((word, i) => {
    const [, space, core] = word.text.match(/^(\s*)([^]*)$/);
    const element = el(
      "span",
      {
        ...look(run, word),
        role: "button",
        tabindex: i === 0 ? "0" : "-1",
        "aria-label": core === "" ? "white space" : null,
        onmouseenter: () => point(i),
        onfocus: () => focused(i),
        onkeydown: (event) => move(event, i),
      },
      core,
    );
    return { space, element };
  });
  const point = (i) => {
    made.forEach(({ element }, j) => element.classList.toggle("pointed", i === j));
    drawWord(details, run, words[i]);
  };
  const focused = (i) => {
    made.forEach(({ element }, j) => element.setAttribute("tabindex", i === j ? "0" : "-1"));
    point(i);
  };
  const move = (event, i) => {
    const places = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: made.length - 1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    made[Math.min(Math.max(places[event.key], 0), made.length - 1)].element.focus();
  };
  if (made.length > 0) point(0);
  return made.flatMap(({ space, element }) => [space, element]);
}

function look(run, word) {
  const m = sayer(word);
  if (m < 0) return { class: "word" };
  const strong = word.pivotal[m] ? " pivotal" : "";
  const shared = word.decided[m] < MOST_OF_IT ? " shared" : "";
  return {
    class: `word said-by pattern-${m % 5}${strong}${shared}`,
    style: `--own: ${run.experts[m].colour}`,
    "data-letter": letter(m),
  };
}

function drawWord(holder, run, word) {
  const rows = run.experts.map((expert, m) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, `${letter(m)} ${expert.name}`),
      el("td", {}, number(expert.weight, 2)),
      el("td", {}, signed(word.shares[m])),
      el("td", {}, percent(word.decided?.[m])),
      el("td", {}, word.agrees[m] ? "the same" : quoted(word.alone[m])),
    ),
  );
  const head = ["expert", "weight", "share", "of the decision", "alone it says"];
  const header = head.map((text) => el("th", { scope: "col" }, text));
  const caption = `${quoted(word.text)} against ${quoted(word.runnerUp)}, the runner-up: margin ${number(word.margin, 2)} nats, the sum of the shares`;
  fill(
    holder,
    scrolling(
      "Shares of the word",
      el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, header)), el("tbody", {}, rows)),
    ),
  );
}

const quoted = (text) => `“${text.trim() === "" ? text.replace(/\n/g, "⏎").replace(/[^⏎]/g, "␣") : text.trim()}”`;
