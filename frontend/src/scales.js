// Axes: which values to show, where they go, where to put ticks.
import { formatDuration, formatNumber } from "./format.js";

/** The range of some numbers. */
export function extent(numbers) {
  let low = Infinity;
  let high = -Infinity;
  for (const n of numbers) {
    if (n < low) low = n;
    if (n > high) high = n;
  }
  return low <= high ? [low, high] : null;
}

function quantile(sorted, share) {
  return sorted[Math.round((sorted.length - 1) * share)];
}

/**
 * A range that outliers do not squash: nine in ten values are in it, and the rest as far as that
 * stretches it by no more than half. The values that matter are always in it.
 */
export function robustExtent(numbers, kept) {
  const sorted = numbers.filter(Number.isFinite).sort((a, b) => a - b);
  if (!sorted.length) return null;
  let low = quantile(sorted, 0.05);
  let high = quantile(sorted, 0.95);
  for (const n of kept.filter(Number.isFinite)) {
    low = Math.min(low, n);
    high = Math.max(high, n);
  }
  const room = (high - low) / 2;
  return [Math.max(sorted[0], low - room), Math.min(sorted.at(-1), high + room)];
}

/** The range with some room around it, and never empty. */
export function pad([low, high], share) {
  const size = high - low || Math.abs(low) || 1;
  const pad = size * share;
  const padded = [low - pad, high + pad];
  return padded.every(Number.isFinite) && padded[0] < padded[1] ? padded : [low - 1, high + 1];
}

/** Round numbers within a range, about so many. */
export function ticks([low, high], count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? rough;
  const found = [];
  if (!(step > 0) || !Number.isFinite(step)) return found;
  for (let i = Math.ceil(low / step); i * step <= high && found.length < 50; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

const SECONDS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 7 * 86_400];

function timeTicks([low, high], count) {
  const step = SECONDS.find((s) => (high - low) / s <= count);
  if (!step) return ticks([low, high], count);
  const found = [];
  for (let t = Math.ceil(low / step) * step; t <= high; t += step) found.push(t);
  return found;
}

/** What can be on the x axis: how to read it from a trial, and how to write it. */
export function xAxes(study) {
  const began = extent(study.trials.map((t) => t.start ?? t.end).filter((t) => t !== undefined))?.[0] ?? 0;
  const axes = new Map([["trial", { label: "trial", read: (t) => t.number, whole: true, line: true }]]);
  const { total } = study;
  if (total.cost > 0) {
    axes.set("cost", { label: "cost so far", read: (t) => t.spent.cost, line: true });
  }
  if (total.prompt_tokens + total.completion_tokens > 0) {
    axes.set("tokens", { label: "tokens so far", read: (t) => t.spent.tokens, line: true });
  } else if (total.calls > 0) {
    axes.set("calls", { label: "calls so far", read: (t) => t.spent.calls, line: true });
  }
  axes.set("time", {
    label: "time since the start",
    read: (t) => (t.end ?? t.start) - began,
    format: (s) => (s === 0 ? "0" : formatDuration(s)),
    ticks: timeTicks,
    line: true,
  });
  if (!study.isSingle) {
    study.about.objectives.forEach((objective, i) => {
      axes.set(`value:${i}`, { label: objective.name, read: (t) => t.ys[i], robust: true });
    });
  }
  for (const name of numericParams(study)) {
    axes.set(`param:${name}`, { label: name, read: (t) => t.params?.[name], robust: true });
  }
  for (const axis of axes.values()) {
    axis.ticks ??= axis.whole
      ? (range, count) => ticks(range, count).filter(Number.isInteger)
      : ticks;
    axis.format ??= (n) => formatNumber(n, 4);
  }
  return axes;
}

function numericParams(study) {
  const names = new Map();
  for (const { params } of study.trials) {
    for (const [name, value] of Object.entries(params ?? {})) {
      if (names.get(name) !== false) names.set(name, Number.isFinite(value));
    }
    if (names.size > 60) break;
  }
  return [...names].filter(([, isNumber]) => isNumber).map(([name]) => name);
}
