// The samples browser: one prompt, the answers of two to four methods side by side, each with its scores.

const PLACES = 4; // methods side by side
const LISTED = 200; // prompts in the list at once
const ORDERS = {
  report: "order of the report",
  gap: "largest gap first",
  low: "lowest score first",
  apart: "largest difference between methods first",
};

const browser = { methods: [], preference: 0, order: "report", search: "", apart: false, prompt: 0 };

// The judge that scorers are compared with: gold, or else the held-out scorers.
function truth() {
  return current().judges.find((one) => one.key === "gold") ?? current().judges.find((one) => one.key === "held_out");
}

// The answer of a method to the prompt in place i: {text, scores: {set: [K]}}; null where it is not in the page.
function answer(name, i) {
  const { answers, policies, pool } = current().samples;
  const found = answers[state.decoding]?.[name]?.[policies[name]?.[browser.preference]];
  if (!found || found.texts[i] < 0) return null;
  const scores = Object.entries(found.scores).map(([set, rows]) => [
    set,
    rows[i]?.map((score) => (score === null ? null : score / SCALE)),
  ]);
  return { text: pool[found.texts[i]], scores: Object.fromEntries(scores) };
}

function gapOf(found) {
  const weights = current().preferences[browser.preference];
  const [ours, theirs] = [
    utility(weights, found?.scores.objectives),
    utility(weights, truth() && found?.scores[truth().key]),
  ];
  return ours === null || theirs === null ? null : ours - theirs;
}

// One record for each prompt: its place and what the list is ordered by.
function promptRecords() {
  const weights = current().preferences[browser.preference];
  const largest = (values) =>
    values.filter((value) => value !== null).reduce((a, b) => (a === null || b > a ? b : a), null);
  return current().samples.prompts.map((text, i) => {
    const found = browser.methods.map((name) => answer(name, i));
    const worth = found
      .map((one) => utility(weights, one?.scores[truth()?.key ?? "objectives"]))
      .filter((value) => value !== null);
    return {
      i,
      text,
      gap: largest(found.map(gapOf)),
      low: worth.length > 0 ? -Math.min(...worth) : null,
      apart: worth.length > 1 ? Math.max(...worth) - Math.min(...worth) : null,
      differ: new Set(found.filter(Boolean).map((one) => one.text)).size > 1,
      searched: [text, ...found.map((one) => one?.text ?? "")].join("\n").toLowerCase(),
    };
  });
}

function listedPrompts() {
  const kept = promptRecords().filter(
    (one) => one.searched.includes(browser.search.toLowerCase()) && (!browser.apart || one.differ),
  );
  if (browser.order === "report") return kept;
  const value = (one) => one[browser.order] ?? -Infinity;
  return kept.sort((a, b) => value(b) - value(a) || a.i - b.i);
}

function answersPart() {
  const controls = el("form", {
    class: "controls",
    id: "answers-controls",
    onsubmit: (event) => event.preventDefault(),
  });
  const intro = el("p", { class: "note" });
  const list = el("div", { class: "prompts" });
  const shown = el("div", { class: "answer", id: "answer" });
  part("answers", "Answers side by side", intro, controls, el("div", { class: "browser" }, list, shown));
  const draw = () => {
    if (!current().samples) return;
    const prompts = listedPrompts();
    if (!prompts.some((one) => one.i === browser.prompt)) browser.prompt = prompts[0]?.i ?? -1;
    drawList(list, prompts, draw);
    drawAnswers(shown, prompts, draw);
  };
  const restart = () => {
    const { samples, reference } = current();
    controls.hidden = !samples;
    if (!samples) {
      fill(intro, "These runs recorded no answers.");
      fill(list);
      fill(shown);
      return;
    }
    const known = methods()
      .map((one) => one.name)
      .filter((name) => name in samples.policies);
    const first = [reference, ...known].filter((name, i, all) => known.includes(name) && all.indexOf(name) === i);
    Object.assign(browser, {
      methods: first.slice(0, 2),
      preference: samples.preferences[0],
      order: "report",
      search: "",
      apart: false,
      prompt: 0,
    });
    fill(intro, aboutSamples(samples));
    drawControls(controls, known, draw);
    draw();
  };
  on("section", restart);
  on("choice", draw);
}

function aboutSamples(samples) {
  const seeds = [...new Set(Object.values(samples.seeds))];
  const which = seeds.length === 1 ? `of seed ${seeds[0]}` : "of one seed for each method";
  const sample =
    samples.prompts.length < samples.of_prompts
      ? `, spread evenly over the ${samples.of_prompts} that were answered`
      : "";
  const preferences =
    samples.preferences.length < current().preferences.length
      ? ` and ${samples.preferences.length} of ${current().preferences.length} preferences`
      : "";
  return `The page holds the first answer ${which} to ${samples.prompts.length} prompts${sample}${preferences}, the same for all methods. All answers are in samples.jsonl of each run.`;
}

