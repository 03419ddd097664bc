// Charts. Each has a caption, a description for screen readers, and beside it the numbers as a table or a tooltip.

const INK = "#222222";
const GREY = "#b5b5b5";
const HEIGHT = 460; // pixels of a chart
const NARROW = 640; // pixels of a chart, below which names stand in the legend only

// Plotly reads a little markup in texts. Names and answers are to be shown as they are.
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// A figure: its drawing, its legend (which wraps on a narrow page, as one within the drawing would not), its caption.
function chart(id) {
  const drawing = el("div", { class: "plot", id, role: "img" });
  const legend = el("ul", { class: "legend" });
  const caption = el("figcaption");
  return { drawing, legend, caption, figure: el("figure", {}, drawing, legend, caption) };
}

let paper = false; // whether the page is being printed
const PAPER = 680; // pixels, the width of a chart on a sheet

const plotWidth = ({ drawing }) => (paper ? PAPER : drawing.clientWidth) - 70; // without the margins
const narrow = () => !paper && document.getElementById("content").clientWidth < NARROW;

// shown: the methods that the legend names.
function show({ drawing, legend, caption }, { description, shown, text }, traces, layout) {
  drawing.setAttribute("aria-label", description);
  caption.textContent = text;
  fill(
    legend,
    shown.map((method) => el("li", {}, named(method))),
    others().length > 0 && el("li", { class: "note" }, "grey: the other methods"),
  );
  const axis = { gridcolor: "#ececec", zeroline: false, linecolor: "#8a8a8a", ticks: "outside", automargin: true };
  const whole = {
    font: { family: "system-ui, sans-serif", size: 13, color: INK },
    margin: { l: 55, r: 15, t: 10, b: 50 },
    height: narrow() ? 380 : HEIGHT,
    hovermode: "closest",
    dragmode: narrow() ? false : "zoom", // a finger on a small screen scrolls the page
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    showlegend: false,
    ...(paper ? { width: PAPER } : { autosize: true }),
    ...layout,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
  Plotly.react(drawing, traces, whole, { responsive: true, displayModeBar: false });
}

// A method's line or marks in its colour and with its marker.
function trace(method, given) {
  return {
    name: plain(method.name),
    mode: "lines+markers",
    ...given,
    marker: {
      color: method.colour,
      symbol: symbol(method),
      size: 11,
      line: { width: 1, color: "#fff" },
      ...given.marker,
    },
    line: { color: method.colour, width: 2, ...given.line },
  };
}

function bars(intervals, colour) {
  const array = intervals.map((one) => one.half ?? 0);
  return { type: "data", array, visible: array.some((half) => half > 0), color: colour, thickness: 1.2, width: 3 };
}

// One grey trace for all methods that are not drawn in colour.
function greyed(x, y, names, mode = "markers") {
  const text = names.map(plain);
  const hovertemplate = "%{text}<extra></extra>";
  return {
    x,
    y,
    text,
    mode,
    name: "other methods",
    hovertemplate,
    marker: { color: GREY, size: 6 },
    line: { color: GREY, width: 1 },
  };
}

// Names at the right of a chart, moved apart so that none covers another. ends: [{method, x, y}].
function endLabels(ends, yRange, height, x) {
  const gap = ((yRange[1] - yRange[0]) * 17) / (height - 60);
  const sorted = [...ends].sort((a, b) => a.y - b.y);
  const places = sorted.map((end) => end.y);
  for (let i = 1; i < places.length; i++) places[i] = Math.max(places[i], places[i - 1] + gap);
  const over = Math.max(0, (places.at(-1) ?? 0) - yRange[1]);
  for (let i = places.length - 1, top = Infinity; i >= 0; i--) {
    places[i] = Math.min(over > 0 ? places[i] - over : places[i], top);
    top = places[i] - gap;
  }
  return sorted.map((end, i) => ({
    x: end.x,
    y: end.y,
    ax: x,
    ay: places[i],
    axref: "x",
    ayref: "y",
    xanchor: "left",
    showarrow: true,
    arrowhead: 0,
    arrowwidth: 0.7,
    arrowcolor: "#999",
    text: `${character(end.method)} ${plain(end.method.name)}`,
    font: { color: INK, size: 12 },
  }));
}

// Names beside their points, where they cover nothing; a name without room stands in the legend alone.
function sideLabels(points, xRange, yRange, width, height) {
  const across = (x) => ((x - xRange[0]) / (xRange[1] - xRange[0])) * width;
  const down = (y) => ((yRange[1] - y) / (yRange[1] - yRange[0])) * height;
  const taken = points.map(({ x, y }) => [across(x) - 8, down(y) - 8, across(x) + 8, down(y) + 8]);
  const apart = (a, b) => a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
  return points.flatMap(({ method, x, y }) => {
    const long = 7.2 * method.name.length;
    for (const [dx, dy] of [
      [10, -10],
      [10, 10],
      [-10 - long, -10],
      [-10 - long, 10],
      [-long / 2, -18],
      [-long / 2, 18],
    ]) {
      const box = [across(x) + dx, down(y) + dy - 8, across(x) + dx + long, down(y) + dy + 8];
      if (box[0] < 0 || box[2] > width || !taken.every((other) => apart(box, other))) continue;
      taken.push(box);
      return [
        {
          x,
          y,
          xshift: dx,
          yshift: -dy,
          xanchor: "left",
          yanchor: "middle",
          showarrow: false,
          text: plain(method.name),
          font: { color: INK, size: 12 },
        },
      ];
    }
    return [];
  });
}

function padded(values, share = 0.06) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = (high - low || Math.abs(high) || 1) * share;
  return [low - room, high + room];
}
