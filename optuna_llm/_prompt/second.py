"""The second parent in words: where it is better than the first, and its texts."""

from __future__ import annotations

from collections.abc import Mapping

from optuna.study import StudyDirection

from optuna_llm._prompt.blocks import write_numbers
from optuna_llm._prompt.blocks import write_values
from optuna_llm._prompt.cases import name_case
from optuna_llm._prompt.parents import count_gains
from optuna_llm._prompt.request import Locator
from optuna_llm._prompt.request import Request
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import fence_text
from optuna_llm._records import TrialRecord


_MAX_CASES = 8
"""In how many cases it is told by how much the second parent is better."""


def render_second(request: Request, case_names: Mapping[int, str], locate: Locator) -> list[str]:
    """What to take over from the second parent; no lines where there is none.

    Args:
        request: What is asked for.
        case_names: Names of cases by number.
        locate: Finds a text in the history.
    """
    first, second = request.parent, request.second_parent
    if first is None or second is None:
        return []
    names = [name for name, _ in request.problem.objectives]
    lines = [
        f"Take over from trial {second.number} ({write_values(second, names)}) what it does better"
        + _compare(first, second, request.problem.objectives[0][1], case_names)
    ]
    if second.params:
        lines.append(f"Its numbers: {write_numbers(second.params)}")
    for parameter in request.problem.texts:
        lines += _render_text(parameter.name, first, second, locate)
    lines.append(
        f"Find what makes it so and add that to what trial {first.number} has, without what makes "
        f"trial {second.number} worse elsewhere."
    )
    if request.problem.editable:
        lines.append('An edit may be of either text: say which in of="…".')
    return lines


def measure_second(request: Request) -> int:
    """How many characters the texts of the second parent take if they stand nowhere above."""
    first, second = request.parent, request.second_parent
    if first is None or second is None:
        return 0
    return sum(
        len("\n".join(_render_text(parameter.name, first, second, lambda *_: None)))
        for parameter in request.problem.texts
    )


def _compare(
    first: TrialRecord,
    second: TrialRecord,
    direction: StudyDirection,
    case_names: Mapping[int, str],
) -> str:
    """In which cases the second is better, the largest differences first."""
    common = first.cases.keys() & second.cases.keys()
    gains = count_gains(first, second, direction)
    if not gains:
        return "."
    n_worse = len(count_gains(second, first, direction))
    largest = sorted(gains, key=lambda case: (-gains[case], case))[:_MAX_CASES]
    told = [
        f"{name_case(case, case_names)} ({second.cases[case].score:.3g} against "
        f"{first.cases[case].score:.3g})"
        for case in largest
    ]
    if len(gains) > len(told):
        told.append(f"and {len(gains) - len(told)} more")
    return (
        f": of the {len(common)} cases that both have, it is better in {len(gains)} and worse in "
        f"{n_worse}. Better in case {', '.join(told)}."
    )


def _render_text(name: str, first: TrialRecord, second: TrialRecord, locate: Locator) -> list[str]:
    """A text of the second parent, or what it changes in the first's where that is shorter."""
    if name not in second.texts:
        return []
    text = clean_text(second.texts[name])
    fenced = fence_text(text)
    holder = locate(second, name, fenced)
    if holder is not None:
        where = "" if holder == second.number else f" at trial {holder}"
        return [f'Its "{name}" is in full above{where}.']
    if name in first.texts:
        diff = diff_texts(clean_text(first.texts[name]), text)
        if not diff:
            return [f'Its "{name}" is the same.']
        if len(diff) < len(text):
            changes = fence_text(diff, "diff")
            return [f'Its "{name}", as changes to that of trial {first.number}:\n{changes}']
    return [f'Its "{name}" is:\n{fenced}']
