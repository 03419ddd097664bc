// Tables that sort by any column, and the table of methods.

// columns: [{key, title, better}]; rows: [{pinned, cells: {key: {sort, node}}}]. The first column names the row.
// order: {by}, which outlives the table, so that a table drawn again keeps its order.
function sortable(caption, columns, rows, order) {
  const body = el("tbody");
  const header = columns.map((column) => {
    const button = el(
      "button",
      { type: "button", onclick: () => sort(column) },
      column.title,
      el("span", { class: "order", "aria-hidden": "true" }),
    );
    return el("th", { scope: "col", "data-key": column.key }, button);
  });
  function sort(column) {
    const first = column.better === "high" ? -1 : 1; // the best first; names from a to z
    order.by = { key: column.key, sign: order.by?.key === column.key ? -order.by.sign : first };
    arrange();
  }
  function arrange() {
    const { by } = order;
    const value = (row) => row.cells[by.key]?.sort ?? null;
    const compare = (a, b) => {
      if (value(a) === null || value(b) === null) return (value(a) === null) - (value(b) === null); // the unknown last
      return by.sign * (typeof value(a) === "string" ? value(a).localeCompare(value(b)) : value(a) - value(b));
    };
    const ordered = [
      ...rows.filter((row) => row.pinned),
      ...rows.filter((row) => !row.pinned).sort(by ? compare : () => 0),
    ];
    fill(
      body,
      ordered.map((row) => row.made),
    );
    columns.forEach((column, i) => {
      const sorted = by?.key === column.key;
      header[i].setAttribute("aria-sort", !sorted ? "none" : by.sign > 0 ? "ascending" : "descending");
      header[i].querySelector(".order").textContent = !sorted ? "" : by.sign > 0 ? " ▲" : " ▼";
    });
  }
  for (const row of rows) {
    const cells = columns.map(({ key }, i) =>
      el(i ? "td" : "th", i ? {} : { scope: "row" }, row.cells[key]?.node ?? "–"),
    );
    row.made = el("tr", { class: row.pinned && "pinned", "data-method": row.name }, cells);
  }
  arrange();
  return el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, header)), body);
}

function methodsTable() {
  const search = el("input", { type: "search", id: "methods-search", placeholder: "part of a name" });
  const groups = el("fieldset", { class: "groups" });
  const holder = el("div");
  const count = el("p", { class: "note", "aria-live": "polite" });
  const opened = new Set();
  const order = { by: null };
  const draw = () => {
    const { heads, ceiling, cells } = current().table;
    const shown = heads.filter((head) => opened.has(head.group) || (opened.has("") && head.opened));
    const rows = methods()
      .filter(
        (method) =>
          cells[state.decoding][method.name] && method.name.toLowerCase().includes(search.value.toLowerCase()),
      )
      .map((method) => ({ name: method.name, cells: methodCells(method, heads, cells[state.decoding][method.name]) }));
    count.textContent = `${rows.length} of ${methods().length} methods`;
    if (shown.some((head) => head.key in ceiling))
      rows.unshift({ pinned: true, name: "ceiling", cells: ceilingCells(heads, ceiling) });
    const columns = [
      { key: "method", title: "method", better: "" },
      { key: "seeds", title: "seeds", better: "high" },
      ...shown,
    ];
    const caption = `Methods on ${current().title}, ${state.decoding} decoding`;
    fill(holder, scrolling(caption, sortable(caption, columns, rows, order)));
  };
  const restart = () => {
    opened.clear();
    opened.add("");
    search.value = "";
    order.by = null;
    const boxes = ["", ...new Set(current().table.heads.map((head) => head.group))].map((group) => {
      const box = el("input", { type: "checkbox", checked: opened.has(group) });
      box.addEventListener("change", () => {
        opened[box.checked ? "add" : "delete"](group);
        draw();
      });
      return el("label", { class: "box" }, box, group || "the main ones");
    });
    fill(groups, el("legend", {}, "Columns"), boxes);
    draw();
  };
  search.addEventListener("input", draw);
  part(
    "methods",
    "Methods",
    el(
      "form",
      { class: "controls", onsubmit: (event) => event.preventDefault() },
      el("label", { class: "field" }, el("span", {}, "Find a method"), search),
      groups,
    ),
    count,
    holder,
    note(
      "Click a heading to sort. A number is the mean over seeds, ± the half-width of Student's 95 % interval; below three seeds no interval is shown. ",
      "† one policy answers every preference. ‡ chooses among its answers with the scorers: what is in brackets is not compared. ",
      "The order of rows is that of their means, and no claim.",
    ),
  );
  on("section", restart);
  on("choice", draw);
}

function methodCells(method, heads, cells) {
  const seeds = current().seeds[method.name] ?? [];
  const row = {
    method: { sort: method.name, node: named(method) },
    seeds: { sort: seeds.length, node: el("span", { title: `seeds ${seeds.join(", ")}` }, String(seeds.length)) },
  };
  heads.forEach((head, i) => {
    if (!cells[i]) return;
    const [mean, half, n, fair] = cells[i];
    const text = written({ mean, half, n }, head.digits);
    row[head.key] = { sort: fair ? mean : null, node: fair ? text : `(${text})` };
  });
  return row;
}

function ceilingCells(heads, ceiling) {
  const row = { method: { sort: null, node: el("em", {}, "ceiling") }, seeds: { sort: null, node: "" } };
  for (const head of heads) {
    row[head.key] = { sort: null, node: head.key in ceiling ? number(ceiling[head.key], head.digits) : "" };
  }
  return row;
}
