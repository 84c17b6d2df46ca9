"""What came of tuning: a line for each program whose tunables had other values."""

from __future__ import annotations

import math

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_llm._prompt.blocks import write_feedback
from optuna_llm._prompt.blocks import write_values
from optuna_llm._prompt.request import Request
from optuna_llm._study.families import Family
from optuna_llm._study.families import read_values
from optuna_llm._study.importance import rate_importances
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._tunables import read_param_name
from optuna_llm._tunables import write_value


_TITLE = (
    "# What tuning found, by the trial that introduced the tunables; trials that only tuned are "
    "not listed above"
)
_MAX_FAMILIES = 5
_NEAR = 0.02
"""Within what part of its range a value is at its end."""

_LEAST_IMPORTANCE = 0.05


def render_families(snapshot: StudySnapshot, request: Request) -> str:
    """The families that were tuned, the best first; empty if there is none."""
    if not any(text.tunable for text in request.problem.texts):
        return ""
    names = [name for name, _ in request.problem.objectives]
    tuned = [f for f in snapshot.families.list_best() if len(f.trials) > 1][:_MAX_FAMILIES]
    lines = [_describe(family, names, snapshot) for family in tuned]
    lines += _show_feedback(snapshot)
    if not lines:
        return ""
    return f"{_TITLE}\n\n{''.join(lines)}\n"


def _describe(family: Family, names: list[str], snapshot: StudySnapshot) -> str:
    best, first = family.best, family.first
    assert best is not None
    said = f"{len(family.trials)} trials"
    if first is not None and first is not best:
        said += f", {write_values(first, names, 5)} at first"
    values = ", ".join(
        f"{_name(param)} {write_value(value)}{_tell_end(family, param, value)}"
        for param, value in read_values(best).items()
    )
    line = f"- text of trial {family.number}: {said}; "
    if best.number != family.number:
        line += f"best trial {best.number}, {write_values(best, names, 5)}: the same with {values}"
    else:
        line += f"best as it was, {write_values(best, names, 5)}, with {values}"
    rated = rate_importances(family, snapshot.directions)
    counted = [f"{_name(n)} {v:.0%}" for n, v in rated.items() if v >= _LEAST_IMPORTANCE]
    if counted:
        line += f"; the results differ by {', '.join(counted)}"
    return f"{line}\n"


def _show_feedback(snapshot: StudySnapshot) -> list[str]:
    """What was said of the best trial, if that only tuned, so that no block says it."""
    if len(snapshot.directions) > 1 or not snapshot.leaders:
        return []
    best = snapshot.leaders[-1]
    if not snapshot.is_variant(best) or not best.feedback:
        return []
    return [f"Trial {best.number}, {write_feedback(best.feedback)}\n"]


def _name(param: str) -> str:
    known = read_param_name(param)
    return known.tunable if known else param


def _tell_end(family: Family, param: str, value: object) -> str:
    """Whether a value stands at an end of its range."""
    domain = family.space[param]
    if isinstance(domain, CategoricalDistribution):
        return ""
    assert isinstance(domain, FloatDistribution | IntDistribution)
    assert isinstance(value, float | int)
    low, high, at = (math.log(n) if domain.log else n for n in (domain.low, domain.high, value))
    margin = _NEAR * (high - low)
    if high - at <= margin:
        return f" (at the upper end, {domain.high:g})"
    return f" (at the lower end, {domain.low:g})" if at - low <= margin else ""
