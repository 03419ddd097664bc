// What a paper has published, beside these runs; only where --published asked for it.

function publishedPart() {
  if (!DATA.sections.some((section) => section.published)) return;
  const holder = el("div");
  part("published", "Published figures", holder);
  on("section", () => {
    const { words, warning, table } = current().published;
    const caption = "Published figures, not run here";
    fill(holder, warning && el("p", {}, el("strong", {}, warning)), note(words), table && plainTable(caption, table));
  });
}
