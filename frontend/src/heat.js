// The heat map: what each trial has reached in each case.
import { formatNumber, reveal } from "./format.js";
import { robustExtent, ticks } from "./scales.js";

const TOP = 12;
const BOTTOM = 40;
const RIGHT = 14;
const LEAST_ROW = 13;
const MANY = 100_000;

/** How tall the picture should be for so many rows. */
export function findHeight(nRows) {
  return Math.min(Math.max(TOP + BOTTOM + 17 * nRows, 200), 640);
}

/** See views.js for the options and for what a picture can do. */
export class HeatMap {
  #columns;
  #cases;

  static findRange(study, { cases, shown }) {
    const count = shown.filter((t) => cases.of(t.number)).length;
    return [0, Math.max(count, 1)];
  }

  constructor(study, width, height, options) {
    Object.assign(this, { study, width, height, options });
    const { cases, shown, zoom } = options;
    this.#columns = shown.filter((t) => cases.of(t.number));
    this.#cases = options.rows;
    this.left = Math.min(150, Math.round(width * 0.28));
    this.right = width - RIGHT;
    this.bottom = height - BOTTOM;
    this.xRange = zoom ?? HeatMap.findRange(study, options);
    this.rowHeight = (this.bottom - TOP) / Math.max(this.#cases.length, 1);
    this.columnWidth = (this.right - this.left) / (this.xRange[1] - this.xRange[0]);
    // Of very many trials some tell the range as well as all.
    const some = Math.ceil(((this.#columns.length || 1) * (this.#cases.length || 1)) / MANY);
    const scores = this.#columns.filter((_, i) => i % some === 0).flatMap((t) => [...cases.of(t.number).values()]);
    this.scale = robustExtent(scores, []) ?? [0, 1];
  }

  toX(index) {
    return this.left + (index - this.xRange[0]) * this.columnWidth;
  }

  toData(pixel) {
    return this.xRange[0] + (pixel - this.left) / this.columnWidth;
  }

  nearest(x, y) {
    if (x < this.left || x > this.right || y < TOP || y > this.bottom) return null;
    const trial = this.#columns[Math.floor(this.toData(x))];
    const row = Math.floor((y - TOP) / this.rowHeight);
    const case_ = this.#cases[row];
    if (!trial || case_ === undefined) return null;
    const score = this.options.cases.of(trial.number).get(case_);
    const before = this.options.cases.of(trial.parent)?.get(case_);
    const told = before === undefined ? "" : `, ${formatNumber(before)} in trial ${trial.parent}`;
    const said = `${this.#label(case_)}: ${score === undefined ? "not evaluated" : formatNumber(score)}${told}`;
    return { trial, x, y: TOP + (row + 0.5) * this.rowHeight, said };
  }

  #label(number) {
    const name = this.study.about.cases[number];
    return name === undefined ? `case ${number}` : reveal(name);
  }

  paint(context) {
    const { theme } = this.options;
    if (!this.#columns.length) {
      Object.assign(context, { fillStyle: theme.muted, textAlign: "center" });
      context.fillText("No trial that is shown has cases.", this.width / 2, this.height / 2);
      return;
    }
    this.#paintCells(context);
    if (this.columnWidth > 4 && this.rowHeight > 7) this.#paintGaps(context, theme);
    this.#paintLabels(context, theme);
  }

  /** All cells as a picture of a pixel each, stretched: where they are many, it averages. */
  #paintCells(context) {
    const [width, height] = [this.#columns.length, this.#cases.length];
    const rowOf = new Map(this.#cases.map((number, row) => [number, row]));
    const image = new ImageData(width, height);
    this.#columns.forEach((trial, column) => {
      for (const [number, score] of this.options.cases.of(trial.number)) {
        const row = rowOf.get(number);
        if (row !== undefined) image.data.set(this.#color(score), 4 * (row * width + column));
      }
    });
    const cells = new OffscreenCanvas(width, height);
    cells.getContext("2d").putImageData(image, 0, 0);
    context.save();
    context.beginPath();
    context.rect(this.left, TOP, this.right - this.left, this.bottom - TOP);
    context.clip();
    context.imageSmoothingEnabled = this.columnWidth < 1 || this.rowHeight < 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(cells, this.toX(0), TOP, width * this.columnWidth, this.bottom - TOP);
    context.restore();
  }

  #color(score) {
    const [low, high] = this.scale;
    const share = high > low ? Math.min(Math.max((score - low) / (high - low), 0), 1) : 1;
    const good = this.options.sign < 0 ? share : 1 - share;
    return this.options.theme.heat[Math.round((Number.isFinite(good) ? good : 0) * 255)];
  }

  #paintGaps(context, theme) {
    context.strokeStyle = theme.background;
    context.lineWidth = 1;
    context.beginPath();
    const first = Math.max(0, Math.ceil(this.xRange[0]));
    for (let i = first; i <= Math.min(this.xRange[1], this.#columns.length); i++) {
      context.moveTo(this.toX(i), TOP);
      context.lineTo(this.toX(i), this.bottom);
    }
    for (let i = 0; i <= this.#cases.length; i++) {
      context.moveTo(this.left, TOP + i * this.rowHeight);
      context.lineTo(this.right, TOP + i * this.rowHeight);
    }
    context.stroke();
  }

  #paintLabels(context, theme) {
    Object.assign(context, { fillStyle: theme.muted, textAlign: "right", textBaseline: "middle" });
    const every = Math.ceil(LEAST_ROW / this.rowHeight);
    const room = Math.floor((this.left - 14) / 6.2);
    this.#cases.forEach((number, row) => {
      if (row % every) return;
      const label = this.#label(number);
      const cut = label.length > room ? `${label.slice(0, room - 1)}…` : label;
      context.fillText(cut, this.left - 8, TOP + (row + 0.5) * this.rowHeight, this.left - 12);
    });
    context.textAlign = "center";
    const count = Math.max(2, (this.right - this.left) / 45);
    for (const i of ticks(this.xRange, count).filter((n) => Number.isInteger(n) && this.#columns[n])) {
      context.fillText(String(this.#columns[i].number), this.toX(i + 0.5), this.bottom + 14);
    }
    context.fillText(`trial, ${this.options.orderWords}`, (this.left + this.right) / 2, this.height - 8);
  }

  paintDrag(context, [from], [to]) {
    context.globalAlpha = 0.2;
    context.fillStyle = this.options.theme.accent;
    context.fillRect(from, TOP, to - from, this.bottom - TOP);
    context.globalAlpha = 1;
  }

  paintSelection(context, selected, against) {
    context.save();
    context.beginPath();
    context.rect(this.left - 2, 0, this.right - this.left + 4, this.height);
    context.clip();
    context.strokeStyle = this.options.theme.ink;
    for (const [number, width] of [[selected, 2.5], [against, 1.5]]) {
      const column = this.#columns.findIndex((t) => t.number === number);
      if (column < 0) continue;
      context.setLineDash(number === against ? [3, 2] : []);
      context.lineWidth = width;
      context.strokeRect(this.toX(column), TOP - 2, Math.max(this.columnWidth, 2), this.bottom - TOP + 4);
    }
    context.restore();
  }
}
