// One marker for each method: the same in tables, charts and legends, so that colour is never needed to tell methods apart.

const MARKERS = {
  // matplotlib's letter: [plotly's name, character, outline in a box of 20]
  o: ["circle", "●", "M10 2a8 8 0 1 0 .01 0z"],
  s: ["square", "■", "M3 3h14v14H3z"],
  "^": ["triangle-up", "▲", "M10 2l8.5 15h-17z"],
  D: ["diamond", "◆", "M10 1l9 9-9 9-9-9z"],
  v: ["triangle-down", "▼", "M10 18l8.5-15h-17z"],
  P: ["cross", "✚", "M7 2h6v5h5v6h-5v5H7v-5H2V7h5z"],
  X: ["x", "✖", "M5.5 1.5L10 6l4.5-4.5 4 4L14 10l4.5 4.5-4 4L10 14l-4.5 4.5-4-4L6 10 1.5 5.5z"],
  "<": ["triangle-left", "◀", "M2 10l15-8.5v17z"],
  ">": ["triangle-right", "▶", "M18 10L3 1.5v17z"],
  h: ["hexagon", "⬢", "M10 1l8 4.5v9L10 19l-8-4.5v-9z"],
  "*": ["star", "★", "M10 1l2.7 6.2 6.8.6-5.1 4.5 1.5 6.6L10 15.4l-5.9 3.5 1.5-6.6L.5 7.8l6.8-.6z"],
};

const marker = (method) => MARKERS[method.marker] ?? MARKERS.o;
const symbol = (method) => marker(method)[0];
const character = (method) => marker(method)[1];

function glyph(method) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  const outline = document.createElementNS(space, "path");
  for (const [name, value] of Object.entries({ viewBox: "0 0 20 20", class: "glyph", "aria-hidden": "true" }))
    drawing.setAttribute(name, value);
  outline.setAttribute("d", marker(method)[2]);
  outline.setAttribute("fill", method.colour);
  drawing.append(outline);
  return drawing;
}

// The method's name with its marker and its marks.
function named(method) {
  const marks = (method.single_point ? " †" : "") + (method.chooses ? " ‡" : "");
  return el("span", { class: "method" }, glyph(method), `${method.name}${marks}`);
}
