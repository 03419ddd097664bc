// The order of the page, from what can be concluded to how it came about.

function lead() {
  const runs = DATA.sections.reduce(
    (sum, section) => sum + Object.values(section.seeds).reduce((all, seeds) => all + seeds.length, 0),
    0,
  );
  const names = new Set(DATA.sections.flatMap((section) => section.methods.map((one) => one.name)));
  const references = [...new Set(DATA.sections.map((one) => one.reference).filter(Boolean))];
  document.getElementById("lead").textContent =
    `${runs} run${runs === 1 ? "" : "s"} of ${names.size} method${names.size === 1 ? "" : "s"} on ${DATA.sections.map((one) => one.title).join(" and ")}. ` +
    `Read from ${DATA.root}.${references.length > 0 ? ` The others are compared with ${references.join(" and ")}.` : ""}`;
}

lead();
conclusions();
methodsTable();
ladderPart();
profilePart();
preferencePart();
changePart();
klPart();
answersPart();
explainedPart();
publishedPart();
settingsPart();
originPart();
failedPart();
on("section", drawChoice);
openSection(0);
tell("section");

// Charts keep their width on paper, and follow the window otherwise.
let width = document.getElementById("content").clientWidth;
window.addEventListener("resize", () => {
  const now = document.getElementById("content").clientWidth;
  if (now !== width) tell("choice");
  width = now;
});
for (const [event, printing] of [
  ["beforeprint", true],
  ["afterprint", false],
]) {
  window.addEventListener(event, () => {
    paper = printing;
    tell("choice");
  });
}
