"""What a reply costs to parse: the worst forms known, at three sizes.

Prints milliseconds of CPU, and the most per 100 kB that the two larger sizes take: the time is
to be linear, and at most 50. Then the same for edits of long texts and for diffs. Run by hand:

    python tests/benchmarks/parsing.py
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
import dataclasses
from pathlib import Path
import sys
import time

from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection

from optuna_llm import ReplyError
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import diff_texts
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._reply.edits import apply_edits
from optuna_llm._reply.edits import Edit
from optuna_llm._reply.proposals import parse_reply


sys.path.insert(0, str(Path(__file__).parents[1] / "reply"))
from adversarial import OBJECTS
from adversarial import REPLIES


SIZES = (10_000, 100_000, 990_000)
PROBLEM = Problem(
    task="",
    objectives=[("value", StudyDirection.MINIMIZE)],
    space={"x": FloatDistribution(0, 1)},
    texts=[TextParameter("code", language="python", initial="x = 1")],
    editable=frozenset({"code"}),
)
PROBLEMS = {
    "one": PROBLEM,
    "two": dataclasses.replace(PROBLEM, n_proposals=2),
    "text": dataclasses.replace(PROBLEM, space={}),
}
LINES: dict[str, Callable[[int], str]] = {
    "one line": lambda size: "    x = 1\n" * (size // 10),
    "two lines": lambda size: "    x = 1\n    y = 2\n" * (size // 20),
    "all lines differ": lambda size: "".join(f"    x{i} = 1\n" for i in range(size // 14)),
    "one long line": lambda size: "x" * size,
}


def measure(function: Callable[..., object], *arguments: object) -> float:
    """Milliseconds of CPU."""
    began = time.thread_time()
    with suppress(ReplyError):
        function(*arguments)
    return (time.thread_time() - began) * 1_000


def show(name: str, times: list[float], sizes: tuple[int, ...] = SIZES) -> float:
    worst = max(t / max(1, size / 100_000) for t, size in zip(times[1:], sizes[1:], strict=True))
    print(f"{name:40}" + "".join(f"{t:>12.1f}" for t in times) + f"{worst:>12.1f}", flush=True)
    return worst


def measure_edit(text: str) -> float:
    """Milliseconds that the worst of three edits takes, each of half of the text."""
    lines = text.split("\n")
    half = "\n".join(lines[: len(lines) // 2])
    searches = (f"{half}\n    z", "    x = 9\n    q", "  " + half.replace("\n", "\n  "))
    return max(measure(apply_edits, text, [Edit(s, "z")]) for s in searches)


def main() -> None:
    print(f"{'milliseconds':40}" + "".join(f"{s // 1000:>9} kB" for s in SIZES) + "  per 100 kB")
    worst = []
    for kind, problem in PROBLEMS.items():
        for name, make in REPLIES.items():
            times = [measure(parse_reply, make(size), problem) for size in SIZES]
            worst.append(show(f"{kind}: {name}", times))
    numbers = dataclasses.replace(PROBLEM, texts=[])
    sizes = (10_000, 50_000, 99_000)
    for name, make in OBJECTS.items():
        replies = [f"<numbers>{make(size)}</numbers>" for size in sizes]
        times = [measure(parse_reply, reply, numbers) for reply in replies]
        worst.append(show(f"numbers to 99 kB: {name}", times, sizes))
    for name, make in LINES.items():
        texts = [make(size) for size in SIZES]
        changed = [t.replace("1\n", "2\n", 7).replace("x", "z", len(t) // 50) for t in texts]
        diffs = [measure(diff_texts, *pair) for pair in zip(texts, changed, strict=True)]
        worst.append(show(f"edit: {name}", [measure_edit(text) for text in texts]))
        worst.append(show(f"diff: {name}", diffs))
        worst.append(show(f"cleaning: {name}", [measure(clean_text, text) for text in texts]))
    print(f"\nthe slowest: {max(worst):.1f} ms per 100 kB")


if __name__ == "__main__":
    main()
