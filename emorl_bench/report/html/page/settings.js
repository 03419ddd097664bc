// How the numbers came about: settings of each row, commands, machine and commit, and the runs that failed.

function keyValues(caption, record) {
  const rows = Object.entries(record).map(([key, value]) =>
    el("tr", {}, el("th", { scope: "row" }, key), el("td", { class: "value" }, value)),
  );
  return scrolling(
    caption,
    el("table", { class: "keys" }, el("caption", { class: "hidden" }, caption), el("tbody", {}, rows)),
  );
}

function settingsPart() {
  const holder = el("div");
  part(
    "settings",
    "Settings of each row",
    note("Keys are those of the command line. Keys that all rows share are listed once."),
    holder,
  );
  on("section", () => {
    const { shared, by_method: own } = current().settings;
    if (Object.keys(own).length === 0) return fill(holder, note("These runs did not record their settings."));
    const fold = (summary, caption, record) =>
      el("details", {}, el("summary", {}, summary), keyValues(caption, record));
    const rows = methods()
      .filter((method) => own[method.name])
      .map((method) => fold(named(method), `Settings of ${method.name}`, own[method.name]));
    return fill(
      holder,
      Object.keys(shared).length > 0 && fold("What all rows share", "Settings that all rows share", shared),
      rows,
    );
  });
}

function originPart() {
  const holder = el("div");
  part("origin", "Commands, machine and commit", holder);
  on("section", () => {
    const { record, commands } = current().origin;
    const text = (value) =>
      typeof value === "string"
        ? value
        : Object.entries(value)
            .map(([key, one]) => `${key} ${one}`)
            .join(", ");
    const several = (values) => (values ?? []).map((value) => el("li", {}, el("code", {}, text(value))));
    const lists = Object.entries({
      Commits: record.commits,
      "Embedded assets": record.assets,
      Python: record.python,
      Machines: record.machines,
      Versions: record.versions,
    });
    fill(
      holder,
      el("h3", {}, "Commands"),
      commands.length > 0
        ? el(
            "ul",
            {},
            commands.map(([command, count]) =>
              el("li", {}, el("code", {}, command), ` (${count} run${count === 1 ? "" : "s"})`),
            ),
          )
        : note("Not recorded."),
      lists.flatMap(([title, values]) =>
        values?.length > 0 ? [el("h3", {}, title), el("ul", {}, several(values))] : [],
      ),
      el("h3", {}, "Fingerprint"),
      el("p", {}, el("code", {}, record.fingerprint)),
    );
  });
}

function failedPart() {
  const rows = DATA.failed.map(([dir, stage, reason]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, dir),
      el("td", { class: "value" }, stage),
      el("td", { class: "value" }, reason),
    ),
  );
  const header = el(
    "tr",
    {},
    ["run", "state", "reason"].map((title) => el("th", { scope: "col" }, title)),
  );
  const caption = "Runs that are in no table";
  const table = el(
    "table",
    { class: "keys" },
    el("caption", { class: "hidden" }, caption),
    el("thead", {}, header),
    el("tbody", {}, rows),
  );
  part("failed", "Runs that failed or did not finish", rows.length > 0 ? scrolling(caption, table) : note("None."));
}
