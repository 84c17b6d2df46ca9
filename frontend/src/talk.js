// What the model was asked for a trial and what it replied, read when somebody wants to see it.
import { el, formatCount, formatTime, reveal } from "./format.js";

export class Talk {
  isOpen = false;

  constructor(store) {
    this.store = store;
  }

  make(trial) {
    const body = el("div", {});
    const fill = async () => {
      if (body.childNodes.length) return;
      body.append(el("p", { class: "dim" }, "reading the log …"));
      const calls = await this.store.calls(trial.number).catch((error) => error);
      body.replaceChildren(...(calls instanceof Error ? [`The log cannot be read: ${calls.message}`] : showCalls(calls)));
    };
    const details = el("details", { class: "talk", open: this.isOpen, ontoggle: () => {
      this.isOpen = details.open;
      if (details.open) fill();
    } }, el("summary", {}, "Prompt and reply"), body);
    if (this.isOpen) fill();
    return details;
  }
}

function showCalls(calls) {
  if (!calls.length) return [el("p", { class: "dim" }, "The log that this page was given has no call for this trial.")];
  return calls.map((call, i) => el("div", { class: "call" }, el("h3", {}, describe(call, i, calls.length)), showWords(call)));
}

function describe({ model, time, outcome }, i, count) {
  const at = Date.parse(time ?? "");
  const became = outcome === "proposal" ? "" : outcome;
  return [count > 1 ? `call ${i + 1} of ${count}` : "", reveal(model), Number.isNaN(at) ? "" : formatTime(at / 1000), reveal(became)]
    .filter(Boolean).join(" · ") || "from a record";
}

function showWords({ messages, reply }) {
  const told = messages.map(([role, content]) => [role, content, false]);
  return [...told, ["reply", reply, true]].filter(([, words]) => words).map(([role, words, isOpen]) =>
    el("details", { open: isOpen }, el("summary", {}, `${reveal(role).slice(0, 40)} (${formatCount(words.length)} characters)`),
      el("div", { class: "said" }, el("pre", {}, reveal(words)))));
}
