// One picture of a study: where each trial is, and how it is painted.
import { drawEdge, drawPoint, drawRing } from "./draw.js";
import { formatNumber, reveal } from "./format.js";
import { extent, pad, robustExtent, ticks } from "./scales.js";

const LEFT = 62;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 40;
const LANE = 22;
const MANY = 250;

/** The range of the x axis that has all trials, outliers aside. */
export function findRange(study, x, isWhole) {
  const xs = study.trials.map(x.read).filter(Number.isFinite);
  const range = x.robust && !isWhole ? robustExtent(xs, keep(study, x.read)) : extent(xs);
  return pad(range ?? [0, 1], 0.02);
}

/** The values that an axis must show: those of the best trials and of the first. */
function keep(study, read) {
  return [...study.front.slice(0, 50), study.start].filter(Boolean).map(read);
}

/**
 * The study on a canvas of some size. The options: `x` and `objective`, the axes; `zoom`, a range
 * of x or null; `isWhole`, whether outliers are shown at their place; `isDimmed`, which trials
 * stand back; `styles` of the proposers; `theme`.
 */
export class Plot {
  points = [];
  #byNumber = new Map();

  constructor(study, width, height, options) {
    Object.assign(this, { study, width, height, options });
    const read = (trial) => (trial.state === "FAIL" ? undefined : trial.ys[options.objective]);
    this.hasLane = study.trials.some((t) => !(Math.abs(read(t)) >= 0));
    this.bottom = height - BOTTOM - (this.hasLane ? LANE : 0);
    this.xRange = options.zoom ?? findRange(study, options.x, options.isWhole);
    const seen = study.trials.filter((t) => {
      const at = options.x.read(t);
      return at >= this.xRange[0] && at <= this.xRange[1];
    });
    const values = seen.map(read).filter(Number.isFinite);
    const kept = options.zoom ? [] : keep(study, read);
    this.yRange = pad((options.isWhole ? extent(values) : robustExtent(values, kept)) ?? [0, 1], 0.06);
    for (const trial of study.trials) this.#place(trial, read(trial));
    const count = this.points.length;
    this.radius = count > 1000 ? 3 : count > MANY ? 4 : 5;
  }

  #place(trial, value) {
    const at = this.options.x.read(trial);
    if (!Number.isFinite(at)) return;
    const point = { trial, x: this.#toX(at), y: this.height - BOTTOM - LANE / 2 + 3, clipped: 0, inLane: true };
    if (value !== undefined && !Number.isNaN(value)) {
      point.inLane = false;
      point.y = Math.min(Math.max(this.#toY(value), TOP + 2), this.bottom - 4);
      if (value > this.yRange[1]) point.clipped = -1;
      if (value < this.yRange[0]) point.clipped = 1;
    }
    this.points.push(point);
    this.#byNumber.set(trial.number, point);
  }

  #toX(n) {
    const [low, high] = this.xRange;
    return LEFT + ((n - low) / (high - low)) * (this.width - LEFT - RIGHT);
  }

  #toY(n) {
    const [low, high] = this.yRange;
    return TOP + ((high - n) / (high - low)) * (this.bottom - TOP);
  }

  /** The value of the x axis at a pixel. */
  toData(pixel) {
    const [low, high] = this.xRange;
    return low + ((pixel - LEFT) / (this.width - LEFT - RIGHT)) * (high - low);
  }

