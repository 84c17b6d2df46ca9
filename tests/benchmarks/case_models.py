"""Scripted models for studies over cases, and rules to choose parents by, for benchmarks.

A text is a line with a number, which stands for a score in each of 100 cases, and prose around it.
A model reads the numbers of the parents that its prompt gives it and writes a child of them. It
knows nothing of the rule that has chosen them, and takes nothing from the rest of the history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import random
import re
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm import Completion
from optuna_llm import Message
from optuna_llm import TrialRecord
from optuna_llm.testing import write_reply


N_CASES = 100
N_GROUPS = 8
_LEAST_CACHED = 4 * 1_024
"""How many characters a prefix has at least that providers cache."""

INITIAL = "Strategy 0."

Scores: TypeAlias = NDArray[np.float64]
Change: TypeAlias = Callable[[Scores, np.random.Generator], None]

_WORDS = (
    "answer check count digits each first give keep last name only question read say then unit"
)


def _clip(scores: Scores, chosen: Scores, by: Scores | float) -> None:
    scores[chosen] = np.clip(scores[chosen] + by, 0, 1)


def _draw(rng: np.random.Generator, count: int) -> Scores:
    return rng.choice(N_CASES, count, replace=False)


def _solve_some(scores: Scores, rng: np.random.Generator) -> None:
    scores[_draw(rng, 8)] = 1


def _spoil_some(scores: Scores, rng: np.random.Generator) -> None:
    scores[_draw(rng, 10)] = 0


def _step_up(scores: Scores, rng: np.random.Generator) -> None:
    _clip(scores, _draw(rng, 15), np.abs(rng.normal(0, 0.15, 15)))


def _step_down(scores: Scores, rng: np.random.Generator) -> None:
    _clip(scores, _draw(rng, 18), -np.abs(rng.normal(0, 0.15, 18)))


def _shift_up(scores: Scores, rng: np.random.Generator) -> None:
    group = np.arange(N_CASES) % N_GROUPS == rng.integers(N_GROUPS)
    _clip(scores, group, rng.uniform(0.1, 0.4))


def _shift_down(scores: Scores, rng: np.random.Generator) -> None:
    group = np.arange(N_CASES) % N_GROUPS == rng.integers(N_GROUPS)
    _clip(scores, group, -rng.uniform(0.1, 0.5))


@dataclass(frozen=True)
class Kind:
    """What a change of a text does to its scores: it gains in some cases and spoils others."""

    gain: Change
    spoil: Change
    start: float


KINDS: Mapping[str, Kind] = {
    # Solves 8 cases and fails 10, drawn from all: the more is solved, the more is spoiled.
    "specialists": Kind(_solve_some, _spoil_some, 0.0),
    # Moves 15 cases up and 18 down, by a tenth or so.
    "small steps": Kind(_step_up, _step_down, 0.2),
    # Moves one eighth of the cases up together, and another down by more.
    "strategies": Kind(_shift_up, _shift_down, 0.2),
}


@dataclass(frozen=True)
class Skill:
    """How well a model merges two texts.

    Attributes:
        takes: In which part of the cases where the second parent is better the child is as good.
        leaks: In which part of those where it is worse the child is as bad.
        own: How often the child gains by a change of its own too, as a child of one parent does.
        blunders: How often a child fails a third of the cases besides.
    """

    takes: float = 0.5
    leaks: float = 0.1
    own: float = 0.5
    blunders: float = 0.0


ABLE = Skill()
CLUMSY = Skill(takes=0.25, leaks=0.2, own=0.0)
ERRATIC = Skill(blunders=0.5)


class CaseModel:
    """A model whose texts stand for scores in cases.

    Args:
        kind: What its changes do.
        skill: How well it merges.
        seed: Of its random numbers.
        n_lines: How many lines of prose a text has.

    Attributes:
        n_calls: Number of calls.
        n_merges: How many of them were given two parents.
        tokens: What the prompts took, a token counted as 4 characters.
        billed: The same, with what a prompt has in common with the one before at a tenth.
    """

    def __init__(self, kind: Kind, skill: Skill, seed: int, n_lines: int = 0) -> None:
        self._kind = kind
        self._skill = skill
        self._rng = np.random.default_rng(seed)
        start = np.full(N_CASES, kind.start)
        if kind.start:
            start = np.clip(start + self._rng.normal(0, 0.1, N_CASES), 0, 1)
        self._scores = [start]
        self._prose = [[self._write_line() for _ in range(n_lines)]]
        self.n_calls = 0
        self.n_merges = 0
        self.tokens = 0
        self.billed = 0
        self._latest = ""

    @property
    def initial(self) -> str:
        """The text to start from."""
        return self._write(0)

    def score(self, text: str, case: int) -> float:
        """What a text comes to in a case."""
        return float(self._scores[self.find(text)][case])

    def find(self, text: str) -> int:
        """The number in a text."""
        found = re.search(r"^Strategy (\d+)\.$", text, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def complete(self, messages: Sequence[Message]) -> Completion:
        """A child of the parents that the messages give."""
        first, second = read_parents(messages[-1].content)
        text = self.make_child(first, second, "".join(m.content for m in messages))
        return Completion(write_reply(texts={"prompt": text}, rationale="As asked."), "scripted")

    def make_child(self, first: int, second: int | None, prompt: str) -> str:
        """The text of a child, made at the cost of a prompt."""
        self.n_calls += 1
        self._count(prompt)
        scores = self._scores[first].copy()
        if second is not None:
            self.n_merges += 1
            self._merge(scores, self._scores[second])
        if second is None or self._rng.random() < self._skill.own:
            self._kind.gain(scores, self._rng)
        self._kind.spoil(scores, self._rng)
        if self._skill.blunders and self._rng.random() < self._skill.blunders:
            scores[_draw(self._rng, N_CASES // 3)] = 0
        prose = list(self._prose[first])
        for i in self._rng.choice(len(prose), min(2, len(prose)), replace=False):
            prose[i] = self._write_line()
        self._scores.append(scores)
        self._prose.append(prose)
        return self._write(len(self._scores) - 1)

    def _count(self, prompt: str) -> None:
        pairs = enumerate(zip(prompt, self._latest, strict=False))
        length = min(len(prompt), len(self._latest))
        cached = next((i for i, (a, b) in pairs if a != b), length)
        cached = cached if cached >= _LEAST_CACHED else 0
        self.tokens += len(prompt) // 4
        self.billed += (len(prompt) - cached + cached // 10) // 4
        self._latest = prompt

    def _merge(self, scores: Scores, other: Scores) -> None:
        drawn = self._rng.random(N_CASES)
        share = np.where(other > scores, self._skill.takes, self._skill.leaks)
        scores[drawn < share] = other[drawn < share]

    def _write(self, number: int) -> str:
        return "\n".join([f"Strategy {number}.", *self._prose[number]])

    def _write_line(self) -> str:
        return "- " + " ".join(self._rng.choice(_WORDS.split(), 14)) + "."


def read_parents(prompt: str) -> tuple[int, int | None]:
    """The numbers in the texts of the trials that the prompt gives as parents, as a model sees it.

    Returns:
        The number in the text to start from, and that in the text to take over from, if any.
    """
    history, _, request = prompt.rpartition("# Now\n")
    first = re.search(r'^Start from "prompt" of trial (\d+)(.*)', request, re.MULTILINE)
    if first is None:
        return 0, None
    second = re.search(r"^Take over from trial (\d+)", request, re.MULTILINE)
    texts = request.split("Take over from trial")
    return (
        _find(history, texts[0], 'Start from "prompt" of', int(first[1])),
        None if second is None else _find(history, texts[1], 'Its "prompt"', int(second[1])),
    )


def _find(history: str, request: str, begin: str, trial: int) -> int:
    """The number in the text of a trial, which stands in the request or above."""
    told = request[request.index(begin) :]
    head = told.split("\n", 1)[0]
    if "in full above" in head:
        at = re.search(r"above at trial (\d+)", head)
        holder = int(at[1]) if at else trial
        told = re.split(rf"^## Trial {holder}\b", history, flags=re.MULTILINE)[1]
    found = re.search(r"^\+?Strategy (\d+)\.$", told, re.MULTILINE)
    assert found is not None
    return int(found[1])


# Rules


def choose_best(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection], rng: random.Random
) -> list[TrialRecord]:
    """The best trial, always."""
    return [max(_find_complete(trials), key=lambda t: (_mean(t), -t.number))]


def draw_front(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection], rng: random.Random
) -> list[TrialRecord]:
    """GEPA's rule: of the Pareto front over cases, as often as a trial is the best in a case."""
    return [rng.choice(find_front(trials))]


