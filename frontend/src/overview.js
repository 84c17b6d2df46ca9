// What is to be known at a glance: the study's name and task, and its figures.
import { el, formatChange, formatCount, formatDuration, formatNumber, formatTime, plural, reveal } from "./format.js";

export class Overview {
  constructor(select, store) {
    this.select = select;
    this.title = el("h1", {});
    this.aim = el("p", { class: "aim" });
    this.task = el("p", { class: "task" });
    this.state = el("span", { class: "state", role: "status" });
    this.links = el("nav", { "aria-label": "Other pages" });
    if (store.isServed) this.links.append(el("a", { href: store.dashboard }, "optuna-dashboard"));
    this.tiles = el("dl", { class: "tiles" });
    this.insights = el("ul", {});
    // On a phone it would fill the screen.
    const isOpen = !matchMedia("(max-width: 700px)").matches;
    this.learned = el("details", { class: "card insights", hidden: true, open: isOpen }, el("summary", {}, "What the model has learned so far"), this.insights);
    this.element = el(
      "header",
      {},
      el("div", { class: "bar" }, el("div", { class: "names" }, this.title, this.aim), this.state, this.links),
      this.task,
      this.tiles,
      this.learned,
    );
    this.task.addEventListener("click", () => this.task.classList.toggle("open"));
  }

  update(study) {
    const { about } = study;
    const name = reveal(about.name);
    document.title = name;
    this.title.textContent = name;
    this.aim.textContent = about.objectives
      .map((o) => `${o.direction === "maximize" ? "maximize" : "minimize"} ${reveal(o.name)}`)
      .join(", ");
    this.task.textContent = reveal(about.task);
    this.task.hidden = !about.task;
    this.learned.hidden = !about.insights.length;
    this.insights.replaceChildren(...about.insights.map((line) => el("li", {}, reveal(line))));
    this.tiles.replaceChildren(
      ...[
        ...this.#describeBest(study),
        ...describeTrials(study),
        ...describePace(study),
        ...describeSpent(study.total),
      ].map(([label, value, note]) =>
        el("div", {}, el("dt", {}, label), el("dd", { class: "value" }, value), el("dd", { class: "note" }, note ?? "")),
      ),
    );
  }

  #link(number, text) {
    return el("a", { href: `#trial=${number}`, onclick: (event) => {
      event.preventDefault();
      this.select(number);
    } }, text ?? `trial ${number}`);
  }

  #describeBest(study) {
    const { best, start, front } = study;
    if (!best) return [["Best", "–", "no complete trial yet"]];
    if (!study.isSingle) {
      const note = best.isInfeasible ? "no trial is feasible yet" : "not dominated by any other";
      return [["Pareto front", plural(front.length, "trial"), note], ...study.about.objectives.map((objective, i) => {
        const top = [...front].sort((a, b) => study.signs[i] * (a.ys[i] - b.ys[i]))[0];
        return [`Best ${reveal(objective.name).slice(0, 40)}`, formatNumber(top.ys[i]), this.#link(top.number)];
      })];
    }
    const tiles = [["Best", formatNumber(best.ys[0]), el("span", {}, this.#link(best.number),
      best.isInfeasible ? " (infeasible)" : ` by ${reveal(best.by)}`)]];
    if (start?.state === "COMPLETE" && start !== best) {
      const change = best.ys[0] - start.ys[0];
      const share = Number.isFinite(change / start.ys[0]) ? ` (${formatChange(100 * change / Math.abs(start.ys[0]))} %)` : "";
      tiles.push(["Since the start", formatChange(change), el("span", {}, "from ", this.#link(start.number, formatNumber(start.ys[0])), share)]);
    }
    return tiles;
  }

  showState(study, store, isReached) {
    const running = study.count("RUNNING");
    const parts = store.isServed
      ? [isReached ? "live" : "no answer from the server; trying again"]
      : [`as of ${formatTime(store.written)}`];
    if (running) parts.push(`${running} running`);
    this.state.textContent = parts.join(" · ");
    this.state.classList.toggle("live", store.isServed && isReached);
    this.state.classList.toggle("lost", !isReached);
  }
}

function describeTrials(study) {
  const complete = study.count("COMPLETE");
  const others = [["FAIL", "failed"], ["PRUNED", "pruned"], ["RUNNING", "running"], ["WAITING", "waiting"]]
    .map(([state, word]) => [study.count(state), word])
    .filter(([count]) => count);
  const infeasible = study.trials.filter((t) => t.isInfeasible).length;
  if (infeasible) others.push([infeasible, "infeasible"]);
  const planned = study.about.facts.n_trials;
  const total = study.trials.length.toLocaleString("en-US");
  return [[
    "Trials",
    planned === undefined ? total : `${total} / ${planned.toLocaleString("en-US")}`,
    [`${complete.toLocaleString("en-US")} complete`, ...others.map(([count, word]) => `${count.toLocaleString("en-US")} ${word}`)].join(", "),
  ]];
}

function describePace(study) {
  const { perHour, left, secondsLeft } = study.pace;
  // Trials that were added, or that take no time, have no pace.
  if (perHour === undefined || perHour > 1e6) return [];
  const rate = perHour >= 120 ? `${formatNumber(perHour / 60, 3)} / min` : `${formatNumber(perHour, 3)} / h`;
  let note = "over the last 20 trials";
  if (left) note = `${plural(left, "trial")} left: ${formatDuration(secondsLeft)}`;
  else if (left === 0) note = "all planned trials are done";
  return [["Rate", rate, note]];
}

function describeSpent(total) {
  if (!total.calls) return [];
  const tokens = total.prompt_tokens + total.completion_tokens;
  const tiles = [["Model", plural(total.calls, "call"), total.seconds >= 0.1 ? `${formatDuration(total.seconds)} of waiting` : ""]];
  if (!tokens) return tiles;
  const cached = total.cached_tokens ? ` (${formatCount(total.cached_tokens)} cached)` : "";
  tiles.push(["Tokens", formatCount(tokens), `${formatCount(total.prompt_tokens)} sent${cached}, ${formatCount(total.completion_tokens)} received`]);
  tiles.push(["Cost", Number.isNaN(total.cost) ? "unknown" : formatNumber(total.cost, 3), Number.isNaN(total.cost) ? "for lack of prices=" : ""]);
  return tiles;
}
