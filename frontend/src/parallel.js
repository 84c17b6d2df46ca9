// Parallel coordinates: each trial as a line through its numbers.
import { writeOver } from "./draw.js";
import { formatParam } from "./format.js";
import { makeAxes, rankAll } from "./params.js";

const TOP = 46;
const BOTTOM = 34;
const LEFT = 46;
const RIGHT = 66;
const SLOT = 92;
const MANY = 250;

/** See views.js for the options and for what a picture can do. */
export class Parallel {
  #axes;
  #lines = [];
  #shares = new Map();

  static findRange() {
    return [0, 1];
  }

  constructor(study, width, height, options) {
    Object.assign(this, { study, width, height, options });
    const { params, targets, total } = makeAxes(study, options, Math.max(2, Math.floor(width / SLOT) + 1));
    this.#axes = [...params, ...targets];
    this.note = params.length < total ? `the ${params.length} of ${total} parameters that tell most of the value` : "";
    this.base = height - BOTTOM;
    const step = (width - LEFT - RIGHT) / Math.max(1, this.#axes.length - 1);
    this.#axes.forEach((axis, i) => (axis.x = LEFT + i * step));
    this.#rank();
    for (const trial of study.trials) this.#place(trial);
    // The better, the later: the best lies on top.
    this.#lines.sort((a, b) => a.rank - b.rank || a.trial.number - b.trial.number);
  }

  /** How good each trial is among the complete and feasible, from 0 to 1. */
  #rank() {
    const { objective } = this.options;
    const ranked = this.study.trials.filter((t) => t.state === "COMPLETE" && !t.isInfeasible && !Number.isNaN(t.ys[objective]));
    const shares = rankAll(ranked.map((t) => -this.study.signs[objective] * t.ys[objective]));
    ranked.forEach(({ number }, i) => this.#shares.set(number, shares[i]));
  }

  #place(trial) {
    const share = this.#shares.get(trial.number);
    const points = this.#axes.map((axis) => {
      const at = axis.place(trial);
      return at === undefined ? null : [axis.x, this.#toY(at)];
    });
    if (points.some(Boolean)) this.#lines.push({ trial, points, share, rank: share ?? -1 });
  }

  #toY(share) {
    return TOP + (1 - share) * (this.base - TOP);
  }

  toData() {
    return 0;
  }

  nearest(x, y, reach) {
    let found = null;
    let least = reach;
    for (const line of this.#lines) {
      if (this.options.isDimmed(line.trial)) continue;
      const at = heightAt(line.points, x);
      if (at === null || Math.abs(at - y) > least) continue;
      // Among equals the one on top.
      [found, least] = [{ trial: line.trial, x, y: at }, Math.abs(at - y)];
    }
    return found && { ...found, said: this.#describe(found.trial) };
  }

  #describe(trial) {
    const told = this.#axes.map((axis) => [axis.label, axis.read(trial)]).filter(([, value]) => value !== undefined);
    return told.map(([label, value]) => `${label.slice(0, 30)} ${formatParam(value)}`.slice(0, 80)).join(" · ");
  }

  paint(context) {
    const { theme } = this.options;
    const isDense = this.#lines.length > MANY;
    const faint = isDense ? Math.max(0.06, 60 / this.#lines.length) : 0.7;
    context.lineJoin = "round";
    for (const line of this.#lines) {
      const isDimmed = this.options.isDimmed(line.trial);
      const isGood = line.share > 0.9;
      context.globalAlpha = isDimmed ? 0.03 : line.share === undefined ? faint / 3 : isGood ? Math.max(faint, 0.35) : faint;
      context.strokeStyle = line.share === undefined ? theme.muted : css(theme.good[Math.round(line.share * 255)]);
      context.lineWidth = line.trial === this.study.best ? 3 : isDense ? 1 : 1.5;
      trace(context, line.points);
    }
    context.globalAlpha = 1;
    this.#paintAxes(context, theme);
  }

  #paintAxes(context, theme) {
    Object.assign(context, { lineWidth: 1, textBaseline: "middle" });
    const slot = this.#axes.length > 1 ? this.#axes[1].x - this.#axes[0].x : this.width;
    const isTight = this.#axes.some((axis) => context.measureText(axis.label).width > slot - 10);
    const room = (isTight ? 2 : 1) * slot - 10;
    this.#axes.forEach((axis, i) => {
      context.strokeStyle = theme.muted;
      trace(context, [[axis.x, TOP], [axis.x, this.base]]);
      context.textAlign = "left";
      // A category's lines all meet at its place.
      const raise = axis.isNumber ? 0 : 10;
      for (const [words, at] of axis.ticks(4)) writeOver(context, words.slice(0, 16), axis.x + 5, this.#toY(at) - raise, theme, slot - 10);
      context.textAlign = "center";
      const label = cut(context, axis.label, room);
      const half = context.measureText(label).width / 2 + 4;
      // Labels that are too wide for one row stand in two, and none leaves the canvas.
      const x = Math.min(Math.max(axis.x, half), this.width - half);
      writeOver(context, label, x, isTight && i % 2 ? 12 : 28, theme);
    });
    context.textAlign = "center";
    if (this.note) writeOver(context, this.note, this.width / 2, this.height - 9, theme, this.width);
  }

  paintDrag(context, from, to) {
    const axis = this.#axisAt(from[0]);
    if (axis) this.#paintRange(context, axis, [from[1], to[1]]);
  }

  #paintRange(context, axis, [from, to]) {
    context.globalAlpha = 0.3;
    context.fillStyle = this.options.theme.accent;
    context.fillRect(axis.x - 7, Math.min(from, to), 14, Math.abs(to - from));
    context.globalAlpha = 1;
  }

  #axisAt(x) {
    const near = this.#axes.map((axis) => [Math.abs(axis.x - x), axis]).sort((a, b) => a[0] - b[0])[0];
    return near && near[0] < 25 ? near[1] : null;
  }

  /** What a drag along an axis chooses. */
  choose(from, to) {
    const axis = this.#axisAt(from[0]);
    if (!axis) return null;
    const shares = [from[1], to[1]].map((y) => 1 - (y - TOP) / (this.base - TOP));
    return axis.between(Math.min(...shares), Math.max(...shares));
  }

  paintSelection(context, selected, against) {
    const { accent } = this.options.theme;
    for (const axis of this.#axes) {
      const chosen = this.options.chosen.get(axis.label);
      if (chosen) this.#paintRange(context, axis, axis.ends(chosen).map((at) => this.#toY(at)));
    }
    for (const [number, width] of [[against, 1.5], [selected, 3]]) {
      const line = this.#lines.find((l) => l.trial.number === number);
      if (!line) continue;
      context.setLineDash(number === against ? [4, 3] : []);
      Object.assign(context, { strokeStyle: accent, lineWidth: width });
      trace(context, line.points);
    }
    context.setLineDash([]);
  }
}

function css([r, g, b]) {
  return `rgb(${r} ${g} ${b})`;
}

/** A line through points, interrupted where one is missing. */
function trace(context, points) {
  context.beginPath();
  points.forEach((point, i) => {
    if (!point) return;
    if (points[i - 1]) context.lineTo(...point);
    else context.moveTo(...point);
    if (!points[i - 1] && !points[i + 1]) context.arc(...point, 2, 0, 2 * Math.PI);
  });
  context.stroke();
}

function heightAt(points, x) {
  for (let i = 1; i < points.length; i++) {
    if (!points[i - 1] || !points[i]) continue;
    const [[x0, y0], [x1, y1]] = [points[i - 1], points[i]];
    const share = Math.min(Math.max((x - x0) / (x1 - x0), 0), 1);
    if (x >= x0 - 6 && x <= x1 + 6) return y0 + (y1 - y0) * share;
  }
  return null;
}

/** As much of a text as there is room for. */
function cut(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let shown = text.slice(0, 80);
  while (shown && context.measureText(`${shown}…`).width > room) shown = shown.slice(0, -1);
  return `${shown}…`;
}
