// The chart: trials by value, with what they came from; zoomable, clickable.
import { drawEdge, drawPoint, drawRing, styleProposers } from "./draw.js";
import { el, formatNumber, reveal } from "./format.js";
import { extent, pad, robustExtent, ticks } from "./scales.js";

const LEFT = 62;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 40;
const LANE = 22;
const REACH = 18;

export class Chart {
  #study = null;
  #points = [];
  #byNumber = new Map();
  #zoom = null;
  #drag = null;
  #hovered = null;
  #theme = {};
  selected;
  against;
  dimmed = () => false;
  x = null;
  objective = 0;
  isWhole = false;

  constructor(select) {
    this.canvas = el("canvas", { role: "img", tabindex: "-1" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.element = el("div", { class: "chart" }, this.canvas, this.tip);
    this.select = select;
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.element);
    this.readTheme();
  }

  readTheme() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    this.#theme = {
      background: read("--card"),
      ink: read("--ink"),
      muted: read("--muted"),
      grid: read("--line"),
      edge: read("--edge"),
      accent: read("--accent"),
      best: read("--best"),
      colors: Array.from({ length: 12 }, (_, i) => read(`--c${i}`)),
    };
  }

  update(study) {
    this.#study = study;
    this.styles = styleProposers(study.proposers, this.#theme.colors);
    this.draw();
  }

  zoom(factor, center) {
    const [low, high] = this.#zoom ?? this.#wholeX();
    const middle = center ?? (low + high) / 2;
    this.#setZoom(middle - (middle - low) * factor, middle + (high - middle) * factor);
  }

  resetZoom() {
    this.#zoom = null;
    this.draw();
  }

  #setZoom(low, high) {
    const [first, last] = this.#wholeX();
    const size = high - low;
    if (size >= last - first) this.#zoom = null;
    else if (size > (last - first) / 1e5) {
      const begin = Math.min(Math.max(low, first), last - size);
      this.#zoom = [begin, begin + size];
    }
    this.draw();
  }

  #wholeX() {
    const xs = this.#study.trials.map(this.x.read).filter(Number.isFinite);
    const range = this.x.robust && !this.isWhole ? robustExtent(xs, this.#kept(this.x.read)) : extent(xs);
    return pad(range ?? [0, 1], 0.02);
  }

  #kept(read) {
    return [...this.#study.front.slice(0, 50), this.#study.start].filter(Boolean).map(read);
  }

  draw() {
    const { width, height } = this.element.getBoundingClientRect();
    if (!this.#study || !width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    this.#lay(width, height);
    this.#drawAxes(context, width, height);
    context.save();
    context.beginPath();
    context.rect(LEFT - 8, 0, width - LEFT - RIGHT + 16, height);
    context.clip();
    this.#drawEdges(context);
    this.#drawBestLine(context);
    this.#drawPoints(context);
    context.restore();
    this.#drawSelection(context, height);
  }

  /** Place each trial. */
  #lay(width, height) {
    const y = (trial) => trial.ys[this.objective];
    const hasLane = this.#study.trials.some((t) => !Number.isFinite(y(t)) || t.state === "FAIL");
    const bottom = height - BOTTOM - (hasLane ? LANE : 0);
    const xRange = this.#zoom ?? this.#wholeX();
    const seen = this.#study.trials.filter((t) => {
      const at = this.x.read(t);
      return at >= xRange[0] && at <= xRange[1] && t.state !== "FAIL";
    });
    const values = seen.map(y).filter(Number.isFinite);
    const range = this.isWhole ? extent(values) : robustExtent(values, this.#zoom ? [] : this.#kept(y));
    const yRange = pad(range ?? [0, 1], 0.06);
    const toX = (n) => LEFT + ((n - xRange[0]) / (xRange[1] - xRange[0])) * (width - LEFT - RIGHT);
    const toY = (n) => TOP + ((yRange[1] - n) / (yRange[1] - yRange[0])) * (bottom - TOP);
    this.#points = [];
    this.#byNumber.clear();
    for (const trial of this.#study.trials) {
      const at = this.x.read(trial);
      if (!Number.isFinite(at)) continue;
      const value = trial.state === "FAIL" ? undefined : y(trial);
      const point = { trial, x: toX(at), y: 0, clipped: 0 };
      if (value === undefined || Number.isNaN(value)) point.y = height - BOTTOM - LANE / 2 + 3;
      else if (value > yRange[1]) Object.assign(point, { y: TOP + 2, clipped: -1 });
      else if (value < yRange[0]) Object.assign(point, { y: bottom - 4, clipped: 1 });
      else point.y = toY(value);
      this.#points.push(point);
      this.#byNumber.set(trial.number, point);
    }
    this.layout = { xRange, yRange, toX, toY, bottom, hasLane };
  }

  #drawAxes(context, width, height) {
    const { xRange, yRange, toX, toY, bottom, hasLane } = this.layout;
    context.strokeStyle = this.#theme.grid;
    context.fillStyle = this.#theme.muted;
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const n of ticks(yRange, (bottom - TOP) / 50)) {
      const y = Math.round(toY(n)) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(width - RIGHT, y);
      context.stroke();
      context.fillText(formatNumber(n, 4), LEFT - 8, y);
    }
    if (hasLane) {
      context.fillText("no value", LEFT - 8, height - BOTTOM - LANE / 2 + 3);
      context.setLineDash([2, 4]);
      context.beginPath();
      context.moveTo(LEFT, bottom + 2.5);
      context.lineTo(width - RIGHT, bottom + 2.5);
      context.stroke();
      context.setLineDash([]);
    }
    context.textAlign = "center";
    for (const n of this.x.ticks(xRange, Math.max(2, (width - LEFT) / 90))) {
      context.fillText(this.x.format(n), toX(n), height - BOTTOM + 14);
    }
    const objective = reveal(this.#study.about.objectives[this.objective].name);
    context.fillText(reveal(this.x.label).slice(0, 60), LEFT + (width - LEFT - RIGHT) / 2, height - 8);
    context.save();
    context.translate(10, TOP + (bottom - TOP) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(objective.slice(0, 40), 0, 0);
    context.restore();
  }

  #drawEdges(context) {
    if (!this.x.line) return;
    const many = this.#points.length > 400;
    context.strokeStyle = this.#theme.edge;
    context.globalAlpha = many ? 0.25 : 0.6;
    context.lineWidth = 1;
    context.beginPath();
    for (const point of this.#points) {
      const from = this.#byNumber.get(point.trial.parent);
      if (from) drawEdge(context, from, point);
      const second = this.#byNumber.get(point.trial.second_parent);
      if (second) drawEdge(context, second, point);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** The best value so far, from left to right; of two objectives the front. */
  #drawBestLine(context) {
    const { toY, yRange } = this.layout;
    context.strokeStyle = this.#theme.best;
    context.lineWidth = 1.5;
    context.beginPath();
    if (this.#study.isSingle && this.x.line) {
      let best = null;
      const line = this.#points.filter((p) => p.trial.state === "COMPLETE" && !p.trial.isInfeasible);
      for (const point of line.sort((a, b) => a.x - b.x)) {
        const y = toY(Math.min(Math.max(point.trial.ys[0], yRange[0]), yRange[1]));
        if (best && this.#study.compare(point.trial, best) >= 0) continue;
        if (best) context.lineTo(point.x, context.lastY);
        if (best) context.lineTo(point.x, y);
        else context.moveTo(point.x, y);
        context.lastY = y;
        best = point.trial;
      }
      if (best) context.lineTo(Math.max(...line.map((p) => p.x)), context.lastY);
    } else if (!this.#study.isSingle && !this.x.line) {
      const front = this.#study.front.map((t) => this.#byNumber.get(t.number)).filter(Boolean);
      front.sort((a, b) => a.x - b.x).forEach((p, i) => (i ? context.lineTo(p.x, p.y) : context.moveTo(p.x, p.y)));
    }
    context.stroke();
  }

  #drawPoints(context) {
    const count = this.#points.length;
    const radius = count > 1000 ? 3 : count > 250 ? 4 : 5;
    this.radius = radius;
    const { best, improvements, frontNumbers, isSingle } = this.#study;
    for (const point of this.#points) {
      const { number } = point.trial;
      context.globalAlpha = this.dimmed(point.trial) ? 0.12 : 1;
      const style = this.styles.get(point.trial.by);
      const isStep = isSingle ? improvements.has(number) : frontNumbers.has(number);
      drawPoint(context, point, style, radius, this.#theme.background);
      if (isStep && point.trial !== best) drawRing(context, point, radius + 2.5, this.#theme.best, 1.3);
    }
    context.globalAlpha = 1;
    const top = isSingle && best && this.#byNumber.get(best.number);
    if (top) {
      drawPoint(context, top, this.styles.get(best.by), radius + 2, this.#theme.background);
      drawRing(context, top, radius + 5, this.#theme.best, 2.5);
    }
  }

  /** The selected trial, where it came from and what came of it. */
  #drawSelection(context, height) {
    const point = this.#byNumber.get(this.selected);
    if (!point || point.x < LEFT - 4) return;
    context.strokeStyle = this.#theme.accent;
    context.lineWidth = 2;
    let child = point;
    context.beginPath();
    for (const number of this.x.line ? this.#study.ancestors(this.selected) : []) {
      const parent = this.#byNumber.get(number);
      if (!parent) break;
      drawEdge(context, parent, child);
      child = parent;
    }
    context.stroke();
    context.setLineDash([3, 3]);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(point.x, point.y + this.radius + 5);
    context.lineTo(point.x, height - BOTTOM);
    context.stroke();
    context.setLineDash([]);
    drawRing(context, point, this.radius + 5, this.#theme.accent, 2.5);
    const other = this.#byNumber.get(this.against);
    if (other && other.x >= LEFT - 4) {
      context.setLineDash([3, 2]);
      drawRing(context, other, this.radius + 5, this.#theme.accent, 1.5);
      context.setLineDash([]);
    }
  }

  #nearest(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let found = null;
    let least = REACH ** 2;
    for (const point of this.#points) {
      const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (distance < least && !this.dimmed(point.trial)) [found, least] = [point, distance];
    }
    return found;
  }

  #toData(event) {
    const box = this.canvas.getBoundingClientRect();
    const { xRange } = this.layout;
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    return xRange[0] + share * (xRange[1] - xRange[0]);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0) this.#drag = event;
    });
    canvas.addEventListener("pointermove", (event) => this.#hover(event));
    canvas.addEventListener("pointerleave", () => this.#showTip(null));
    canvas.addEventListener("pointerup", (event) => {
      const from = this.#drag;
      this.#drag = null;
      if (from && Math.abs(event.clientX - from.clientX) > 8) {
        const ends = [this.#toData(from), this.#toData(event)].sort((a, b) => a - b);
        this.#setZoom(...ends);
        return;
      }
      const point = this.#nearest(event);
      if (point) this.select(point.trial.number, event.shiftKey);
    });
    canvas.addEventListener("dblclick", () => this.resetZoom());
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        this.zoom(Math.exp(event.deltaY / 300), this.#toData(event));
      } else if (this.#zoom && Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        event.preventDefault();
        const [low, high] = this.#zoom;
        const shift = (event.deltaX / canvas.clientWidth) * (high - low);
        this.#setZoom(low + shift, high + shift);
      }
    }, { passive: false });
  }

  #hover(event) {
    if (this.#drag) {
      this.draw();
      const context = this.canvas.getContext("2d");
      const box = this.canvas.getBoundingClientRect();
      const from = this.#drag.clientX - box.left;
      context.globalAlpha = 0.15;
      context.fillStyle = this.#theme.accent;
      context.fillRect(from, TOP, event.clientX - box.left - from, box.height - TOP - BOTTOM);
      context.globalAlpha = 1;
      return;
    }
    this.#showTip(this.#nearest(event));
  }

  #showTip(point) {
    if (point === this.#hovered) return;
    this.#hovered = point;
    this.tip.hidden = !point;
    this.canvas.classList.toggle("hit", Boolean(point));
    if (!point) return;
    const { trial } = point;
    const values = trial.state === "FAIL" ? "failed" : trial.ys.map((v) => formatNumber(v)).join(", ");
    const from = trial.parent === undefined ? "" : ` from ${trial.parent}`;
    this.tip.replaceChildren(
      el("b", {}, `Trial ${trial.number}`), ` ${values}${trial.isInfeasible ? " (infeasible)" : ""}`,
      el("div", {}, reveal(trial.by) + from),
      el("div", { class: "dim" }, reveal(trial.rationale ?? trial.feedback ?? "")),
    );
    const box = this.element.getBoundingClientRect();
    const left = Math.min(Math.max(point.x - 130, 4), box.width - 268);
    this.tip.style.left = `${left}px`;
    if (point.y > box.height / 2) {
      this.tip.style.top = "auto";
      this.tip.style.bottom = `${box.height - point.y + 14}px`;
    } else {
      this.tip.style.bottom = "auto";
      this.tip.style.top = `${point.y + 14}px`;
    }
  }
}
