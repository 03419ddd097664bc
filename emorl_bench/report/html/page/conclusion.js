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
  const title = `All tasks, ${decoding} decoding: normalised gold, 0 is base and 1 the best legal answers`;
  return plainTable(title, table);
}
