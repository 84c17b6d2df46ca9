// One trial: what it is, why, what came of it, and how its text differs from another's.
import { compareTexts, countChanges } from "./diff.js";
import { showDiff, showText } from "./diff_view.js";
import { el, formatChange, formatCount, formatDuration, formatNumber, formatParam, formatTime, plural, reveal } from "./format.js";
import { describeResult } from "./list.js";
import { Talk } from "./talk.js";

const VIEWS = { inline: "inline", sides: "side by side", whole: "whole text" };

export class TrialView {
  #study = null;
  #shown = 0;
  view = "inline";
  byWord = true;

  constructor(select, store, step) {
    Object.assign(this, { select, store, step, talk: new Talk(store) });
    this.element = el("section", { class: "card trial", "aria-label": "Trial", tabindex: "-1" });
  }

  /** Show a trial; resolves when its text is there. */
  async show(study, number, against) {
    this.#study = study;
    const shown = ++this.#shown;
    const trial = study.find(number);
    if (!trial) {
      this.element.replaceChildren(el("p", { class: "empty" }, study.trials.length ? `There is no trial ${number}.` : "No trial has begun yet."));
      return;
    }
    const other = study.find(against);
    let details;
    try {
      details = await Promise.all([trial, other].map((t) => t && this.store.detail(t.number)));
    } catch (error) {
      this.element.replaceChildren(el("p", { class: "empty" }, `Trial ${number} cannot be read: ${error.message}`));
      return;
    }
    if (shown !== this.#shown) return;
    this.#render(trial, other, ...details);
  }

  cycleView() {
    const names = Object.keys(VIEWS).filter((name) => name !== "sides" || !matchMedia("(max-width: 700px)").matches);
    this.view = names[(names.indexOf(this.view) + 1) % names.length];
    this.refresh();
  }

  #render(trial, other, detail, otherDetail) {
    this.refresh = () => this.#render(trial, other, detail, otherDetail);
    const study = this.#study;
    this.element.replaceChildren(
      this.#makeHead(trial, detail),
      ...this.#describeWords(trial, detail),
      ...this.#showTexts(trial, other, detail, otherDetail),
      ...showParams(trial, other, detail),
      ...showReported(detail, otherDetail, other, study.about.cases),
      study.about.has_calls ? this.talk.make(trial) : "",
      ...(this.steering?.make(trial, detail, study) ?? []),
    );
    this.element.dataset.number = trial.number;
    this.element.dataset.against = other?.number ?? "";
  }

