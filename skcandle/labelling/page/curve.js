// The accuracy against the number of labels, with its interval, as an SVG.

const LEFT = 36, RIGHT = 256, TOP = 8, BOTTOM = 108;

export const percent = (share) => `${Math.round(100 * share)}\u202f%`;

// `curve` has rows of the number of labels, the accuracy, and the ends of its interval.
export function drawCurve(svg, curve) {
  svg.toggleAttribute("hidden", curve.length < 2);
  if (curve.length < 2) return;
  const [first, start] = curve[0];
  const [last, accuracy] = curve.at(-1);
  const x = (n) => LEFT + ((RIGHT - LEFT) * (n - first)) / Math.max(last - first, 1);
  const y = (share) => BOTTOM - (BOTTOM - TOP) * share;
  const line = (column) => curve.map((row) => `${x(row[0]).toFixed(1)},${y(row[column]).toFixed(1)}`);
  svg.setAttribute(
    "aria-label",
    `Estimated accuracy from ${percent(start)} after ${first} labels to ${percent(accuracy)} after ${last}`,
  );
  svg.replaceChildren(
    ...[0, 0.5, 1].flatMap((share) => [
      shape("line", { x1: LEFT, x2: RIGHT, y1: y(share), y2: y(share) }),
      shape("text", { x: LEFT - 4, y: y(share) + 3, "text-anchor": "end" }, percent(share)),
    ]),
    shape("polygon", { points: [...line(3), ...line(2).reverse()].join(" ") }),
    shape("polyline", { points: line(1).join(" ") }),
    shape("circle", { cx: x(last), cy: y(accuracy), r: 3 }),
    shape("text", { x: LEFT, y: BOTTOM + 14 }, first),
    shape("text", { x: RIGHT, y: BOTTOM + 14, "text-anchor": "end" }, `${last} labels`),
  );
}

function shape(kind, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}
