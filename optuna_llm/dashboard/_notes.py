"""What the notes on trials and on the study have in common.

A note is Markdown between two comments, which are not rendered. They tell our notes from those
that users write, and complete ones from those that a killed process left behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import math

from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._study.attributes import Provenance
from optuna_llm._study.attributes import read_provenance
from optuna_llm._study.cases import read_cases
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.progress import Progress
from optuna_llm.dashboard._markdown import escape


_BEGIN = (
    "[//]: # (Written by optuna_llm, which may overwrite it. Delete this line to keep your edits.)"
)
_END = "[//]: # (end)"

_SOURCES = {
    "initial": "initial text",
    "model": "proposed by the model",
    "base": "sampled by the base sampler",
    "fallback": "sampled by the base sampler because the model failed",
    "tune": "the tunables of an earlier text, tuned",
    "user": "enqueued by the user",
}


def join_note(parts: Iterable[str]) -> str:
    """A note of these paragraphs."""
    return "\n\n".join([_BEGIN, *parts, _END])


def add_paragraph(note: str, paragraph: str) -> str:
    """A note of this package with one more paragraph at its beginning."""
    return f"{_BEGIN}\n\n{paragraph}{note.removeprefix(_BEGIN)}"


def is_own(note: str) -> bool:
    """Whether a note, or the beginning of one, was written by this package."""
    return note.startswith(_BEGIN)


def is_complete(note: str) -> bool:
    """Whether a note of this package was written to its end."""
    return note.endswith(_END)


def describe_origin(trial: FrozenTrial) -> Iterator[str]:
    """Who decided the trial's values, and which trial they were derived from."""
    provenance = read_provenance(trial)
    if provenance.source == "model" and (provenance.model or provenance.proposer):
        yield f"proposed by {_name_model(provenance)}"
    elif provenance.source == "user" and provenance.proposer:
        yield f"proposed by {escape(provenance.proposer, 100)}"
    elif provenance.source is not None:
        yield _SOURCES.get(provenance.source) or escape(provenance.source, 100)
    if parents := describe_parents(provenance):
        yield parents


def describe_parents(provenance: Provenance) -> str:
    """Which trials the texts were made from; empty where that is not known."""
    if provenance.parent is None:
        return ""
    if provenance.second_parent is None:
        return f"from trial {provenance.parent}"
    return f"from trials {provenance.parent} and {provenance.second_parent}"


def _name_model(provenance: Provenance) -> str:
    """A model by both of its names, unless one tells of the other."""
    own, served = provenance.proposer or "", provenance.model or ""
    if not own or served.startswith(own):
        return escape(served, 100)
    return f"{escape(own, 100)} ({escape(served, 100)})" if served else escape(own, 100)


def describe_result(trial: FrozenTrial, progress: Progress) -> str:
    """The trial's values, or what became of it."""
    if trial.state == TrialState.FAIL:
        return "Failed"
    values = write_values(trial.values or (), progress)
    if trial.state == TrialState.PRUNED:
        cases = read_cases(trial)
        if cases.results:
            mean = math.fsum(r.score for r in cases.results.values()) / len(cases.results)
            of = "" if cases.count is None else f" of {cases.count}"
            return f"Pruned after {len(cases.results)}{of} cases with a mean of {mean:.10g}"
        return f"Pruned at {values}" if values else "Pruned"
    infeasible = any(value > 0 for value in read_constraints(trial).values())
    return values + (" (infeasible)" if infeasible else "")


def write_values(values: Sequence[float], progress: Progress) -> str:
    """Objective values; with their names if there are several."""
    several = len(progress.objectives) > 1
    return ", ".join(
        (f"{escape(name)} " if several else "") + f"{value:.10g}"
        for (name, _), value in zip(progress.objectives, values, strict=False)
    )