  #link(number) {
    return el("button", { type: "button", class: "link", onclick: () => this.select(number) }, `trial ${number}`);
  }

  #makeHead(trial, detail) {
    const study = this.#study;
    const label = trial === study.best && study.isSingle ? "the best" : study.frontNumbers.has(trial.number) && !study.isSingle
      ? "on the front" : trial === study.start ? "the start" : study.improvements.has(trial.number) ? "was the best" : "";
    const parent = study.find(trial.parent);
    const change = study.isSingle && parent?.state === "COMPLETE" && trial.state === "COMPLETE"
      ? ` (${formatChange(trial.ys[0] - parent.ys[0])} against it)` : "";
    const children = study.children.get(trial.number) ?? [];
    const origin = [reveal(trial.by)];
    if (trial.source === "model" && trial.model && reveal(trial.model) !== origin[0]) origin.push(` (${reveal(trial.model)})`);
    if (parent) origin.push(" from ", this.#link(trial.parent), change);
    if (trial.second_parent !== undefined) origin.push(" and ", this.#link(trial.second_parent));
    const facts = [];
    if (trial.end > trial.start) facts.push(`took ${formatDuration(trial.end - trial.start)}`);
    if (trial.end) facts.push(`ended ${formatTime(trial.end)}`);
    if (trial.calls) facts.push(plural(trial.calls, "call"));
    if (trial.prompt_tokens) facts.push(`${formatCount(trial.prompt_tokens)} + ${formatCount(trial.completion_tokens)} tokens`);
    if (trial.cost > 0) facts.push(`cost ${formatNumber(trial.cost, 3)}`);
    if (detail.images) facts.push(`${plural(detail.images, "image")} among its artifacts`);
    const elsewhere = this.store.isServed
      ? [facts.length ? " · " : "", el("a", { href: `${this.store.dashboard}/trials?numbers=${trial.number}` }, "in optuna-dashboard")]
      : [];
    return el(
      "div",
      { class: "head" },
      el(
        "div",
        { class: "row" },
        el("h2", {}, `Trial ${trial.number}`),
        el("span", { class: `result ${trial.state.toLowerCase()}` }, describeResult(trial, study)),
        label ? el("span", { class: "badge" }, label) : null,
        study.about.marks.includes(trial.number) ? el("span", { class: "badge" }, "marked") : null,
        el("span", { class: "grow" }),
        el("button", { type: "button", title: "next in the list (j)", onclick: () => this.step(1) }, "↓"),
        el("button", { type: "button", title: "previous in the list (k)", onclick: () => this.step(-1) }, "↑"),
      ),
      el("p", { class: "origin" }, el("span", { class: `swatch s${this.swatch(trial.by)}` }), origin),
      el("p", { class: "dim" }, facts.join(" · "), elsewhere),
      children.length
        ? el("p", { class: "dim" }, "led to ", children.slice(0, 12).flatMap((n, i) => [i ? ", " : "", this.#link(n)]),
          children.length > 12 ? ` and ${children.length - 12} more` : "")
        : null,
    );
  }

  #describeWords(trial, { rationale, feedback, error, constraints }) {
    const parts = [];
    if (rationale) parts.push(el("blockquote", {}, reveal(rationale)));
    if (error) parts.push(block("The model's proposal was not used", error));
    if (feedback) parts.push(block("Feedback", feedback));
    if (constraints.length) {
      const said = constraints.map(([name, value]) => `${/^\d+$/.test(name) ? `no. ${name}` : reveal(name)}: ${formatNumber(value)}`).join(", ");
      parts.push(el("p", { class: trial.isInfeasible ? "warning" : "dim" }, `${trial.isInfeasible ? "Infeasible" : "Feasible"}. Constraints (violated above 0): ${said}`));
    }
    return parts;
  }

  #showTexts(trial, other, { texts }, otherDetail) {
    const names = Object.keys(texts);
    if (!names.length) return [];
    const before = otherDetail?.texts ?? {};
    const canCompare = names.some((name) => name in before);
    const view = canCompare ? this.view : "whole";
    return [
      this.#makeCompareBar(trial, other, canCompare),
      ...names.flatMap((name) => {
        const now = reveal(texts[name]);
        const copy = el("button", { type: "button", class: "copy", onclick: () => navigator.clipboard?.writeText(texts[name]) }, "copy");
        if (view === "whole" || !(name in before)) {
          return [el("h3", {}, reveal(name), copy), el("div", { class: "scroll" }, showText(now))];
        }
        const blocks = compareTexts(reveal(before[name]), now, this.byWord);
        const { removed, added } = countChanges(blocks);
        const isSame = !removed && !added;
        const said = isSame ? "unchanged" : `−${removed} +${added} lines`;
        return [
          el("h3", {}, reveal(name), el("span", { class: "dim" }, ` ${said}`), copy),
          el("div", { class: "scroll" }, isSame ? showText(now) : showDiff(blocks, view === "sides")),
        ];
      }),
    ];
  }

  #makeCompareBar(trial, other, canCompare) {
    const study = this.#study;
    const choices = new Map();
    const offer = (number, words) => {
      if (number !== undefined && number !== trial.number && study.find(number) && !choices.has(number)) choices.set(number, `${words}: trial ${number}`);
    };
    offer(trial.parent, "parent");
    offer(trial.second_parent, "second parent");
    offer(study.start?.number, "start");
    offer(study.best?.number, "best");
    offer(trial.number - 1, "previous");
    offer(other?.number, "chosen");
    const pick = el(
      "select",
      { "aria-label": "Compare with", onchange: () => pick.value && (pick.value === "?" ? ask() : this.select(trial.number, false, Number(pick.value))) },
      other ? null : el("option", { value: "" }, "nothing"),
      [...choices].map(([number, words]) => el("option", { value: number, selected: number === other?.number }, words)),
      el("option", { value: "?" }, "another trial …"),
    );
    const number = el("input", { type: "number", min: 0, max: study.trials.at(-1).number, hidden: true, "aria-label": "Number of the trial to compare with", onchange: () => this.select(trial.number, false, Number(number.value)) });
    const ask = () => {
      number.hidden = false;
      number.focus();
    };
    const choose = (name, words, isOn, set) =>
      el("button", { type: "button", "aria-pressed": String(isOn), onclick: () => { set(); this.refresh(); } }, words);
    return el(
      "div",
      { class: "controls compare" },
      el("label", {}, "against ", pick), number,
      canCompare
        ? el("span", { class: "group" }, Object.entries(VIEWS).map(([name, words]) => el("button", { type: "button", class: name, "aria-pressed": String(this.view === name), onclick: () => { this.view = name; this.refresh(); } }, words)))
        : null,
      canCompare && this.view !== "whole"
        ? el("span", { class: "group" },
          choose("word", "by word", this.byWord, () => (this.byWord = true)),
          choose("line", "by line", !this.byWord, () => (this.byWord = false)))
        : null,
    );
  }
}

