// The difference between two texts, as lines whose changed parts are marked.
import { diffLines, diffWordsWithSpace } from "diff";

// Beyond these a difference is cruder, never slow.
const LIMITS = { timeout: 400, maxEditLength: 4_000 };
const WORD_LIMITS = { timeout: 100, maxEditLength: 400 };
const MOSTLY = 0.75;

const splitLines = (text) => text.replace(/\n$/, "").split("\n");

/**
 * Blocks of lines: `{same: [lines]}`, or `{before: [line], after: [line], merged: [line]}`.
 * A line is a list of `[text, kind]`, where the kind is "", "del" or "ins"; in `merged`, deleted
 * and inserted words stand in one line of text. It is null where words are not compared.
 */
export function compareTexts(before, after, byWord) {
  const ended = (text) => (text === "" || text.endsWith("\n") ? text : `${text}\n`);
  const parts = diffLines(ended(before), ended(after), LIMITS) ?? [
    { removed: true, value: before },
    { added: true, value: after },
  ];
  const blocks = [];
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    if (!part.removed && !part.added) {
      blocks.push({ same: splitLines(part.value) });
      continue;
    }
    const next = parts[i + 1];
    const isPair = part.removed && next?.added;
    blocks.push(
      compareBlock(part.removed ? part.value : "", isPair ? next.value : part.added ? part.value : "", byWord),
    );
    if (isPair) i += 1;
  }
  return blocks;
}

function compareBlock(before, after, byWord) {
  const whole = (text, kind) => (text === "" ? [] : splitLines(text).map((line) => [[line, kind]]));
  const block = { before: whole(before, "del"), after: whole(after, "ins"), merged: null };
  if (!byWord || !before || !after) return block;
  const words = diffWordsWithSpace(before.replace(/\n$/, ""), after.replace(/\n$/, ""), WORD_LIMITS);
  if (!words) return block;
  const kept = words.filter((w) => !w.added && !w.removed).reduce((sum, w) => sum + w.value.trim().length, 0);
  // Words that stand in both by chance would only confuse.
  if (kept < (1 - MOSTLY) * Math.min(before.length, after.length)) return block;
  const kind = (w) => (w.removed ? "del" : w.added ? "ins" : "");
  block.before = toLines(words.filter((w) => !w.added).map((w) => [w.value, kind(w)]));
  block.after = toLines(words.filter((w) => !w.removed).map((w) => [w.value, kind(w)]));
  block.merged = toLines(words.map((w) => [w.value, kind(w)]));
  return block;
}

/** Parts of a text as lines of parts. */
function toLines(parts) {
  const lines = [[]];
  for (const [text, kind] of parts) {
    text.split("\n").forEach((piece, i) => {
      if (i) lines.push([]);
      if (piece) lines.at(-1).push([piece, kind]);
    });
  }
  return lines;
}

/** How many lines a difference takes away and adds. */
export function countChanges(blocks) {
  const changed = blocks.filter((b) => !b.same);
  return {
    removed: changed.reduce((sum, b) => sum + b.before.length, 0),
    added: changed.reduce((sum, b) => sum + b.after.length, 0),
  };
}
