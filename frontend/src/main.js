// The study page: what is selected, and who is told of it.
import { el } from "./format.js";
import { TrialList } from "./list.js";
import { Overview } from "./overview.js";
import { ChartPanel } from "./panel.js";
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
    this.list = new TrialList(select, this.store, () => this.panel.refilter());
    this.panel = new ChartPanel(select, this.store, this.list, (view) => this.choosePicture(view));
    this.view = new TrialView(select, this.store, (by) => this.step(by));
    if (this.store.isServed) this.view.steering = new Steering(this.store);
    this.list.swatch = this.view.swatch = (name) => this.panel.chart.styles.get(name)?.index ?? 6;
    document.body.append(
      this.overview.element,
      el("main", {},
        this.panel.element,
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
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.panel.readTheme());
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
    this.panel.prepare(this.study);
    this.list.update(this.study);
    this.panel.update(this.study);
    // What somebody reads stays as it is, unless it has changed.
    const changed = data.trials.some((t) => t.number === this.selected || t.number === this.opponent);
    const isBehind = !this.isChosen && this.study.best?.number !== this.selected;
    const isEdited = known && this.view.steering?.isOpen;
    if (!isEdited && (!known || changed || isBehind)) this.readHash();
  }

  step(by) {
    const number = this.list.step(this.selected, by);
    if (number !== undefined) this.select(number);
  }

  /** Choose a trial; with `isOther`, the one that the chosen trial is compared with. */
  select(number, isOther = false, against = undefined) {
    const hash = isOther && this.selected !== undefined
      ? makeHash({ trial: this.selected, against: number, view: this.panel.name })
      : makeHash({ trial: number, against, view: this.panel.name });
    this.readHash(keepHash("pushState", hash));
  }

  /** Show another picture in the chart, as the address tells from then on. */
  choosePicture(view) {
    const query = new URLSearchParams(location.hash.slice(1));
    keepHash("replaceState", makeHash({ trial: query.get("trial"), against: query.get("against"), view }));
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
    const view = query.get("view") ?? "lineage";
    if (view !== this.panel.name) this.panel.show(view);
    this.panel.chart.mark(this.selected, this.opponent);
    this.panel.chart.canvas.setAttribute("aria-label", `${this.panel.label}; trial ${number} is selected. The list below has the same trials.`);
    this.list.mark(number, this.isChosen);
    this.shown = this.view.show(study, number, this.opponent);
    return this.shown;
  }
}

function makeHash({ trial, against, view }) {
  const parts = { trial, against, view: view === "lineage" ? undefined : view };
  return `#${Object.entries(parts).filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => `${name}=${value}`).join("&")}`;
}

/** Put it into the address, where the page has one of its own: inside a notebook it has not. */
function keepHash(way, hash) {
  try {
    history[way](null, "", hash);
  } catch {
    // What was chosen is shown all the same.
  }
  return hash;
}

new Page().start().catch((error) => {
  document.body.append(el("p", { class: "empty", role: "alert" }, `This page cannot be shown: ${error.message}`));
});