function block(title, text) {
  const shown = reveal(text);
  const isLong = shown.length > 700 || shown.split("\n").length > 10;
  const pre = el("pre", { class: isLong ? "clamped" : "" }, shown);
  const more = el("button", { type: "button", class: "link", onclick: () => { pre.classList.remove("clamped"); more.remove(); } }, "show all");
  return el("div", { class: "said" }, el("h3", {}, title), pre, isLong ? more : null);
}

function showParams(trial, other, detail) {
  const params = Object.entries(trial.params ?? {});
  if (!params.length) return [];
  const before = other?.params ?? {};
  return [
    el("h3", {}, "Parameters"),
    el("div", { class: "scroll" }, el("table", { class: "params" },
      el("thead", {}, el("tr", {}, el("th", {}, "name"), el("th", {}, `trial ${trial.number}`), other ? el("th", {}, `trial ${other.number}`) : null)),
      el("tbody", {}, params.map(([name, value]) =>
        el("tr", { class: other && name in before && before[name] !== value ? "changed" : "" },
          el("td", {}, reveal(name)), el("td", {}, formatParam(value)),
          other ? el("td", {}, name in before ? formatParam(before[name]) : "") : null))))),
  ];
}

/** What was reported by step or by case, as bars from the least to the most. */
function showReported({ reported, cases }, otherDetail, other, names) {
  if (!reported.length) return [];
  const before = new Map(otherDetail?.reported ?? []);
  const values = reported.map(([, v]) => v).filter(Number.isFinite);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const isAbout = Object.keys(cases).length > 0;
  const head = [isAbout ? "case" : "step", "value", "", ...(before.size ? [`trial ${other.number}`] : []), ...(isAbout ? ["said of it"] : [])];
  return [
    el("h3", {}, isAbout ? "Cases" : "Reported values"),
    el("div", { class: "scroll" }, el("table", { class: "params reported" },
      el("thead", {}, el("tr", {}, head.map((words) => el("th", {}, words)))),
      el("tbody", {}, reported.map(([step, value]) => {
        const meter = el("meter", { min: low, max: high === low ? low + 1 : high, value: Number.isFinite(value) ? value : low });
        const isChanged = before.has(step) && before.get(step) !== value;
        return el("tr", { class: isChanged ? "changed" : "" },
          el("td", {}, reveal(names[step] ?? String(step))), el("td", {}, formatNumber(value)), el("td", {}, meter),
          before.size ? el("td", {}, before.has(step) ? formatNumber(before.get(step)) : "") : null,
          isAbout ? el("td", {}, reveal(cases[step] ?? "")) : null);
      })))),
  ];
}
