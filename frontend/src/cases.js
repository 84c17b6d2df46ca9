// What trials have reached in each case, fetched when it is first asked for.

export class Cases {
  #store;
  #byTrial = new Map();
  #version = null;
  #asked = null;

  constructor(store) {
    this.#store = store;
  }

  /** The scores of a trial, by case; undefined where there are none. */
  of(number) {
    return this.#byTrial.get(number);
  }

  /** Read what is new of a study; whether there was anything. */
  load(study) {
    if (this.#version === study.version) return Promise.resolve(false);
    this.#asked ??= this.#read(study).finally(() => (this.#asked = null));
    return this.#asked;
  }

  async #read({ version }) {
    const trials = await this.#store.cases(this.#version ?? "");
    for (const [number, scores] of trials) this.#byTrial.set(number, new Map(scores));
    this.#version = version;
    return trials.length > 0;
  }

  /** What makes a score better: -1 for more, 1 for less, as for the objective that is their mean. */
  findSign(study) {
    for (const trial of study.trials) {
      const scores = [...(this.of(trial.number)?.values() ?? [])];
      if (trial.state !== "COMPLETE" || !scores.length) continue;
      const mean = scores.reduce((sum, n) => sum + n, 0) / scores.length;
      const found = trial.ys.findIndex((y) => Math.abs(y - mean) <= 1e-9 * Math.max(1, Math.abs(mean)));
      return study.signs[Math.max(found, 0)];
    }
    return study.signs[0];
  }

  /** All cases by number, or those first in which the best of the trials is worst. */
  list(study, isHardestFirst) {
    const sign = this.findSign(study);
    const found = new Map();
    for (const scores of this.#byTrial.values()) {
      for (const [number, score] of scores) {
        const known = found.get(number) ?? { number, least: Infinity, sum: 0, count: 0 };
        known.least = Math.min(known.least, sign * score);
        known.sum += sign * score;
        known.count += 1;
        found.set(number, known);
      }
    }
    const order = isHardestFirst
      ? (a, b) => b.least - a.least || b.sum / b.count - a.sum / a.count || a.number - b.number
      : (a, b) => a.number - b.number;
    return [...found.values()].sort(order).map((c) => c.number);
  }
}
