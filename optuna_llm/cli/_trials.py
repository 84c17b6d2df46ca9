"""Trials in words for a terminal, and as JSON for machines."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._quoting import clean_text
from optuna_llm._quoting import fence_text
from optuna_llm._quoting import one_line
from optuna_llm._study import attributes as stored
from optuna_llm._study import internals
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.declarations import read_task
from optuna_llm._study.distributions import write_number
from optuna_llm._study.progress import Progress
from optuna_llm._study.progress import read_progress


_MAX_CELL = 60
_MAX_NUMBERS = 60
_MAX_RATIONALE = 100
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class StudyView:
    """A study as it is now, ready to be printed.

    Args:
        study: The study.

    Attributes:
        progress: Its trials, and the best of them.
        texts: Its text parameters by name.
    """

    def __init__(self, study: Study) -> None:
        self.progress: Progress = read_progress(study)
        held = study.user_attrs
        self.texts = read_declared_texts(held)
        self._name = study.study_name
        self._task = read_task(held)
        self._best = {record.number for record in self.progress.best}

    def describe(self, last: int | None) -> Iterator[str]:
        """The study in a few lines, and a line per trial."""
        directions = ", ".join(
            f"{one_line(name)}: {direction.name.lower()}"
            for name, direction in self.progress.objectives
        )
        yield f"study {one_line(self._name)} ({directions}), {self._count_states()}"
        if self._task:
            yield f"task: {one_line(self._task, 500)}"
        trials = list(self.progress.trials.values())
        shown = trials if last is None else trials[max(0, len(trials) - last) :]
        if shown:
            yield ""
            yield from _align([_HEADER, *map(self._make_row, shown)])
        if len(shown) < len(trials):
            yield f"({len(trials) - len(shown)} earlier trials are not shown)"

    def describe_trial(self, trial: FrozenTrial) -> Iterator[str]:
        """A trial in full."""
        provenance = stored.read_provenance(trial)
        best = ", the best so far" if len(self.progress.objectives) == 1 else ", on the front"
        mark = best if trial.number in self._best else ""
        yield f"trial {trial.number}: {self.write_result(trial)}{mark}"
        if who := self._name_proposer(trial):
            yield f"by: {who}"
        if provenance.parent is not None:
            yield f"made from: trial {provenance.parent}"
        if provenance.rationale:
            yield f"rationale: {one_line(provenance.rationale, 2_000)}"
        if numbers := _write_numbers(_read_params(trial)):
            yield f"numbers: {numbers}"
        for name, text in stored.read_texts(trial, self.texts).items():
            language = self.texts[name].language if name in self.texts else None
            yield f"{one_line(name)}:"
            yield fence_text(clean_text(text), language or "")
        if constraints := internals.read_constraints(trial):
            yield f"constraints: {_write_numbers(constraints)}"
        if provenance.error:
            yield f"error: {one_line(provenance.error, 2_000)}"
        if feedback := stored.read_feedback(trial):
            yield "feedback:"
            yield fence_text(clean_text(feedback))

    def to_json(self) -> dict[str, Any]:
        """The study without its trials."""
        return {
            "study": self._name,
            "task": self._task,
            "objectives": [
                {"name": name, "direction": direction.name.lower()}
                for name, direction in self.progress.objectives
            ],
            "best": [record.number for record in self.progress.best],
        }

    def trial_to_json(self, trial: FrozenTrial) -> dict[str, Any]:
        """A trial in full."""
        provenance = stored.read_provenance(trial)
        return {
            "trial": trial.number,
            "state": _STATES[trial.state],
            "values": trial.values,
            "params": _read_params(trial),
            "texts": stored.read_texts(trial, self.texts),
            "constraints": internals.read_constraints(trial),
            "feedback": stored.read_feedback(trial),
            "rationale": provenance.rationale,
            "source": provenance.source,
            "proposer": provenance.proposer or provenance.model,
            "parent": provenance.parent,
            "error": provenance.error,
        }

    def write_result(self, trial: FrozenTrial) -> str:
        """A trial's values, or its state where it has none."""
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED) or not trial.values:
            return _STATES[trial.state]
        values = ", ".join(f"{value:.10g}" for value in trial.values)
        if trial.state == TrialState.PRUNED:
            return f"pruned at {values}"
        infeasible = any(value > 0 for value in internals.read_constraints(trial).values())
        return f"{values} (infeasible)" if infeasible else values

    def _count_states(self) -> str:
        states = [trial.state for trial in self.progress.trials.values()]
        counts = [f"{states.count(s)} {name}" for s, name in _STATES.items() if s in states]
        total = f"{len(states)} trial" + ("s" if len(states) != 1 else "")
        return f"{total}: {', '.join(counts)}" if counts else total

    def _make_row(self, trial: FrozenTrial) -> list[str]:
        provenance = stored.read_provenance(trial)
        return [
            f"{trial.number}{'*' if trial.number in self._best else ''}",
            self.write_result(trial),
            self._name_proposer(trial),
            "" if provenance.parent is None else str(provenance.parent),
            _cut(_write_numbers(_read_params(trial)), _MAX_NUMBERS),
            _cut(provenance.rationale, _MAX_RATIONALE),
        ]

    def _name_proposer(self, trial: FrozenTrial) -> str:
        provenance = stored.read_provenance(trial)
        who = provenance.proposer or provenance.model
        source = provenance.source or ""
        return f"{one_line(who, _MAX_CELL)} ({source})" if who and source else source


def _cut(text: str, limit: int) -> str:
    """The beginning of a text, on one line."""
    line = one_line(text, 2_000)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


_HEADER = ["trial", "value", "by", "from", "numbers", "rationale"]


def _read_params(trial: FrozenTrial) -> dict[str, Any]:
    """The trial's numbers; of one that waits those that it is going to take."""
    if trial.state == TrialState.WAITING:
        return dict(internals.read_fixed_params(trial) or {})
    return trial.params


def _write_numbers(params: dict[str, Any]) -> str:
    return ", ".join(f"{one_line(name)} = {write_number(v)}" for name, v in params.items())


def _align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as a table; columns in which only the header stands are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
