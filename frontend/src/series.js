// The best value so far: of all trials, or of those of each proposer.
import { drawPoint, drawRing, findNearest, writeOver } from "./draw.js";
import { formatNumber } from "./format.js";
import { Frame } from "./frame.js";
import { extent, pad, robustExtent } from "./scales.js";

/** See views.js for the options and for what a picture can do. */
export class Series {
  points = [];
  #lines;

  static findRange(study, { x }) {
    return pad(extent(study.trials.map(x.read).filter(Number.isFinite)) ?? [0, 1], 0.02);
  }

  constructor(study, width, height, options, isByProposer = false) {
    Object.assign(this, { study, options });
    this.frame = new Frame(width, height, false);
    this.frame.xRange = options.zoom ?? Series.findRange(study, options);
    this.#lines = this.#trace(isByProposer);
    this.#setYRange();
    for (const line of this.#lines) this.#place(line);
  }

  /** For each line the trials that were better than all before them, from left to right. */
  #trace(isByProposer) {
    const { x, objective } = this.options;
    const read = (trial) => trial.ys[objective];
    const [low, high] = this.frame.xRange;
    const lines = new Map();
    const seen = this.study.trials.filter((t) => Number.isFinite(x.read(t)));
    for (const trial of seen.sort((a, b) => x.read(a) - x.read(b) || a.number - b.number)) {
      const name = isByProposer ? trial.by : "";
      if (!lines.has(name)) lines.set(name, { name, isOwn: isByProposer, steps: [], last: 0 });
      const line = lines.get(name);
      line.last = Math.max(line.last, x.read(trial));
      if (trial.state !== "COMPLETE" || trial.isInfeasible || Number.isNaN(read(trial))) continue;
      const best = line.steps.at(-1);
      const gain = best ? this.study.signs[objective] * (read(best.trial) - read(trial)) : 1;
      if (gain > 0) line.steps.push({ trial, at: x.read(trial), value: read(trial) });
    }
    for (const line of lines.values()) {
      // Of what came before the left edge, the last still holds there.
      line.steps = line.steps.filter(({ at }, i) => at <= high && (line.steps[i + 1]?.at ?? high) >= low);
    }
    return [...lines.values()].filter((line) => line.steps.length);
  }

  #setYRange() {
    const { isWhole } = this.options;
    const values = this.#lines.flatMap((line) => line.steps.map((s) => s.value)).filter(Number.isFinite);
    const ends = this.#lines.map((line) => line.steps.at(-1).value);
    this.frame.yRange = pad((isWhole ? extent(values) : robustExtent(values, ends)) ?? [0, 1], 0.06);
  }

  #place(line) {
    const { frame } = this;
    for (const step of line.steps) {
      step.x = frame.toX(step.at);
      step.y = Math.min(Math.max(frame.toY(step.value), frame.top + 2), frame.bottom - 4);
      step.clipped = step.value > frame.yRange[1] ? -1 : step.value < frame.yRange[0] ? 1 : 0;
      this.points.push(step);
    }
  }

  nearest(x, y, reach) {
    return findNearest(this.points, x, y, reach);
  }

  toData(pixel) {
    return this.frame.toData(pixel);
  }

  paintDrag(context, [from], [to]) {
    this.frame.paintRange(context, from, to, this.options.theme.accent);
  }

  paint(context) {
    const { theme, x, objective, styles } = this.options;
    this.frame.paint(context, theme, x, this.study.about.objectives[objective].name);
    this.frame.clip(context);
    for (const line of this.#lines) {
      this.#paintLine(context, line, line.isOwn ? styles.get(line.name).color : theme.best);
    }
    for (const point of this.points) {
      drawPoint(context, point, styles.get(point.trial.by), this.points.length > 100 ? 3 : 4.5, theme.background);
    }
    context.restore();
    this.#paintEnds(context, theme);
  }

  #paintLine(context, { steps, last, name }, color) {
    const { frame } = this;
    context.globalAlpha = this.options.isHidden(name) ? 0.15 : 1;
    context.strokeStyle = color;
    context.lineWidth = 2;
    context.beginPath();
    steps.forEach(({ x, y }, i) => {
      if (i) context.lineTo(x, steps[i - 1].y);
      context.lineTo(x, y);
    });
    context.lineTo(Math.min(frame.toX(last), frame.right), steps.at(-1).y);
    context.stroke();
    context.globalAlpha = 1;
  }

  /** The value at the end of each line, where there is room for it. */
  #paintEnds(context, theme) {
    Object.assign(context, { textAlign: "right", textBaseline: "alphabetic" });
    const taken = [];
    for (const { steps, last, name } of this.#lines) {
      const { y, value } = steps.at(-1);
      if (this.options.isHidden(name) || steps.length < 2) continue;
      if (taken.some((other) => Math.abs(other - y) < 15)) continue;
      taken.push(y);
      const x = Math.min(this.frame.toX(last), this.frame.right);
      writeOver(context, formatNumber(value, 5), Math.max(x, this.frame.left + 50), y < 26 ? y + 20 : y - 9, theme);
    }
  }

  paintSelection(context, selected, against) {
    const { x, theme: { accent } } = this.options;
    this.frame.clip(context);
    const trial = this.study.find(selected);
    if (trial && Number.isFinite(x.read(trial))) {
      // Most trials are no step of a line.
      const at = Math.round(this.frame.toX(x.read(trial))) + 0.5;
      Object.assign(context, { strokeStyle: accent, lineWidth: 1 });
      context.beginPath();
      context.moveTo(at, this.frame.top);
      context.lineTo(at, this.frame.base);
      context.stroke();
    }
    for (const [number, width] of [[selected, 2.5], [against, 1.5]]) {
      for (const point of this.points.filter((p) => p.trial.number === number)) {
        context.setLineDash(number === against ? [3, 2] : []);
        drawRing(context, point, 9, accent, width);
      }
    }
    context.restore();
  }
}

export class ProposerSeries extends Series {
  constructor(study, width, height, options) {
    super(study, width, height, options, true);
  }
}
