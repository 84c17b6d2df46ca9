// What a person may do to a study from its served page; the token that the server printed allows it.
import { el, formatParam, reveal } from "./format.js";

let token = "";

export class Steering {
  constructor(store) {
    this.store = store;
    this.said = el("p", { class: "said-of-steering", role: "status" });
    this.isOpen = false;
  }

  /** The forms for a trial: its values to be edited, its mark, the study's end. */
  make(trial, detail, study) {
    const key = el("input", { class: "token", value: token, autocomplete: "off", spellcheck: "false", oninput: () => (token = key.value.trim()) });
    const fields = [
      ...Object.entries(detail.texts).map(([name, text]) => makeField(name, text, (attributes) => el("textarea", { rows: 14, spellcheck: "false", ...attributes }, text))),
      ...Object.entries(trial.params ?? {}).map(([name, value]) => makeField(name, value, (attributes) => el("input", { value: typeof value === "string" ? value : formatRaw(value), ...attributes }))),
    ];
    const isMarked = () => study.about.marks.includes(trial.number);
    const act = (words, action, makeBody, isAsked) =>
      el("button", { type: "button", class: action, onclick: () => this.#act(action, makeBody, isAsked) }, words);
    const details = el(
      "details",
      { class: "steer", open: this.isOpen, ontoggle: () => (this.isOpen = details.open) },
      el("summary", {}, "Steer the study"),
      el("label", { class: "field" }, "token that the server printed ", key),
      fields.map((field) => field.element),
      el(
        "div",
        { class: "controls" },
        act("enqueue a trial with these values", "enqueue", () => ({ parent: trial.state === "COMPLETE" ? trial.number : undefined, values: Object.fromEntries(fields.map((f) => [f.name, f.read()])) })),
        act("mark or unmark this trial", "mark", () => ({ number: trial.number, marked: !isMarked() })),
        act("stop the study", "stop", () => ({}), "Stop all workers after the trials that they are running?"),
      ),
      this.said,
    );
    return [details];
  }

  async #act(action, makeBody, isAsked) {
    if (isAsked && !confirm(isAsked)) return;
    this.said.textContent = "…";
    try {
      this.said.textContent = (await this.store.steer(action, token, makeBody())).done;
    } catch (error) {
      this.said.textContent = reveal(error.message);
    }
  }
}

function makeField(name, value, makeInput) {
  const input = makeInput({ "aria-label": reveal(name), "data-name": name });
  const element = el("label", { class: "field" }, `${reveal(name)} `, input);
  // A text area turns line breaks into its own; what was not edited goes back as it was.
  const shown = input.value;
  const unedited = typeof value === "string" ? value : formatRaw(value);
  return { name, element, read: () => (input.value === shown ? unedited : input.value) };
}

function formatRaw(value) {
  return typeof value === "number" ? String(value) : formatParam(value);
}
