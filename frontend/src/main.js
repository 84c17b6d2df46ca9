// The study page: what is selected, and who is told of it.
import { Chart } from "./chart.js";
import { el, reveal } from "./format.js";
import { TrialList } from "./list.js";
import { Overview } from "./overview.js";
import { xAxes } from "./scales.js";
import { Steering } from "./steer.js";
import { openStore } from "./store.js";
import { Study } from "./study.js";
import { TrialView } from "./trial.js";

class Page {
  constructor() {
    this.store = openStore();
    this.study = new Study();
    const select = (number, isOther, against) => this.select(number, isOther, against);
    this.overview = new Overview(select, this.store);
    this.chart = new Chart(select);
    this.list = new TrialList(select, this.store, () => this.refilter());
    this.view = new TrialView(select, this.store, (by) => this.step(by));
    if (this.store.isServed) this.view.steering = new Steering(this.store);
    this.list.swatch = this.view.swatch = (name) => this.chart.styles.get(name)?.index ?? 6;
    this.xAxis = el("select", { "aria-label": "Horizontal axis" });
    this.objective = el("select", { "aria-label": "Objective", hidden: true });
    this.range = el("button", { type: "button", "aria-pressed": "false", title: "Show outliers at their place" }, "full range");
    const button = (words, title, act) => el("button", { type: "button", title, "aria-label": title, onclick: act }, words);
    const bar = el(
      "div",
      { class: "controls" },
      el("label", {}, "by ", this.xAxis),
      this.objective,
      el("span", { class: "grow" }),
      this.range,
      el("span", { class: "group" },
        button("−", "Zoom out", () => this.chart.zoom(2)),
        button("+", "Zoom in", () => this.chart.zoom(0.5)),
        button("all", "Show all trials", () => this.chart.resetZoom())),
    );
    this.legend = el("div", { class: "legend", role: "group", "aria-label": "Proposers" });
    document.body.append(
      this.overview.element,
      el("main", {},
        el("section", { class: "card plot", "aria-label": "Chart" }, bar, this.chart.element, this.legend),
        this.view.element,
        this.list.element),
      el("footer", {}, el("kbd", {}, "j"), " ", el("kbd", {}, "k"), " next and previous trial, ", el("kbd", {}, "/"), " search, ",
        el("kbd", {}, "d"), " how to compare. Shift-click compares with a trial. Drag over the chart to zoom, double-click for all."),
    );
    this.#listen();
  }

