// Parameters and objectives as upright axes, those first that tell most of the value.
import { formatNumber, formatParam, reveal } from "./format.js";
import { extent, robustExtent, ticks } from "./scales.js";

const GROUPS = 6;
const MAX_NAMES = 60;
const MAX_CATEGORIES = 12;

/** An axis: `place` puts a trial on it, from 0 at the bottom to 1; undefined where it has no value. */
class Axis {
  constructor(label, trials, read) {
    Object.assign(this, { label: reveal(label), read });
    const values = trials.map(read).filter((v) => v !== undefined);
    this.isNumber = values.every((v) => typeof v === "number");
    if (this.isNumber) this.range = extent(values.filter(Number.isFinite)) ?? [0, 1];
    else this.categories = [...new Set(values.map(formatParam))].sort().slice(0, MAX_CATEGORIES);
  }

  get isLog() {
    return this.wantsLog && this.isNumber && this.range[0] > 0 && this.range[1] > this.range[0];
  }

  place(trial) {
    const value = this.read(trial);
    return value === undefined ? undefined : this.toShare(value);
  }

  toShare(value) {
    if (!this.isNumber) {
      const at = this.categories.indexOf(formatParam(value));
      return at < 0 ? undefined : (at + 0.5) / this.categories.length;
    }
    if (!Number.isFinite(value)) return undefined;
    const scale = this.isLog ? Math.log : (n) => n;
    const [low, high] = this.range.map(scale);
    const share = high > low ? (scale(value) - low) / (high - low) : 0.5;
    // An outlier stands at the end.
    return Math.min(Math.max(share, 0), 1);
  }

  /** The values between two places: whether a trial is there, and where they are on a later axis. */
  between(from, to) {
    if (!this.isNumber) {
      const names = this.categories.filter((_, i) => {
        const at = (i + 0.5) / this.categories.length;
        return at >= from && at <= to;
      });
      return { label: this.label, holds: (t) => names.includes(formatParam(this.read(t))), from, to };
    }
    const [low, high] = this.range;
    const toValue = (share) => (this.isLog ? low * (high / low) ** share : low + share * (high - low));
    // The ends hold what lies beyond them, too.
    const least = from <= 0 ? -Infinity : toValue(from);
    const most = to >= 1 ? Infinity : toValue(to);
    return { label: this.label, holds: (t) => this.read(t) >= least && this.read(t) <= most, least, most };
  }

  /** Where such values are. */
  ends({ least, most, from, to }) {
    if (least === undefined) return [from, to];
    return [least === -Infinity ? 0 : this.toShare(least), most === Infinity ? 1 : this.toShare(most)];
  }

  /** Values to name, each with its place. */
  ticks(count) {
    if (!this.isNumber) {
      return this.categories.map((name, i) => [name, (i + 0.5) / this.categories.length]);
    }
    const [low, high] = this.range;
    const between = this.isLog ? powers(low, high) : ticks(this.range, count);
    const places = [[low, 0], [high, 1], ...between.map((n) => [n, this.toShare(n)])];
    const kept = [];
    for (const [n, at] of low === high ? [[low, 0.5]] : places) {
      if (kept.every(([, other]) => Math.abs(other - at) > 0.09)) kept.push([formatNumber(n, 3), at]);
    }
    return kept;
  }
}

function powers(low, high) {
  const found = [];
  for (let e = Math.ceil(Math.log10(low)); 10 ** e <= high; e++) found.push(10 ** e);
  return found;
}

/** Axes for all objectives and for so many parameters, the latter from the strongest on. */
export function makeAxes(study, { objective, isWhole }, count) {
  const complete = study.trials.filter((t) => t.state === "COMPLETE");
  const targets = study.about.objectives.map(({ name }, i) => {
    const axis = new Axis(name, complete, (t) => (Number.isFinite(t.ys[i]) ? t.ys[i] : undefined));
    const kept = study.front.slice(0, 50).map((t) => t.ys[i]);
    if (!isWhole) axis.range = robustExtent(complete.map((t) => t.ys[i]), kept) ?? axis.range;
    return axis;
  });
  const values = rankAll(complete.map((t) => t.ys[objective]));
  const params = listNames(study).map((name) => {
    const axis = new Axis(name, study.trials, (t) => readParam(t, name));
    axis.wantsLog = study.about.log_params.includes(name);
    axis.weight = explain(axis, complete, values);
    return axis;
  });
  const kept = Math.max(1, count - targets.length);
  const strongest = [...params].sort((a, b) => b.weight - a.weight).slice(0, kept);
  return { params: params.filter((axis) => strongest.includes(axis)), targets, total: params.length };
}

export function listNames(study) {
  const names = new Set();
  for (const { params } of study.trials) {
    for (const name of Object.keys(params ?? {})) names.add(name);
    if (names.size >= MAX_NAMES) break;
  }
  return [...names];
}

function readParam(trial, name) {
  const { params } = trial;
  return params && Object.hasOwn(params, name) ? params[name] : undefined;
}

/** The rank of each number, from 0 to 1. */
export function rankAll(numbers) {
  const order = numbers.map((_, i) => i).sort((a, b) => numbers[a] - numbers[b]);
  const ranks = [];
  order.forEach((at, rank) => (ranks[at] = rank / Math.max(1, numbers.length - 1)));
  return ranks;
}

/** How much of the values' ranks differs between groups along an axis: the correlation ratio. */
function explain(axis, trials, ranks) {
  const having = trials.map((t, i) => [axis.place(t), ranks[i]]).filter(([at]) => at !== undefined);
  if (having.length < 3) return 0;
  const places = rankAll(having.map(([at]) => at));
  const groups = new Map();
  having.forEach(([at, rank], i) => {
    const group = axis.isNumber ? Math.min(GROUPS - 1, Math.floor(places[i] * GROUPS)) : at;
    groups.set(group, [...(groups.get(group) ?? []), rank]);
  });
  const mean = average(having.map(([, rank]) => rank));
  const spread = having.reduce((sum, [, rank]) => sum + (rank - mean) ** 2, 0);
  const between = [...groups.values()].reduce((sum, g) => sum + g.length * (average(g) - mean) ** 2, 0);
  // A parameter that few trials have explains little of the study.
  return spread > 0 ? (between / spread) * (having.length / trials.length) : 0;
}

function average(numbers) {
  return numbers.reduce((sum, n) => sum + n, 0) / numbers.length;
}
