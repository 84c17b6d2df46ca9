// The lineage: each trial by its value, with lines from parents to children.
import { drawEdge, drawPoint, drawRing, findNearest } from "./draw.js";
import { Frame } from "./frame.js";
import { extent, pad, robustExtent } from "./scales.js";

const MANY = 250;

/** The values that an axis must show: those of the best trials and of the first. */
function keep(study, read) {
  return [...study.front.slice(0, 50), study.start].filter(Boolean).map(read);
}

/** See views.js for the options and for what a picture can do. */
export class Lineage {
  points = [];
  #byNumber = new Map();

  static findRange(study, { x, isWhole }) {
    const xs = study.trials.map(x.read).filter(Number.isFinite);
    const range = x.robust && !isWhole ? robustExtent(xs, keep(study, x.read)) : extent(xs);
    return pad(range ?? [0, 1], 0.02);
  }

  constructor(study, width, height, options) {
    Object.assign(this, { study, options });
    const read = (trial) => (trial.state === "FAIL" ? undefined : trial.ys[options.objective]);
    const frame = new Frame(width, height, study.trials.some((t) => !(Math.abs(read(t)) >= 0)));
    this.frame = frame;
    frame.xRange = options.zoom ?? Lineage.findRange(study, options);
    const seen = study.trials.filter((t) => {
      const at = options.x.read(t);
      return at >= frame.xRange[0] && at <= frame.xRange[1];
    });
    const values = seen.map(read).filter(Number.isFinite);
    const kept = options.zoom ? [] : keep(study, read);
    frame.yRange = pad((options.isWhole ? extent(values) : robustExtent(values, kept)) ?? [0, 1], 0.06);
    for (const trial of study.trials) this.#place(trial, read(trial));
    const count = this.points.length;
    this.radius = count > 1000 ? 3 : count > MANY ? 4 : 5;
  }

  #place(trial, value) {
    const { frame } = this;
    const at = this.options.x.read(trial);
    if (!Number.isFinite(at)) return;
    const point = { trial, x: frame.toX(at), y: frame.laneY, clipped: 0, inLane: true };
    if (value !== undefined && !Number.isNaN(value)) {
      point.inLane = false;
      point.y = Math.min(Math.max(frame.toY(value), frame.top + 2), frame.bottom - 4);
      if (value > frame.yRange[1]) point.clipped = -1;
      if (value < frame.yRange[0]) point.clipped = 1;
    }
    this.points.push(point);
    this.#byNumber.set(trial.number, point);
  }

  nearest(x, y, reach) {
    return findNearest(this.points.filter((p) => !this.options.isDimmed(p.trial)), x, y, reach);
  }

  toData(pixel) {
    return this.frame.toData(pixel);
  }

  paintDrag(context, [from], [to]) {
    this.frame.paintRange(context, from, to, this.options.theme.accent);
  }

  paint(context) {
    const { theme, x, objective } = this.options;
    this.frame.paint(context, theme, x, this.study.about.objectives[objective].name);
    this.frame.clip(context);
    if (x.line) this.#paintEdges(context, theme);
    this.#paintBest(context, theme);
    this.#paintPoints(context, theme);
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
    this.frame.clip(context);
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