  /** The trial that is nearest to a pixel, if it is near. */
  nearest(x, y, reach) {
    let found = null;
    let least = reach ** 2;
    for (const point of this.points) {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least && !this.options.isDimmed(point.trial)) [found, least] = [point, distance];
    }
    return found;
  }

  paint(context) {
    const { theme, x } = this.options;
    this.#paintAxes(context, theme);
    this.#clip(context);
    if (x.line) this.#paintEdges(context, theme);
    this.#paintBest(context, theme);
    this.#paintPoints(context, theme);
    context.restore();
  }

  #clip(context) {
    context.save();
    context.beginPath();
    context.rect(LEFT - 10, 0, this.width - LEFT - RIGHT + 20, this.height);
    context.clip();
  }

  /** The range that is being dragged over. */
  paintDrag(context, from, to) {
    context.globalAlpha = 0.15;
    context.fillStyle = this.options.theme.accent;
    context.fillRect(from, TOP, to - from, this.height - TOP - BOTTOM);
    context.globalAlpha = 1;
  }

  #paintAxes(context, theme) {
    const { x, objective } = this.options;
    const [right, bottom] = [this.width - RIGHT, this.height - BOTTOM];
    const rule = (y) => {
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(right, y);
      context.stroke();
    };
    Object.assign(context, { strokeStyle: theme.grid, fillStyle: theme.muted, lineWidth: 1, textBaseline: "middle", textAlign: "right" });
    for (const n of ticks(this.yRange, (this.bottom - TOP) / 50)) {
      const y = Math.round(this.#toY(n)) + 0.5;
      rule(y);
      context.fillText(formatNumber(n, 4), LEFT - 10, y);
    }
    if (this.hasLane) {
      context.fillText("no value", LEFT - 10, bottom - LANE / 2 + 3);
      context.setLineDash([2, 4]);
      rule(this.bottom + 2.5);
      context.setLineDash([]);
    }
    context.textAlign = "center";
    for (const n of x.ticks(this.xRange, Math.max(2, (right - LEFT) / 90))) {
      context.fillText(x.format(n), this.#toX(n), bottom + 14);
    }
    context.fillText(reveal(x.label).slice(0, 60), (LEFT + right) / 2, this.height - 8);
    context.save();
    context.translate(10, (TOP + this.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(reveal(this.study.about.objectives[objective].name).slice(0, 40), 0, 0);
    context.restore();
  }

  /** From parents to children; those of failures only where one of them is selected. */
  #paintEdges(context, theme) {
    context.strokeStyle = theme.edge;
    context.globalAlpha = this.points.length > MANY ? 0.25 : 0.55;
    context.lineWidth = 1;
    context.beginPath();
    for (const point of this.points) {
      if (point.inLane || point.clipped) continue;
      for (const number of [point.trial.parent, point.trial.second_parent]) {
        const from = this.#byNumber.get(number);
        if (from && !from.inLane && !from.clipped) drawEdge(context, from, point);
      }
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** The best value so far, from left to right; of several objectives the front. */
  #paintBest(context, theme) {
    const { study } = this;
    const isLine = this.options.x.line;
    if (study.isSingle !== Boolean(isLine)) return;
    context.strokeStyle = theme.best;
    context.lineWidth = 1.5;
    context.beginPath();
    if (isLine) {
      this.#traceBest(context);
    } else {
      const front = study.front.map((t) => this.#byNumber.get(t.number)).filter(Boolean);
      for (const { x, y } of front.sort((a, b) => a.x - b.x)) context.lineTo(x, y);
    }
    context.stroke();
  }

  #traceBest(context) {
    const points = this.points.filter((p) => p.trial.state === "COMPLETE" && !p.trial.isInfeasible);
    points.sort((a, b) => a.x - b.x);
    let best = null;
    for (const point of points) {
      if (best && this.study.compare(point.trial, best.trial) >= 0) continue;
      if (best) context.lineTo(point.x, best.y);
      context.lineTo(point.x, point.y);
      best = point;
    }
    if (best) context.lineTo(points.at(-1).x, best.y);
  }

  #paintPoints(context, theme) {
    const { study, radius } = this;
    const steps = study.isSingle ? study.improvements : study.frontNumbers;
    const isDense = this.points.length > MANY;
    const style = (point) => this.options.styles.get(point.trial.by);
    for (const point of this.points) {
      context.globalAlpha = this.options.isDimmed(point.trial) ? 0.12 : 1;
      drawPoint(context, point, style(point), radius, theme.background);
      if (steps.has(point.trial.number)) {
        drawRing(context, point, radius + (isDense ? 1 : 2.5), theme.best, isDense ? 0.9 : 1.3);
      }
    }
    context.globalAlpha = 1;
    const top = study.isSingle && this.#byNumber.get(study.best?.number);
    if (top) {
      drawPoint(context, top, style(top), radius + 2, theme.background);
      drawRing(context, top, radius + 5, theme.best, 2.5);
    }
  }

  /** The selected trial, where it came from, what came of it, and what it is compared with. */
  paintSelection(context, selected, against) {
    const { theme, x } = this.options;
    const point = this.#byNumber.get(selected);
    if (!point) return;
    this.#clip(context);
    context.strokeStyle = theme.accent;
    if (x.line) {
      context.lineWidth = 2;
      context.beginPath();
      const line = [selected, ...this.study.ancestors(selected)].map((n) => this.#byNumber.get(n));
      for (let i = 1; i < line.length && line[i]; i++) drawEdge(context, line[i], line[i - 1]);
      context.stroke();
      context.lineWidth = 1;
      context.beginPath();
      for (const number of this.study.children.get(selected) ?? []) {
        const child = this.#byNumber.get(number);
        if (child) drawEdge(context, point, child);
      }
      context.stroke();
    }
    drawRing(context, point, this.radius + 5, theme.accent, 2.5);
    const other = this.#byNumber.get(against);
    context.setLineDash([3, 2]);
    if (other) drawRing(context, other, this.radius + 5, theme.accent, 1.5);
    context.restore();
  }
}
