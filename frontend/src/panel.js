// The chart with its controls: which picture, which axes, and what its marks mean.
import { Cases } from "./cases.js";
import { Chart } from "./chart.js";
import { el, reveal } from "./format.js";
import { findHeight } from "./heat.js";
import { xAxes } from "./scales.js";
import { VIEWS } from "./views.js";

export class ChartPanel {
  #study = null;
  #axes = new Map();
  #isHardestFirst = false;
  #legend = "";

  /** `changed` is called when another picture was chosen. */
  constructor(select, store, list, changed) {
    Object.assign(this, { list, changed });
    this.cases = new Cases(store);
    this.chart = new Chart(select, (range) => this.list.choose(range));
    this.view = makeSelect("Picture", () => this.show(this.view.value, true));
    this.xAxis = makeSelect("Horizontal axis", () => {
      this.chart.options.x = this.#axes.get(this.xAxis.value);
      this.chart.resetZoom();
    });
    this.by = el("label", {}, "by ", this.xAxis);
    this.objective = makeSelect("Objective", () => this.chart.set({ objective: Number(this.objective.value) }));
    this.range = makeToggle("full range", "Show outliers at their place", (isWhole) => this.chart.set({ isWhole }));
    this.hardest = makeToggle("hardest first", "Cases first in which the best trial is worst", (isOn) => {
      this.#isHardestFirst = isOn;
      this.refilter();
    });
    this.clear = el("button", { type: "button", hidden: true, onclick: () => this.list.choose(null) });
    const button = (words, title, act) => el("button", { type: "button", title, "aria-label": title, onclick: act }, words);
    this.zoom = el("span", { class: "group" },
      button("−", "Zoom out", () => this.chart.zoom(2)),
      button("+", "Zoom in", () => this.chart.zoom(0.5)),
      button("all", "Show all trials", () => this.chart.resetZoom()));
    this.legend = el("div", { class: "legend", role: "group", "aria-label": "Proposers" });
    const bar = el("div", { class: "controls" }, this.view, this.by, this.objective, this.hardest, this.clear,
      el("span", { class: "grow" }), this.range, this.zoom);
    this.element = el("section", { class: "card plot", "aria-label": "Chart" }, bar, this.chart.element, this.legend);
  }

  /** What the chart shows, in words. */
  get label() {
    return this.view.selectedOptions[0]?.text ?? "";
  }

  /** Give the proposers their colors, which others use too. */
  prepare(study) {
    this.#study = study;
    this.chart.update(study);
  }

  /** Take in what is new, once the list has. */
  update(study) {
    fill(this.view, Object.entries(VIEWS).filter(([, view]) => view.isOffered(study)).map(([name, { label }]) => [name, label]));
    if (study.about.objectives.length > 1 && !this.objective.options.length) {
      fill(this.objective, study.about.objectives.map(({ name }, i) => [String(i), reveal(name).slice(0, 60)]));
      this.objective.value = "1";
      this.chart.options.objective = 1;
      this.chosenAxis = "value:0";
    }
    this.show(this.name ?? "lineage");
  }

  /** Show a picture, with the controls that it has. */
  show(name, isChosen = false) {
    const study = this.#study;
    if (!Object.hasOwn(VIEWS, name) || !VIEWS[name].isOffered(study)) return;
    const view = VIEWS[name];
    if (isChosen) this.changed(name);
    this.name = name;
    this.view.value = name;
    this.#fillAxes(view);
    this.by.hidden = !view.axes;
    this.objective.hidden = study.isSingle || Boolean(view.isForCases);
    this.range.hidden = !view.hasRange;
    this.zoom.hidden = !view.hasZoom;
    this.hardest.hidden = !view.isForCases;
    this.chart.set({ view: name });
    this.refilter();
    if (view.isForCases) this.#loadCases();
  }

  /** The axes that a picture can have; the one that was chosen is kept where it can be. */
  #fillAxes(view) {
    if (!view.axes) return;
    this.#axes = xAxes(this.#study);
    const names = [...this.#axes].filter(([, axis]) => view.axes === "all" || axis.line);
    const kept = this.chosenAxis ?? this.xAxis.value;
    this.chosenAxis = undefined;
    fill(this.xAxis, names.map(([name, axis]) => [name, reveal(axis.label).slice(0, 60)]));
    this.xAxis.value = names.some(([name]) => name === kept) ? kept : "trial";
    this.chart.options.x = this.#axes.get(this.xAxis.value);
  }

