// What follows from a study's trials: the best, the front, improvements, totals, pace.
import { toNumber } from "./format.js";

const SOURCES = {
  initial: "initial text",
  model: "model",
  base: "base sampler",
  fallback: "base sampler after an error",
  user: "user",
  tune: "tuner",
  none: "not recorded",
  failed: "no proposal",
};
const USAGE = ["calls", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds"];

export class Study {
  about = null;
  trials = [];

  /** Take in what the store has handed over. */
  update(data) {
    this.about = data.study;
    this.version = data.version;
    if (data.whole) this.trials = [];
    for (const row of data.trials) this.trials[row.number] = prepare(row);
    // A trial of a higher number may arrive before those between.
    this.trials = this.trials.filter(Boolean);
    this.signs = this.about.objectives.map((o) => (o.direction === "maximize" ? -1 : 1));
    this.#derive();
  }

  get isSingle() {
    return this.about.objectives.length === 1;
  }

  find(number) {
    const at = this.trials[number];
    return at?.number === number ? at : this.trials.find((t) => t.number === number);
  }

  /** Trials in the order in which they ended. */
  get finished() {
    return this.trials
      .filter((t) => t.end !== undefined && t.state !== "RUNNING")
      .sort((a, b) => a.end - b.end || a.number - b.number);
  }

  count(state) {
    return this.trials.filter((t) => t.state === state).length;
  }

  /** Less is better: violation first, then the values. */
  compare(a, b) {
    if (a.violated !== b.violated) return a.violated - b.violated;
    for (let i = 0; i < this.signs.length; i++) {
      const difference = this.signs[i] * (a.ys[i] - b.ys[i]);
      if (difference) return difference;
    }
    return 0;
  }

  #dominates(a, b) {
    if (a.violated || b.violated) return a.violated < b.violated;
    const signed = this.signs.map((sign, i) => sign * (a.ys[i] - b.ys[i]));
    return signed.every((d) => d <= 0 || Number.isNaN(d)) && signed.some((d) => d < 0);
  }

  #derive() {
    this.improvements = new Set();
    let best = [];
    const complete = this.finished.filter((t) => t.state === "COMPLETE");
    for (const trial of complete) {
      if (this.isSingle) {
        if (best.length && this.compare(trial, best[0]) >= 0) continue;
        best = [trial];
      } else {
        if (best.some((other) => this.#dominates(other, trial))) continue;
        best = best.filter((other) => !this.#dominates(trial, other));
        best.push(trial);
      }
      this.improvements.add(trial.number);
    }
    this.front = best.sort((a, b) => this.compare(a, b) || a.number - b.number);
    this.best = this.front[0];
    this.frontNumbers = new Set(this.front.map((t) => t.number));
    this.start = this.trials.find((t) => t.source === "initial") ?? complete[0] ?? this.trials[0];
    this.children = new Map();
    for (const { number, parent } of this.trials) {
      if (parent === undefined) continue;
      if (!this.children.has(parent)) this.children.set(parent, []);
      this.children.get(parent).push(number);
    }
    this.#nameProposers();
    this.#accumulate();
  }

  /** Say who proposed each trial; models by name where there are several. */
  #nameProposers() {
    const models = new Set(
      this.trials.filter((t) => t.source === "model").map((t) => t.proposer ?? t.model ?? ""),
    );
    const counts = new Map();
    for (const trial of this.trials) {
      const source = trial.source ?? "none";
      let name = trial.source || !trial.error ? (SOURCES[source] ?? source) : SOURCES.failed;
      if (source === "model" && models.size > 1) name = trial.proposer || trial.model || "unnamed model";
      trial.by = name;
      const known = counts.get(name) ?? { name, source, count: 0 };
      known.count += 1;
      counts.set(name, known);
    }
    this.proposers = [...counts.values()].sort((a, b) => b.count - a.count);
  }

  /** Cost and tokens up to each trial, in order of completion, and in all. */
  #accumulate() {
    const total = { calls: 0, prompt_tokens: 0, cached_tokens: 0, completion_tokens: 0, seconds: 0, cost: 0 };
    const add = (part) => {
      for (const name of USAGE) total[name] += part[name] ?? 0;
      const isFree = !(part.prompt_tokens || part.completion_tokens);
      total.cost += part.cost ?? (isFree ? 0 : NaN);
    };
    for (const trial of [...this.finished, ...this.trials.filter((t) => t.end === undefined)]) {
      add(trial);
      trial.spent = { cost: total.cost, tokens: total.prompt_tokens + total.completion_tokens, calls: total.calls };
    }
    this.about.unclaimed.forEach(add);
    this.total = total;
  }

  /** Trials per hour over the last finished ones, and seconds that the rest will take. */
  get pace() {
    const ends = this.finished.map((t) => t.end).slice(-21);
    if (ends.length < 2) return {};
    const span = Math.max(ends.at(-1) - ends[0], 1e-3);
    const perSecond = (ends.length - 1) / span;
    const planned = this.about.facts.n_trials;
    const left = planned === undefined ? undefined : Math.max(0, planned - this.trials.length);
    return { perHour: perSecond * 3600, left, secondsLeft: left === undefined ? undefined : left / perSecond };
  }

  /** The trial's ancestors, from its parent on. */
  ancestors(number) {
    const line = [];
    const seen = new Set([number]);
    let parent = this.find(number)?.parent;
    while (parent !== undefined && !seen.has(parent)) {
      seen.add(parent);
      line.push(parent);
      parent = this.find(parent)?.parent;
    }
    return line;
  }

  /** What a trial is compared with unless somebody says otherwise. */
  defaultOpponent(trial) {
    if (trial === this.best && this.start !== trial) return this.start?.number;
    if (trial.parent !== undefined && this.find(trial.parent)) return trial.parent;
    return this.start && this.start.number !== trial.number ? this.start.number : undefined;
  }
}

function prepare(row) {
  row.ys = (row.values ?? []).map(toNumber);
  row.violated = toNumber(row.violation) || 0;
  row.isInfeasible = row.violated > 0;
  return row;
}
