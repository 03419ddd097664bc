// Building elements. Text from models and data goes through textContent alone, so it can never become markup.

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function fill(holder, ...children) {
  holder.replaceChildren(...children.flat(Infinity).filter(Boolean));
}

// A part of the page with its heading; the navigation links to it.
function part(id, title, ...children) {
  document.getElementById("parts").append(el("li", {}, el("a", { href: `#${id}` }, title)));
  const made = el(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title),
    children,
  );
  document.getElementById("content").append(made);
  return made;
}

// A labelled <select>. options: [value, text] pairs.
function picker(label, options, value, change, attributes = {}) {
  const choice = el(
    "select",
    attributes,
    options.map(([key, text]) => el("option", { value: key }, text)),
  );
  choice.value = value;
  choice.addEventListener("change", () => change(choice.value));
  return el("label", { class: "field" }, el("span", {}, label), choice);
}

// A wide table scrolls in its own region, which the keyboard can reach.
function scrolling(label, table) {
  return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, table);
}

// A table as it stands in report.md: the first cell of a row is its name.
function plainTable(caption, { header, rows }) {
  const made = rows.map(([name, ...cells]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      cells.map((cell) => el("td", {}, cell)),
    ),
  );
  const head = header.map((title) => el("th", { scope: "col" }, title));
  return scrolling(
    caption,
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head)), el("tbody", {}, made)),
  );
}

function note(...text) {
  return el("p", { class: "note" }, ...text);
}