  #listen() {
    addEventListener("hashchange", () => this.readHash());
    addEventListener("keydown", (event) => this.#press(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.chart.readTheme();
      this.chart.update(this.study);
    });
    this.xAxis.addEventListener("change", () => {
      this.chart.options.x = this.axes.get(this.xAxis.value);
      this.chart.resetZoom();
    });
    this.objective.addEventListener("change", () => this.chart.set({ objective: Number(this.objective.value) }));
    this.range.addEventListener("click", () => {
      const isWhole = !this.chart.options.isWhole;
      this.range.setAttribute("aria-pressed", String(isWhole));
      this.chart.set({ isWhole });
    });
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = {
      j: () => this.step(1),
      k: () => this.step(-1),
      d: () => this.view.cycleView?.(),
      "/": () => this.list.query.focus(),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  async start() {
    this.overview.state.textContent = "reading the study …";
    this.receive(await this.store.load());
    requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("shown")));
    if (this.store.isServed) {
      this.store.poll((data, isReached) => {
        if (data) this.receive(data);
        this.overview.showState(this.study, this.store, isReached);
      }, () => this.study.count("RUNNING") > 0 || this.study.trials.length === 0);
    }
  }

  /** Take in what is new, and show it everywhere. */
  receive(data) {
    const known = this.study.find(this.selected);
    this.study.update(data);
    this.overview.update(this.study);
    this.overview.showState(this.study, this.store, true);
    this.#updateAxes();
    this.chart.update(this.study);
    this.#updateLegend();
    this.list.update(this.study);
    this.refilter();
    // What somebody reads stays as it is, unless it has changed.
    const changed = data.trials.some((t) => t.number === this.selected || t.number === this.opponent);
    const isBehind = !this.isChosen && this.study.best?.number !== this.selected;
    const isEdited = known && this.view.steering?.isOpen;
    if (!isEdited && (!known || changed || isBehind)) this.readHash();
  }

  #updateAxes() {
    this.axes = xAxes(this.study);
    const names = [...this.axes.keys()];
    if (names.join() !== this.axisNames) {
      this.axisNames = names.join();
      const kept = this.axes.has(this.xAxis.value) ? this.xAxis.value : "trial";
      this.xAxis.replaceChildren(...names.map((name) => el("option", { value: name }, reveal(this.axes.get(name).label).slice(0, 60))));
      const { objectives } = this.study.about;
      if (objectives.length > 1 && !this.objective.options.length) {
        this.objective.append(...objectives.map((o, i) => el("option", { value: i }, reveal(o.name).slice(0, 60))));
        this.objective.hidden = false;
        this.chart.options.objective = 1;
        this.objective.value = 1;
        this.xAxis.value = "value:0";
      } else {
        this.xAxis.value = kept;
      }
    }
    this.chart.options.x = this.axes.get(this.xAxis.value);
  }

  #updateLegend() {
    this.legend.replaceChildren(
      ...this.study.proposers.map(({ name, count }) =>
        el("button", {
          type: "button",
          "aria-pressed": String(!this.list.hidden.has(name)),
          title: "Show or hide",
          onclick: () => { this.list.toggle(name); this.#updateLegend(); },
        }, el("span", { class: `swatch s${this.list.swatch(name)}` }), `${reveal(name)} ${count.toLocaleString("en-US")}`)),
      ...this.#describeMarks().map(([mark, words]) => el("span", { class: "key" }, el("span", { class: `mark ${mark}` }), words)),
    );
  }

  #describeMarks() {
    const { study } = this;
    const marks = [["ring", study.isSingle ? "improvement" : "on the front"]];
    if (study.isSingle) marks.push(["line", "best so far"]);
    if (study.count("FAIL")) marks.push(["cross", "failed"]);
    if (study.trials.some((t) => t.state === "PRUNED")) marks.push(["hollow", "pruned"]);
    if (study.trials.some((t) => t.isInfeasible)) marks.push(["struck", "infeasible"]);
    return marks;
  }

  refilter() {
    this.chart.set({ isDimmed: (trial) => this.list.isFiltered && !this.list.isShown(trial) });
  }

  step(by) {
    const number = this.list.step(this.selected, by);
    if (number !== undefined) this.select(number);
  }

  /** Choose a trial; with `isOther`, the one that the chosen trial is compared with. */
  select(number, isOther = false, against = undefined) {
    const hash = isOther && this.selected !== undefined
      ? `#trial=${this.selected}&against=${number}`
      : `#trial=${number}${against === undefined ? "" : `&against=${against}`}`;
    try {
      history.pushState(null, "", hash);
      this.readHash();
    } catch {
      // A page inside a notebook has no address of its own.
      this.readHash(hash);
    }
  }

  readHash(hash = location.hash) {
    const query = new URLSearchParams(hash.slice(1));
    const wanted = /^\d+$/.test(query.get("trial") ?? "") ? Number(query.get("trial")) : undefined;
    this.isChosen = wanted !== undefined;
    const { study } = this;
    const number = wanted ?? study.best?.number ?? study.trials.at(-1)?.number;
    const trial = study.find(number);
    const other = query.get("against");
    this.selected = number;
    this.opponent = /^\d+$/.test(other ?? "") ? Number(other) : trial && study.defaultOpponent(trial);
    this.chart.mark(this.selected, this.opponent);
    this.chart.canvas.setAttribute("aria-label", `Trials by value; trial ${number} is selected. The list below has the same trials.`);
    this.list.mark(number, this.isChosen);
    this.shown = this.view.show(study, number, this.opponent);
    return this.shown;
  }
}

new Page().start().catch((error) => {
  document.body.append(el("p", { class: "empty", role: "alert" }, `This page cannot be shown: ${error.message}`));
});
