// The chart: one picture of the study at a time, which can be zoomed and clicked.
import { makeRamp, styleProposers } from "./draw.js";
import { el, formatNumber, reveal } from "./format.js";
import { VIEWS } from "./views.js";

const REACH = 18;
const N_COLORS = 12;

export class Chart {
  #study = null;
  #plot = null;
  #drag = null;
  #hovered = null;
  #theme = {};
  #zoom = null;
  #frame = null;
  #size = [0, 0];
  styles = new Map();
  options = { view: "lineage", x: null, objective: 0, isWhole: false, chosen: new Map() };

  /** `select` is told which trial is clicked, `choose` which range of a parameter is dragged over. */
  constructor(select, choose) {
    Object.assign(this, { select, choose });
    // What a click changes is on a canvas of its own, so that the trials need not be drawn anew.
    this.base = el("canvas", { "aria-hidden": "true" });
    this.canvas = el("canvas", { class: "top", role: "img" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.element = el("div", { class: "chart" }, this.base, this.canvas, this.tip);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.element);
    this.readTheme();
  }

  readTheme() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    const names = { background: "card", ink: "ink", muted: "muted", grid: "line", edge: "edge", accent: "accent", best: "best" };
    this.#theme = Object.fromEntries(Object.entries(names).map(([name, variable]) => [name, read(variable)]));
    this.#theme.colors = Array.from({ length: N_COLORS }, (_, i) => read(`c${i}`));
    for (const name of ["heat", "good"]) this.#theme[name] = makeRamp([0, 1, 2].map((i) => read(name + i)));
  }

  update(study) {
    this.#study = study;
    this.styles = styleProposers(study.proposers, this.#theme.colors);
    this.draw();
  }

  /** Change what is shown; see views.js for the options. */
  set(options) {
    if (options.view && options.view !== this.options.view) this.#zoom = null;
    Object.assign(this.options, options);
    this.draw();
  }

  zoom(factor, center) {
    const [low, high] = this.#zoom ?? this.#findRange();
    const middle = center ?? (low + high) / 2;
    this.#setZoom(middle - (middle - low) * factor, middle + (high - middle) * factor);
  }

  resetZoom() {
    this.#zoom = null;
    this.draw();
  }

  #findRange() {
    return VIEWS[this.options.view].Picture.findRange(this.#study, this.options);
  }

  #setZoom(low, high) {
    const [first, last] = this.#findRange();
    const size = high - low;
    if (size >= last - first) this.#zoom = null;
    else if (size > (last - first) / 1e5) {
      const begin = Math.min(Math.max(low, first), last - size);
      this.#zoom = [begin, begin + size];
    }
    this.draw();
  }

  /** Mark the selected trial, and the one that it is compared with. */
  mark(selected, against) {
    Object.assign(this.options, { selected, against });
    if (this.#frame === null) this.#paintTop();
  }

  /** Draw once, however often this is called until the next frame. */
  draw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#paint();
    });
  }

  #paint() {
    const { width, height } = this.element.getBoundingClientRect();
    if (!this.#study || !width) return;
    const options = { ...this.options, zoom: this.#zoom, styles: this.styles, theme: this.#theme };
    this.#size = [width, height];
    this.#plot = new VIEWS[options.view].Picture(this.#study, width, height, options);
    this.#plot.paint(prepare(this.base, width, height));
    this.#paintTop();
  }

  #paintTop() {
    if (!this.#plot) return null;
    const context = prepare(this.canvas, ...this.#size);
    this.#plot.paintSelection(context, this.options.selected, this.options.against);
    return context;
  }

  #position(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0) this.#drag = this.#position(event);
    });
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerleave", () => {
      this.#drag = null;
      this.#paintTop();
      this.#showTip(null);
    });
    canvas.addEventListener("pointerup", (event) => this.#release(event));
    canvas.addEventListener("dblclick", () => this.resetZoom());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #release(event) {
    const to = this.#position(event);
    const from = this.#drag;
    this.#drag = null;
    if (from !== null && this.#drop(from, to)) return;
    const point = this.#plot?.nearest(...to, REACH);
    if (point) this.select(point.trial.number, event.shiftKey);
  }

  /** Zoom to what was dragged over, or choose it; whether it was more than a click. */
  #drop(from, to) {
    const [across, along] = [0, 1].map((i) => Math.abs(to[i] - from[i]));
    if (this.#plot.choose) {
      if (along <= 8) return false;
      this.#paintTop();
      const range = this.#plot.choose(from, to);
      if (range) this.choose(range);
      return true;
    }
    if (across <= 8) return false;
    const ends = [from, to].map(([x]) => this.#plot.toData(x));
    this.#setZoom(Math.min(...ends), Math.max(...ends));
    return true;
  }

  #wheel(event) {
    if (!VIEWS[this.options.view].hasZoom || !this.#plot) return;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY / 300), this.#plot.toData(this.#position(event)[0]));
    } else if (this.#zoom && Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const [low, high] = this.#zoom;
      const shift = (event.deltaX / this.canvas.clientWidth) * (high - low);
      this.#setZoom(low + shift, high + shift);
    }
  }

  #move(event) {
    const at = this.#position(event);
    if (this.#drag === null) this.#showTip(this.#plot?.nearest(...at, REACH));
    else this.#plot?.paintDrag(this.#paintTop(), this.#drag, at);
  }

  #showTip(point) {
    const hovered = point && `${point.trial.number} ${point.said ?? ""}`;
    if (hovered === this.#hovered) return;
    this.#hovered = hovered;
    this.tip.hidden = !point;
    this.canvas.classList.toggle("hit", Boolean(point));
    if (!point) return;
    const { trial } = point;
    const result = trial.state === "FAIL" ? "failed" : trial.ys.map((v) => formatNumber(v)).join(", ");
    const origin = trial.parent === undefined ? "" : ` from ${trial.parent}`;
    this.tip.replaceChildren(
      el("b", {}, `Trial ${trial.number}`),
      ` ${result}${trial.isInfeasible ? " (infeasible)" : ""}`,
      el("div", {}, reveal(trial.by) + origin),
      el("div", { class: "dim" }, point.said ?? reveal(trial.rationale ?? trial.feedback ?? "")),
    );
    const { width, height } = this.element.getBoundingClientRect();
    const isLow = point.y > height / 2;
    this.tip.style.left = `${Math.min(Math.max(point.x - 130, 4), width - 268)}px`;
    this.tip.style.top = isLow ? "auto" : `${point.y + 14}px`;
    this.tip.style.bottom = isLow ? `${height - point.y + 14}px` : "auto";
  }
}

/** An empty canvas of this size in pixels of the page, whatever those of the screen are. */
function prepare(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return context;
}
