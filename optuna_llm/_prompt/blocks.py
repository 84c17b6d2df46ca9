"""One trial in words: a block or a line of the history."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import json
from typing import TypeAlias

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._prompt.cases import describe_cases
from optuna_llm._prompt.cases import describe_mean
from optuna_llm._prompt.transcript import Detail
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import fence_text
from optuna_llm._quoting import one_line
from optuna_llm._quoting import shorten
from optuna_llm._records import ParamValue
from optuna_llm._records import TrialRecord
from optuna_llm._study.distributions import write_number
from optuna_llm._study.ranking import is_tie
from optuna_llm._study.ranking import to_costs
from optuna_llm._study.snapshot import StudySnapshot


_Finder: TypeAlias = Callable[[TrialRecord, str], TrialRecord | None]

_MAX_FEEDBACK = 1_500
_MAX_RATIONALE = 400
_MAX_FAILED_TEXT = 1_500
_MAX_HEAD = 400
_BRIEF_FEEDBACK = 160
_LINE_WORDS = 10
_FEW_WORDS = 6
_LINE_NUMBERS = 200
_ABOUT_TO_BEGIN = "About to begin"

_DECIDERS = {
    "initial": "start",
    "base": "base sampler",
    "fallback": "base sampler",
    "user": "user",
}
"""Who decided a trial, where it was not the model."""


@dataclass(frozen=True)
class BlockRenderer:
    """Renders trials of one study.

    Attributes:
        snapshot: The study.
        names: Names of the objectives.
        room: How many characters one text may take; a longer one loses its middle.
        find: Finds the trial whose text of a name a trial's text is to be told by.
    """

    snapshot: StudySnapshot
    names: Sequence[str]
    room: int
    find: _Finder

    def render(
        self, record: TrialRecord, detail: Detail, same_feedback: TrialRecord | None = None
    ) -> str:
        """A trial as the history shows it.

        Args:
            record: The trial.
            detail: How fully it is shown.
            same_feedback: A trial that is shown in full and has the same feedback.
        """
        if detail <= Detail.LINE:
            return self._render_line(record, is_latest=detail == Detail.LINE)
        lines = [f"## {self._render_title(record)}"]
        if record.params:
            lines.append(f"numbers: {write_numbers(record.params)}")
        if record.constraints:
            lines.append(f"constraints: {write_numbers(record.constraints)}")
        if record.second_parent is not None and record.parent is not None:
            lines.append(f"parents: trials {record.parent} and {record.second_parent}")
        if record.rationale:
            lines.append(f"rationale: {one_line(record.rationale, _MAX_RATIONALE)}")
        lines += describe_cases(record, self.snapshot, with_worst=detail == Detail.FULL)
        if detail == Detail.BRIEF:
            if record.feedback:
                lines.append(f"feedback: {one_line(_gist(record.feedback), _BRIEF_FEEDBACK)}")
            return "\n".join(lines) + "\n\n"
        lines += [self._render_text(record, name) for name in record.texts]
        if same_feedback is not None:
            lines.append(f"feedback: the same as of trial {same_feedback.number}")
        elif record.feedback:
            lines.append(write_feedback(record.feedback))
        return "\n".join(lines) + "\n\n"

    def _render_title(self, record: TrialRecord) -> str:
        if record.state == TrialState.WAITING:
            return _ABOUT_TO_BEGIN
        said = [_describe_result(record, self.names), *self._describe_standing(record)]
        return f"Trial {record.number}{_name_decider(record)}: {', '.join(said)}"

    def _render_line(self, record: TrialRecord, *, is_latest: bool) -> str:
        said = [_describe_result(record, self.names)]
        numbers = write_numbers(record.params) if record.params else ""
        if numbers and len(numbers) <= _LINE_NUMBERS:
            said.append(numbers)
        line = f"- trial {record.number}{_name_decider(record)}: {', '.join(said)}"
        if words := cut_words(record.rationale, _LINE_WORDS if is_latest else _FEW_WORDS):
            line += f"; {words}"
        if is_latest and (words := cut_words(_gist(record.feedback), _LINE_WORDS)):
            line += f"; feedback: {words}"
        return f"{line}\n"

    def _describe_standing(self, record: TrialRecord) -> list[str]:
        """What became of the expectation, where that can be told."""
        if record.state != TrialState.COMPLETE or len(self.snapshot.directions) > 1:
            return []
        said = []
        same = self.snapshot.find_repeats(record)
        before = [r for r in same if r.number != record.number]
        if before and same[0] is not record:
            values = [r.values[0] for r in same if r.values]
            mean = sum(values) / len(values)
            said.append(f"the values of trial {same[0].number}: mean {mean:.7g} of {len(values)}")
        elif self.snapshot.is_step(record) and record.number and not record.violation:
            said.append("a new best")
        parent = self.snapshot.find(record.parent)
        is_known = parent is not None and parent is self.snapshot.families.find_best(parent)
        if parent is not None and is_known and parent.state == TrialState.COMPLETE:
            said.append(_compare(record, parent, self.snapshot.directions))
        return said

    def _render_text(self, record: TrialRecord, name: str) -> str:
        """The text, or what it changes in a known one where that is shorter."""
        text = clean_text(record.texts[name])
        known = self.find(record, name)
        room = self.room
        if known is not None:
            diff = diff_texts(clean_text(known.texts[name]), text)
            if not diff:
                return f"{name}: the same as in trial {known.number}"
            if len(diff) < len(text):
                fenced = fence_text(shorten(diff, room), "diff")
                return f"{name}, changes to trial {known.number}:\n{fenced}"
        made = "" if record.parent is None else f", made from trial {record.parent}"
        if record.state == TrialState.FAIL:
            return f"{name}{made}:\n{fence_text(shorten(text, min(room, _MAX_FAILED_TEXT)))}"
        if len(text) > room:
            # Whole only where it is what to start from, in the request.
            begins = fence_text(text[:_MAX_HEAD].rsplit("\n", 1)[0])
            return f"{name}{made}, of {len(text):,} characters, begins:\n{begins}"
        return f"{name}{made}:\n{fence_text(text)}"


def cut_words(text: str, count: int) -> str:
    """The first words of a text, on one line; whole sentences are not cut for a word or two."""
    words = clean_text(text[:2_000]).split()
    return " ".join(words) if len(words) <= count + 2 else " ".join(words[:count]) + " …"


def _gist(feedback: str) -> str:
    """Feedback without its traceback, whose last line is what counts."""
    before, traceback, rest = feedback.partition("Traceback (most recent call last):")
    return before + rest.strip().splitlines()[-1] if traceback and rest.strip() else feedback


def _name_decider(record: TrialRecord) -> str:
    decider = _DECIDERS.get(record.source or "model")
    return f" ({decider})" if decider else ""


def _compare(
    record: TrialRecord, parent: TrialRecord, directions: Sequence[StudyDirection]
) -> str:
    (new,), (old,) = to_costs(record, directions), to_costs(parent, directions)
    if is_tie(new, old):
        return f"as good as trial {parent.number}"
    return f"{abs(new - old):.3g} {'better' if new < old else 'worse'} than trial {parent.number}"


def _describe_result(record: TrialRecord, objectives: Sequence[str]) -> str:
    if record.state == TrialState.FAIL:
        return "failed" if record.feedback else "failed, no reason was recorded"
    if record.state == TrialState.PRUNED:
        if record.step is None:
            return "stopped early (pruned), nothing reported"
        if record.cases:
            return f"stopped early (pruned) {describe_mean(record)}"
        values = write_values(record, objectives)
        return f"stopped early (pruned) at step {record.step}, {values} by then"
    if record.state == TrialState.RUNNING:
        return "running"
    infeasible = ", infeasible" if record.violation else ""
    return write_values(record, objectives) + infeasible


def write_values(record: TrialRecord, objectives: Sequence[str], digits: int = 7) -> str:
    """Name and value of each objective."""
    if record.values is None:
        return "no value"
    named = zip(objectives, record.values, strict=False)
    return ", ".join(f"{one_line(name)} {value:.{digits}g}" for name, value in named)


def write_numbers(numbers: Mapping[str, ParamValue]) -> str:
    """The numbers as a JSON object, as the model is to write them too."""
    pairs = (f"{json.dumps(n, ensure_ascii=False)}: {write_number(v)}" for n, v in numbers.items())
    return clean_text("{" + ", ".join(pairs) + "}")


def write_feedback(feedback: str) -> str:
    """What was said of a trial; of a long text, its beginning and its end."""
    feedback = shorten(clean_text(feedback).strip(), _MAX_FEEDBACK)
    return f"feedback:\n{fence_text(feedback)}" if "\n" in feedback else f"feedback: {feedback}"
