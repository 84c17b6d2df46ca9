"""One trial in words: a block of the history."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import json
from typing import TypeAlias

from optuna.trial import TrialState

from optuna_llm._quoting import clean_text
from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import fence_text
from optuna_llm._quoting import one_line
from optuna_llm._quoting import shorten
from optuna_llm._records import ParamValue
from optuna_llm._records import TrialRecord
from optuna_llm._study.distributions import write_number


_Finder: TypeAlias = Callable[[TrialRecord, str], TrialRecord | None]

_MAX_FEEDBACK = 1_500
_MAX_RATIONALE = 400
_ABOUT_TO_BEGIN = "About to begin"


def render_trial(
    record: TrialRecord,
    objectives: Sequence[str],
    room: int,
    find: _Finder,
    same_feedback: TrialRecord | None = None,
) -> str:
    """One block of the history.

    Args:
        record: The trial.
        objectives: Names of the objectives.
        room: How many characters one text may take; a longer one loses its middle.
        find: Finds a trial that is shown too and whose text of a name this one's can be told by.
        same_feedback: A trial that is shown and has the same feedback.
    """
    title = f"Trial {record.number}: {_describe_result(record, objectives)}"
    lines = [f"## {_ABOUT_TO_BEGIN if record.state == TrialState.WAITING else title}"]
    if record.params:
        lines.append(f"numbers: {write_numbers(record.params)}")
    if record.constraints:
        lines.append(f"constraints: {write_numbers(record.constraints)}")
    if record.rationale:
        lines.append(f"rationale: {one_line(record.rationale, _MAX_RATIONALE)}")
    lines += [_render_text(record, name, find(record, name), room) for name in record.texts]
    if same_feedback is not None:
        lines.append(f"feedback: the same as of trial {same_feedback.number}")
    elif record.feedback:
        lines.append(_render_feedback(record.feedback))
    return "\n".join(lines) + "\n\n"


def _describe_result(record: TrialRecord, objectives: Sequence[str]) -> str:
    if record.state == TrialState.FAIL:
        return "failed" if record.feedback else "failed, no reason was recorded"
    if record.state == TrialState.PRUNED:
        if record.step is None:
            return "stopped early (pruned), nothing reported"
        values = write_values(record, objectives)
        return f"stopped early (pruned) at step {record.step}, {values} by then"
    if record.state == TrialState.RUNNING:
        return "running"
    infeasible = ", infeasible" if record.violation else ""
    return write_values(record, objectives) + infeasible


def write_values(record: TrialRecord, objectives: Sequence[str], digits: int = 7) -> str:
    if record.values is None:
        return "no value"
    named = zip(objectives, record.values, strict=False)
    return ", ".join(f"{one_line(name)} {value:.{digits}g}" for name, value in named)


def write_numbers(numbers: Mapping[str, ParamValue]) -> str:
    pairs = (f"{json.dumps(n, ensure_ascii=False)}: {write_number(v)}" for n, v in numbers.items())
    return clean_text("{" + ", ".join(pairs) + "}")


def _render_text(record: TrialRecord, name: str, known: TrialRecord | None, room: int) -> str:
    """The text, or what it changes in a known one where that is shorter."""
    text = clean_text(record.texts[name])
    if known is not None:
        diff = diff_texts(clean_text(known.texts[name]), text)
        if not diff:
            return f"{name}: the same as in trial {known.number}"
        if len(diff) < len(text):
            fenced = fence_text(shorten(diff, room), "diff")
            return f"{name}, changes to trial {known.number}:\n{fenced}"
    made = "" if record.parent is None else f", made from trial {record.parent}"
    return f"{name}{made}:\n{fence_text(shorten(text, room))}"


def _render_feedback(feedback: str) -> str:
    feedback = shorten(clean_text(feedback).strip(), _MAX_FEEDBACK)
    return f"feedback:\n{fence_text(feedback)}" if "\n" in feedback else f"feedback: {feedback}"