function drawControls(controls, known, draw) {
  const changed =
    (key, make = (value) => value) =>
    (value) => {
      browser[key] = make(value);
      draw();
    };
  const pickers = Array.from({ length: PLACES }, (_, place) => {
    const options = [...(place < 2 ? [] : [["", "–"]]), ...known.map((name) => [name, name])];
    return picker(
      `Method ${place + 1}`,
      options,
      browser.methods[place] ?? "",
      () => {
        browser.methods = pickers.map((one) => one.querySelector("select").value).filter((name) => name !== "");
        draw();
      },
      { id: `method-${place + 1}` },
    );
  });
  const { preferences, samples } = current();
  const arrange = (value) => {
    order.querySelector("select").value = value;
    browser.prompt = -1; // the first one of this order
    changed("order")(value);
  };
  const preference = picker(
    "Preference",
    samples.preferences.map((w) => [w, preferenceName(preferences[w])]),
    browser.preference,
    changed("preference", Number),
    { id: "answers-preference" },
  );
  const order = picker("Order", Object.entries(ORDERS), browser.order, arrange, { id: "answers-order" });
  const search = el("input", { type: "search", id: "answers-search", placeholder: "words of a prompt or an answer" });
  search.addEventListener("input", () => changed("search")(search.value));
  const differ = el("input", { type: "checkbox", id: "answers-differ" });
  differ.addEventListener("change", () => changed("apart")(differ.checked));
  const gap =
    truth() &&
    el(
      "button",
      { type: "button", id: "largest-gap", onclick: () => arrange("gap") },
      `Largest scorer–${truth().title.replace(" scorers", "")} gap first`,
    );
  fill(
    controls,
    gap,
    pickers,
    preference,
    order,
    el("label", { class: "field" }, el("span", {}, "Search"), search),
    el("label", { class: "box" }, differ, "only where answers differ"),
  );
}

function drawList(holder, prompts, draw) {
  const entries = prompts.slice(0, LISTED).map(({ i, text, gap }) => {
    const chosen = i === browser.prompt;
    const open = () => {
      browser.prompt = i;
      draw();
      holder.querySelector("[aria-current]")?.focus();
    };
    const label = gap === null ? text : [el("span", { class: "gap" }, `gap ${signed(gap)} `), text];
    return el(
      "li",
      {},
      el("button", { type: "button", "aria-current": chosen ? "true" : null, "data-prompt": i, onclick: open }, label),
    );
  });
  const top = holder.querySelector("ol")?.scrollTop ?? 0;
  const count = `${prompts.length} of ${current().samples.prompts.length} prompts${prompts.length > LISTED ? `, the first ${LISTED} of them here` : ""}`;
  const made = el("ol", { "aria-label": "Prompts", tabindex: "0" }, entries);
  fill(holder, el("p", { class: "note", "aria-live": "polite", id: "answers-count" }, count), made);
  made.scrollTop = top;
}

function signed(value) {
  const size = Math.abs(value).toFixed(2);
  return `${size === "0.00" ? "" : value < 0 ? "−" : "+"}${size}`;
}

function drawAnswers(holder, prompts, draw) {
  const place = prompts.findIndex((one) => one.i === browser.prompt);
  if (place < 0) return fill(holder, note("No prompt has these words."));
  const step = (by) => () => {
    browser.prompt = prompts[place + by].i;
    draw();
    document.getElementById(by < 0 ? "previous" : "next")?.focus();
  };
  const found = browser.methods.map((name) => answer(name, browser.prompt));
  return fill(
    holder,
    el(
      "div",
      { class: "buttons" },
      el("button", { type: "button", id: "previous", disabled: place === 0, onclick: step(-1) }, "← previous"),
      el("button", { type: "button", id: "next", disabled: place === prompts.length - 1, onclick: step(1) }, "next →"),
      el("span", { class: "note" }, `${place + 1} of ${prompts.length}`),
    ),
    el("h3", {}, "Prompt"),
    el("blockquote", {}, prompts[place].text),
    el(
      "div",
      { class: "cards" },
      browser.methods.map((name, k) => card(name, found[k], k > 0 ? found[0] : found.length === 2 ? found[1] : null)),
    ),
    browser.methods.length > 1 &&
      note(
        `Words that ${browser.methods.length === 2 ? "the other answer does" : `the answer of ${browser.methods[0]} does`} not have are marked. A gap of ${WIDE_GAP} or more is marked with ▲ or ▼.`,
      ),
  );
}
