// A difference as a table: inline, or side by side.
import { el, plural } from "./format.js";

const CONTEXT = 3;
const MAX_ROWS = 3_000;

const words = (line) => line.map(([text, kind]) => (kind ? el(kind, {}, text) : text));

/** A whole text with its line numbers. */
export function showText(text) {
  const rows = text.replace(/\n$/, "").split("\n").map((line, i) => inlineRow("", i + 1, "", "", [[line, ""]]));
  return el("table", { class: "diff whole" }, limit(rows));
}

/** The blocks of `compareTexts`. */
export function showDiff(blocks, isSideBySide) {
  const rows = [];
  let [old, now] = [1, 1];
  blocks.forEach((block, i) => {
    if (block.same) {
      const both = block.same.map((line, j) => sameRow(line, old + j, now + j, isSideBySide));
      rows.push(...fold(both, i > 0, i < blocks.length - 1));
      old += both.length;
      now += both.length;
      return;
    }
    rows.push(...(isSideBySide ? pairRows(block, old, now) : inlineRows(block, old, now)));
    old += block.before.length;
    now += block.after.length;
  });
  const columns = isSideBySide
    ? el("colgroup", {}, ["no", "half", "no", "half"].map((name) => el("col", { class: name })))
    : null;
  return el("table", { class: `diff ${isSideBySide ? "sides" : "inline"}` }, columns, limit(rows));
}

function inlineRow(kind, now, old, sign, line) {
  return el(
    "tr",
    { class: kind },
    el("td", { class: "no old" }, String(old)),
    el("td", { class: "no" }, String(now)),
    el("td", { class: "sign" }, sign),
    el("td", { class: "code" }, words(line)),
  );
}

function inlineRows({ before, after, merged }, old, now) {
  if (merged) return merged.map((line, i) => inlineRow("changed", i < after.length ? now + i : "", "", "~", line));
  const plain = (line) => [[line.map(([text]) => text).join(""), ""]];
  return [
    ...before.map((line, i) => inlineRow("removed", "", old + i, "−", plain(line))),
    ...after.map((line, i) => inlineRow("added", now + i, "", "+", plain(line))),
  ];
}

function pairRows({ before, after, merged }, old, now) {
  const cells = (line, number, kind) => [
    el("td", { class: "no" }, line ? String(number) : ""),
    el("td", { class: `code ${line ? kind : "none"}` }, line ? words(merged ? line : line.map(([t]) => [t, ""])) : ""),
  ];
  const count = Math.max(before.length, after.length);
  return Array.from({ length: count }, (_, i) =>
    el("tr", {}, cells(before[i], old + i, "removed"), cells(after[i], now + i, "added")),
  );
}

function sameRow(line, old, now, isSideBySide) {
  if (!isSideBySide) return inlineRow("", now, old, "", [[line, ""]]);
  const half = (number) => [el("td", { class: "no" }, String(number)), el("td", { class: "code" }, line)];
  return el("tr", {}, half(old), half(now));
}

/** Rows of which those far from any change wait behind a button. */
function fold(rows, hasBefore, hasAfter) {
  const head = hasBefore ? CONTEXT : 0;
  const tail = hasAfter ? CONTEXT : 0;
  const hidden = rows.slice(head, rows.length - tail);
  if (hidden.length < 5) return rows;
  const more = el("button", { type: "button" }, `⋯ ${plural(hidden.length, "unchanged line")}`);
  const row = el("tr", { class: "fold" }, el("td", { colspan: 4 }, more));
  more.addEventListener("click", () => row.replaceWith(...hidden));
  return [...rows.slice(0, head), row, ...rows.slice(rows.length - tail)];
}

/** So many rows at first that the page stays quick. */
function limit(rows) {
  if (rows.length <= MAX_ROWS) return rows;
  const rest = rows.slice(MAX_ROWS);
  const more = el("button", { type: "button" }, `⋯ ${plural(rest.length, "further line")}`);
  const row = el("tr", { class: "fold" }, el("td", { colspan: 4 }, more));
  more.addEventListener("click", () => row.replaceWith(...rest));
  return [...rows.slice(0, MAX_ROWS), row];
}
