// What the whole page shows: task, decoding, who judges, and which methods are drawn in colour.

function openSection(index) {
  state.section = index;
  const section = current();
  state.decoding = section.decodings.includes(state.decoding) ? state.decoding : section.decodings[0];
  state.judge = section.judges.some((one) => one.key === state.judge) ? state.judge : (section.judges[0]?.key ?? "");
  state.drawn = new Set(section.drawn);
  state.weights = uniform();
}

function drawChoice() {
  const section = current();
  const changed = (key) => (value) => {
    state[key] = value;
    tell("choice");
  };
  const tasks = DATA.sections.map((one, index) => [index, one.title]);
  const task = picker(
    "Task and model",
    tasks,
    state.section,
    (value) => {
      openSection(Number(value));
      tell("section");
    },
    { id: "task" },
  );
  const decodings = section.decodings.map((name) => [name, name]);
  const judges = section.judges.map((one) => [one.key, one.title]);
  fill(
    document.getElementById("choice"),
    task,
    picker("Decoding", decodings, state.decoding, changed("decoding"), { id: "decoding" }),
    judges.length > 0 && picker("Judged by", judges, state.judge, changed("judge"), { id: "judge" }),
    methodPicker(),
  );
}

function methodPicker() {
  const summary = el("summary", {}, `Methods in colour: ${state.drawn.size} of ${methods().length}`);
  const boxes = methods().map((method) => {
    const box = el("input", { type: "checkbox", checked: state.drawn.has(method.name) });
    box.addEventListener("change", () => {
      if (box.checked) state.drawn.add(method.name);
      else state.drawn.delete(method.name);
      summary.textContent = `Methods in colour: ${state.drawn.size} of ${methods().length}`;
      tell("choice");
    });
    return el("label", { class: "box" }, box, named(method));
  });
  const set = (names) => {
    state.drawn = new Set(names);
    const fresh = methodPicker();
    fresh.open = true;
    details.replaceWith(fresh);
    tell("choice");
  };
  const everyone = methods().map((one) => one.name);
  const details = el(
    "details",
    { id: "drawn" },
    summary,
    el(
      "div",
      { class: "buttons" },
      el("button", { type: "button", onclick: () => set(current().drawn) }, "the usual ones"),
      el("button", { type: "button", onclick: () => set(everyone) }, "all"),
      el("button", { type: "button", onclick: () => set([]) }, "none"),
    ),
    el("div", { class: "boxes" }, boxes),
  );
  return details;
}
