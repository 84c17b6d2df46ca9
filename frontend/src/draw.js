// How a chart's parts look on a canvas.

/** The proposers' colors and shapes, by name. */
export function styleProposers(proposers, colors) {
  const fixed = { initial: 0, model: 1, base: 2, fallback: 3, user: 4, tune: 5, none: 6 };
  const shapes = ["diamond", "circle", "square", "square", "triangle", "circle", "circle"];
  const styles = new Map();
  let further = 7;
  for (const { name, source } of proposers) {
    const known = fixed[source];
    const isNamed = source === "model" && name !== "model";
    const index = known === undefined || isNamed ? further++ : known;
    styles.set(name, {
      index: index < colors.length ? index : 6,
      color: colors[index] ?? colors[6],
      shape: shapes[known] ?? "circle",
    });
  }
  return styles;
}

/** Colors from the worst to the best, as bytes: red, green, blue, opaque. */
export function makeRamp(colors) {
  const stops = colors.map((color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const first = Math.min(Math.floor(at), stops.length - 2);
    const share = at - first;
    return [...stops[first].map((c, k) => Math.round(c + share * (stops[first + 1][k] - c))), 255];
  });
}

const OUTLINES = {
  circle: (c, x, y, r) => c.arc(x, y, r, 0, 2 * Math.PI),
  square: (c, x, y, r) => c.rect(x - 0.88 * r, y - 0.88 * r, 1.76 * r, 1.76 * r),
  diamond: (c, x, y, r) => polygon(c, [x, y - 1.3 * r, x + 1.3 * r, y, x, y + 1.3 * r, x - 1.3 * r, y]),
  triangle: (c, x, y, r) => polygon(c, [x, y - 1.2 * r, x + 1.15 * r, y + 0.9 * r, x - 1.15 * r, y + 0.9 * r]),
};

function polygon(context, [x, y, ...rest]) {
  context.moveTo(x, y);
  for (let i = 0; i < rest.length; i += 2) context.lineTo(rest[i], rest[i + 1]);
  context.closePath();
}

/** A trial: filled if it is complete and feasible, hollow else, a cross if it failed. */
export function drawPoint(context, point, style, radius, background) {
  const { x, y, trial, clipped } = point;
  context.strokeStyle = context.fillStyle = style.color;
  context.lineWidth = 1.6;
  context.beginPath();
  if (trial.state === "FAIL") {
    const r = radius * 0.8;
    context.moveTo(x - r, y - r);
    context.lineTo(x + r, y + r);
    context.moveTo(x + r, y - r);
    context.lineTo(x - r, y + r);
    context.stroke();
    return;
  }
  if (clipped) {
    // An arrowhead towards where the value is.
    const way = clipped;
    polygon(context, [x, y + way * radius * 1.3, x - radius, y - way * radius * 0.6, x + radius, y - way * radius * 0.6]);
  } else {
    OUTLINES[style.shape](context, x, y, radius);
  }
  if (trial.state === "COMPLETE" && !trial.isInfeasible) {
    context.fill();
    context.strokeStyle = background;
    context.lineWidth = 0.8;
    context.stroke();
  } else {
    context.fillStyle = background;
    context.fill();
    context.stroke();
    if (trial.isInfeasible) {
      context.beginPath();
      context.moveTo(x - radius * 0.7, y + radius * 0.7);
      context.lineTo(x + radius * 0.7, y - radius * 0.7);
      context.stroke();
    }
  }
}

export function drawRing(context, { x, y }, radius, color, width = 2) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.strokeStyle = color;
  context.lineWidth = width;
  context.stroke();
}

/** Words that can be read over lines. */
export function writeOver(context, words, x, y, { background, muted }, room) {
  context.save();
  Object.assign(context, { strokeStyle: background, fillStyle: muted, lineWidth: 4, lineJoin: "round" });
  context.setLineDash([]);
  context.strokeText(words, x, y, room);
  context.fillText(words, x, y, room);
  context.restore();
}

/** The point that is nearest to a pixel, if it is near. */
export function findNearest(points, x, y, reach) {
  let found = null;
  let least = reach ** 2;
  for (const point of points) {
    const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
    if (distance < least) [found, least] = [point, distance];
  }
  return found;
}

/** From a parent to its child. */
export function drawEdge(context, from, to) {
  const middle = (from.x + to.x) / 2;
  context.moveTo(from.x, from.y);
  context.bezierCurveTo(middle, from.y, middle, to.y, to.x, to.y);
}