def draw_front_with_merges(
    trials: Sequence[TrialRecord], directions: Sequence[StudyDirection], rng: random.Random
) -> list[TrialRecord]:
    """The same; a trial after one that has entered the front is made of two of its members."""
    front = find_front(trials)
    members = sorted({t.number: t for t in front}.values(), key=lambda t: t.number)
    if len(members) > 1 and trials[-1].number in {t.number for t in members}:
        return rng.sample(members, 2)
    return [rng.choice(front)]


def find_front(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The Pareto front over cases, without those that others cover, once for each case led."""
    trials = _find_complete(trials)
    scores = np.array([[t.cases[case].score for case in range(N_CASES)] for t in trials])
    leads = scores >= scores.max(axis=0) - 1e-12
    kept = set(np.flatnonzero(leads.any(axis=1)).tolist())
    for i in sorted(kept, key=lambda i: float(scores[i].mean())):
        others = sorted(kept - {i})
        if others and leads[others].any(axis=0)[leads[i]].all():
            kept.remove(i)
    counts: Counter[int] = Counter({i: int(leads[i].sum()) for i in sorted(kept)})
    return [trials[i] for i in counts.elements()]


def _find_complete(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [t for t in trials if t.state == TrialState.COMPLETE]


def _mean(trial: TrialRecord) -> float:
    return float(np.mean([result.score for result in trial.cases.values()]))
