"""The tunables of a study's texts, in its note: a row for each program that has any."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping

from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._records import TextParameter
from optuna_llm._study.progress import Progress
from optuna_llm._study.tunings import find_params
from optuna_llm._tunables import read_param_name
from optuna_llm._tunables import write_value
from optuna_llm.dashboard._markdown import escape
from optuna_llm.dashboard._markdown import table
from optuna_llm.dashboard._notes import write_values


_MAX_FAMILIES = 12
_MAX_VALUES = 300


def is_tunable(param: str, texts: Mapping[str, TextParameter]) -> bool:
    """Whether a parameter of this name stands for a tunable of one of the texts."""
    known = read_param_name(param)
    return known is not None and known.text in texts and texts[known.text].tunable


def describe_families(progress: Progress, texts: Mapping[str, TextParameter]) -> Iterator[str]:
    """The latest programs with tunables, with their best values; nothing without any."""
    if not any(text.tunable for text in texts.values()):
        return
    families: dict[int, list[FrozenTrial]] = {}
    for trial in progress.finished:
        numbers = [param.family for param in find_params(trial, trial.params).values()]
        if numbers:
            families.setdefault(max(numbers), []).append(trial)
    if not families:
        return
    yield "## Tunables"
    rows = [
        _describe(number, families[number], progress)
        for number in sorted(families)[-_MAX_FAMILIES:]
    ]
    yield table(["introduced by trial:", "trials:", "best trial:", "value", "values"], rows)
    if len(families) > len(rows):
        yield f"*{len(families) - len(rows)} earlier programs had tunables too.*"


def _describe(number: int, trials: list[FrozenTrial], progress: Progress) -> list[str]:
    """One program, by its best trial; of several objectives, by the first of them."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return [str(number), str(len(trials)), "", "none completed", ""]
    is_maximized = progress.objectives[0][1].name == "MAXIMIZE"
    best = (max if is_maximized else min)(complete, key=lambda trial: trial.values[0])
    values = ", ".join(
        f"{param.tunable} = {write_value(best.params[name])}"
        for name, param in find_params(best, best.params).items()
    )
    told = write_values(best.values, progress)
    return [str(number), str(len(trials)), str(best.number), told, escape(values, _MAX_VALUES)]
