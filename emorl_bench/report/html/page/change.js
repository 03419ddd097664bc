// What change costs: the first answer to a preference, each further preference, one more objective.

const CHANGES = {
  first_preference: "first preference",
  next_preference: "next preference",
  next_objective: "next objective",
};
const UNITS = { prompts: "prompts", tflop: "TFLOP" };

function changePart() {
  const holder = el("div");
  const controls = el("form", { class: "controls" });
  const order = { by: null };
  let unit = "prompts";
  const draw = () => {
    fill(
      controls,
      picker(
        "Cost in",
        Object.entries(UNITS),
        unit,
        (value) => {
          unit = value;
          draw();
        },
        { id: "change-unit" },
      ),
    );
    const rows = changeRows(unit);
    const columns = [
      { key: "method", title: "method", better: "" },
      ...Object.entries(CHANGES).map(([key, title]) => ({ key, title: `${title} (${UNITS[unit]})`, better: "low" })),
    ];
    const caption = `What change costs on ${current().title}`;
    fill(
      holder,
      rows.length > 0
        ? scrolling(caption, sortable(caption, columns, rows, order))
        : note("These runs did not record what change costs."),
    );
  };
  part(
    "change",
    "What change costs",
    controls,
    holder,
    note(
      "The cost of the first answer to a preference, of the answer to one more preference, and of one more objective. ",
      "Nothing where a method answers it with what it has.",
    ),
  );
  on("section", draw);
  on("choice", draw);
}

function changeRows(unit) {
  const { heads, cells } = current().table;
  const places = Object.keys(CHANGES).map((what) => [what, heads.findIndex((head) => head.key === `${what}_${unit}`)]);
  const known = methods().filter((method) => places.some(([, i]) => cells[state.decoding][method.name]?.[i]));
  const most = Math.max(
    ...known.flatMap((method) => places.map(([, i]) => cells[state.decoding][method.name][i]?.[0] ?? 0)),
    1e-12,
  );
  return known.map((method) => {
    const row = { method: { sort: method.name, node: named(method) } };
    for (const [what, i] of places) {
      const cell = cells[state.decoding][method.name][i];
      if (!cell) continue;
      const bar = barOf({ mean: cell[0], half: null }, 0, most, method.colour);
      row[what] = {
        sort: cell[0],
        node: el("span", { class: "with-bar" }, el("span", {}, number(cell[0], unit === "prompts" ? 0 : 3)), bar),
      };
    }
    return { name: method.name, cells: row };
  });
}
