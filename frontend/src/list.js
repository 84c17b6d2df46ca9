// The trials as a list that can be searched, filtered and sorted.
import { el, formatChange, formatNumber, plural, reveal } from "./format.js";

const PAGE = 100;
const FILTERS = {
  all: ["all trials", () => true],
  steps: ["improvements", (t, study) => study.improvements.has(t.number)],
  complete: ["complete", (t) => t.state === "COMPLETE"],
  infeasible: ["infeasible", (t) => t.isInfeasible],
  failed: ["failed", (t) => t.state === "FAIL"],
  pruned: ["pruned", (t) => t.state === "PRUNED"],
  running: ["running", (t) => t.state === "RUNNING" || t.state === "WAITING"],
  marked: ["marked", (t, study) => study.about.marks.includes(t.number)],
};
const ORDERS = {
  newest: ["newest first", (a, b) => b.number - a.number],
  oldest: ["oldest first", (a, b) => a.number - b.number],
  best: ["best first", null],
};

export class TrialList {
  #study = null;
  // The part of the list that is in the page: from one place to another.
  #from = 0;
  #to = PAGE;
  #found = null;
  #asked = 0;
  hidden = new Set();
  // Ranges that were dragged over in the chart, by their label.
  chosen = new Map();
  trials = [];

  constructor(select, store, changed) {
    this.select = select;
    this.store = store;
    this.changed = changed;
    this.query = el("input", {
      type: "search",
      placeholder: "Search texts, rationales, feedback, #12",
      "aria-label": "Search texts, rationales and feedback",
      "aria-keyshortcuts": "/",
    });
    this.filter = makeSelect("Show", FILTERS);
    this.order = makeSelect("Order", ORDERS);
    this.count = el("span", { class: "count", role: "status" });
    this.items = el("ol", { class: "trials" });
    this.less = el("button", { type: "button", class: "more" });
    this.more = el("button", { type: "button", class: "more" });
    this.legend = el("div", { class: "legend", role: "group", "aria-label": "Proposers" });
    this.element = el(
      "section",
      { class: "card list", "aria-label": "Trials" },
      el("div", { class: "controls" }, this.query, this.filter, this.order, this.count),
      this.less,
      this.items,
      this.more,
    );
    let timer;
    this.query.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.search(), 150);
    });
    for (const control of [this.filter, this.order]) control.addEventListener("change", () => this.#refresh());
    this.more.addEventListener("click", () => {
      this.#to += PAGE;
      this.#render();
    });
    this.less.addEventListener("click", () => {
      this.#from = Math.max(0, this.#from - PAGE);
      this.#render();
    });
  }

  update(study) {
    this.#study = study;
    this.#arrange();
    this.#render();
  }

  async search() {
    const asked = ++this.#asked;
    const query = this.query.value.trim();
    const number = /^#(\d+)$/.exec(query);
    let found = null;
    if (number) found = new Set([Number(number[1])]);
    else if (query) found = await this.store.search(query).catch(() => new Set());
    if (asked !== this.#asked) return;
    this.#found = found;
    this.#refresh();
  }

  isShown = (trial) =>
    !this.hidden.has(trial.by) &&
    (!this.#found || this.#found.has(trial.number)) &&
    this.#isChosen(trial) &&
    FILTERS[this.filter.value][1](trial, this.#study);

  #isChosen(trial) {
    for (const range of this.chosen.values()) if (!range.holds(trial)) return false;
    return true;
  }

  get isFiltered() {
    return this.hidden.size > 0 || this.chosen.size > 0 || this.#found !== null || this.filter.value !== "all";
  }

  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.#refresh();
  }

  /** Show only what lies within such a range too; none forgets all ranges. */
  choose(range) {
    if (range) this.chosen.set(range.label, range);
    else this.chosen.clear();
    this.#refresh();
  }

  get isBestFirst() {
    return this.order.value === "best";
  }

  /** The trial so many places after this one in the list. */
  step(number, by) {
    const at = this.trials.findIndex((t) => t.number === number);
    if (at < 0) return this.trials[0]?.number;
    return this.trials[Math.min(Math.max(at + by, 0), this.trials.length - 1)]?.number;
  }

  #refresh() {
    [this.#from, this.#to] = [0, PAGE];
    this.#arrange();
    this.#render();
    this.changed();
  }

  #arrange() {
    const order = ORDERS[this.order.value][1] ?? ((a, b) => this.#compareAny(a, b));
    this.trials = this.#study.trials.filter(this.isShown).sort(order);
    this.count.textContent = this.isFiltered
      ? `${this.trials.length.toLocaleString("en-US")} of ${plural(this.#study.trials.length, "trial")}`
      : plural(this.trials.length, "trial");
  }

  /** Complete trials from the best on, then the others. */
  #compareAny(a, b) {
    const [isA, isB] = [a, b].map((t) => t.state === "COMPLETE");
    if (isA && isB) return this.#study.compare(a, b) || a.number - b.number;
    return isB - isA || a.number - b.number;
  }

  /** Mark the selected trial, and bring it into view within the list. */
  mark(number, isScrolled) {
    this.selected = number;
    for (const item of this.items.querySelectorAll("[aria-current]")) item.removeAttribute("aria-current");
    const at = this.trials.findIndex((t) => t.number === number);
    if (at >= 0 && (at < this.#from || at >= this.#to)) {
      this.#from = Math.max(0, at - PAGE / 2);
      this.#to = this.#from + PAGE;
      this.#render();
    }
    const item = this.items.querySelector(`[data-number="${number}"]`);
    item?.setAttribute("aria-current", "true");
    if (!item || !isScrolled) return;
    // Within the list only: the page stays where it is.
    const top = item.offsetTop - this.items.offsetTop;
    const { scrollTop, clientHeight } = this.items;
    if (top < scrollTop) this.items.scrollTop = top;
    else if (top + item.offsetHeight > scrollTop + clientHeight) this.items.scrollTop = top + item.offsetHeight - clientHeight;
  }

  #render() {
    const shown = this.trials.slice(this.#from, this.#to);
    // Each item is a grid of its own: their columns are as wide as the longest needs.
    const widen = (name, describe, least) => {
      const longest = Math.max(least, ...shown.map((trial) => describe(trial, this.#study).length));
      this.items.style.setProperty(name, longest ? `${Math.min(longest + 1, 40)}ch` : "0px");
    };
    widen("--value", describeResult, 4);
    widen("--change", describeChange, 0);
    this.items.replaceChildren(...shown.map((trial) => this.#makeItem(trial)));
    this.less.hidden = this.#from === 0;
    this.less.textContent = `Show ${Math.min(this.#from, PAGE)} more of the ${this.#from.toLocaleString("en-US")} before`;
    const rest = Math.max(0, this.trials.length - this.#to);
    this.more.hidden = rest === 0;
    this.more.textContent = `Show ${Math.min(rest, PAGE)} more of the ${rest.toLocaleString("en-US")} after`;
    if (this.selected !== undefined) {
      this.items.querySelector(`[data-number="${this.selected}"]`)?.setAttribute("aria-current", "true");
    }
  }

  #makeItem(trial) {
    const study = this.#study;
    const isStep = (study.isSingle ? study.improvements : study.frontNumbers).has(trial.number);
    const words = trial.error && !trial.rationale ? trial.error : trial.rationale || trial.feedback || "";
    return el(
      "li",
      {},
      el(
        "button",
        { type: "button", "data-number": trial.number, onclick: (e) => this.select(trial.number, e.shiftKey) },
        el("span", { class: "number" }, `${trial.number}`),
        el("span", { class: `swatch s${this.swatch(trial.by)}`, title: reveal(trial.by) }),
        el("span", { class: isStep ? "value step" : "value" }, describeResult(trial, study)),
        el("span", { class: "change" }, describeChange(trial, study)),
        el("span", { class: "words" }, reveal(words)),
      ),
    );
  }
}

/** A trial's values, or what became of it. */
export function describeResult(trial, study) {
  const values = trial.ys.map((v) => formatNumber(v, 5)).join(", ");
  if (trial.state === "COMPLETE") return values + (trial.isInfeasible ? " infeasible" : "");
  if (trial.state === "PRUNED") return values ? `${values} pruned` : "pruned";
  return { FAIL: "failed", RUNNING: "running", WAITING: "waiting" }[trial.state] ?? trial.state;
}

function describeChange(trial, study) {
  const parent = study.find(trial.parent);
  if (!study.isSingle || !parent || parent.state !== "COMPLETE" || trial.state !== "COMPLETE") return "";
  const change = trial.ys[0] - parent.ys[0];
  return Number.isFinite(change) ? formatChange(change) : "";
}

function makeSelect(label, options) {
  return el(
    "select",
    { "aria-label": label },
    Object.entries(options).map(([name, [words]]) => el("option", { value: name }, words)),
  );
}
