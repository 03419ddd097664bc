// What can be concluded, and what cannot, for every task of the report.

function conclusions() {
  const together = DATA.conclusion ? [{ title: "All tasks", conclusion: DATA.conclusion }] : [];
  const everything = [...together, ...DATA.sections].map(({ title, conclusion: { found, undecided } }) => {
    const sentences = (list) =>
      el(
        "ul",
        {},
        list.map((sentence) => el("li", {}, sentence)),
      );
    return el(
      "div",
      { class: "conclusion" },
      el("h3", {}, title),
      found.length > 0 ? sentences(found) : note("These runs do not show a difference between methods."),
      undecided.length > 0 &&
        el(
          "details",
          { open: undecided.length < 7 },
          el("summary", {}, "What these runs leave open"),
          sentences(undecided),
        ),
    );
  });
  part("conclusions", "What can be concluded", everything, Object.entries(DATA.overall).map(overall));
}

function overall([decoding, table]) {
  const [head, ...rest] = table.header;
  const rows = table.rows.map(([name, ...cells]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      cells.map((cell) => el("td", {}, cell)),
    ),
  );
  const header = el(
    "tr",
    {},
    el("th", { scope: "col" }, head),
    rest.map((title) => el("th", { scope: "col" }, title)),
  );
  const caption = `All tasks, ${decoding} decoding: normalised gold, 0 is base and 1 the best legal answers`;
  return scrolling(
    caption,
    el("table", {}, el("caption", {}, caption), el("thead", {}, header), el("tbody", {}, rows)),
  );
}