  async #loadCases() {
    const isNew = await this.cases.load(this.#study).catch(() => false);
    if (isNew && VIEWS[this.name].isForCases) this.refilter();
  }

  /** Draw anew what depends on which trials are shown. */
  refilter() {
    const { list } = this;
    const isForCases = VIEWS[this.name]?.isForCases;
    const rows = isForCases ? this.cases.list(this.#study, this.#isHardestFirst) : [];
    this.chart.element.style.height = isForCases ? `${findHeight(rows.length)}px` : "";
    this.clear.hidden = !list.chosen.size;
    this.clear.textContent = `clear ${[...list.chosen.keys()].join(", ").slice(0, 40)}`;
    this.chart.set({
      rows,
      cases: this.cases,
      sign: isForCases ? this.cases.findSign(this.#study) : 1,
      shown: isForCases ? this.#listShown() : [],
      orderWords: list.isBestFirst ? "the best first" : "in order",
      chosen: list.chosen,
      isDimmed: (trial) => list.isFiltered && !list.isShown(trial),
      isHidden: (name) => list.hidden.has(name),
    });
    this.#updateLegend();
  }

  #listShown() {
    const shown = [...this.list.trials];
    return this.list.isBestFirst ? shown : shown.sort((a, b) => a.number - b.number);
  }

  readTheme() {
    this.chart.readTheme();
    if (this.#study) this.chart.update(this.#study);
  }

  #updateLegend() {
    const { ramp } = VIEWS[this.name];
    const { proposers } = this.#study;
    const marks = this.#describeMarks();
    const shown = JSON.stringify([proposers, marks, ramp]);
    // Made anew only where it must be: somebody may be about to press a button of it.
    if (shown !== this.#legend) {
      this.#legend = shown;
      this.legend.replaceChildren(
        ...proposers.map((proposer) => this.#makeKey(proposer)),
        ...marks.map(([mark, words]) => el("span", { class: "key" }, el("span", { class: `mark ${mark}` }), words)),
        ...(ramp ? [el("span", { class: "key" }, "worse", el("span", { class: `ramp ${ramp}` }), "better")] : []),
      );
    }
    proposers.forEach(({ name }, i) => this.legend.children[i].setAttribute("aria-pressed", String(!this.list.hidden.has(name))));
  }

  #makeKey({ name, count }) {
    return el(
      "button",
      { type: "button", title: "Show or hide", onclick: () => this.list.toggle(name) },
      el("span", { class: `swatch s${this.list.swatch(name)}` }),
      `${reveal(name)} ${count.toLocaleString("en-US")}`,
    );
  }

  #describeMarks() {
    const study = this.#study;
    if (this.name !== "lineage") return [];
    const marks = [["ring", study.isSingle ? "improvement" : "on the front"]];
    if (study.isSingle) marks.push(["line", "best so far"]);
    if (study.count("FAIL")) marks.push(["cross", "failed"]);
    if (study.trials.some((t) => t.state === "PRUNED")) marks.push(["hollow", "pruned"]);
    if (study.trials.some((t) => t.isInfeasible)) marks.push(["struck", "infeasible"]);
    return marks;
  }
}

function makeSelect(label, act) {
  return el("select", { "aria-label": label, onchange: act });
}

function makeToggle(words, title, act) {
  return el("button", { type: "button", "aria-pressed": "false", title, onclick: ({ currentTarget }) => {
    const isOn = currentTarget.getAttribute("aria-pressed") !== "true";
    currentTarget.setAttribute("aria-pressed", String(isOn));
    act(isOn);
  } }, words);
}

/** Offer these choices; nothing changes where they are offered already. */
function fill(select, choices) {
  const names = JSON.stringify(choices);
  if (select.choices === names) return;
  select.choices = names;
  const kept = select.value;
  select.replaceChildren(...choices.map(([value, words]) => el("option", { value }, words)));
  if (choices.some(([value]) => value === kept)) select.value = kept;
}
