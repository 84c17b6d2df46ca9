"""The user message: the history, the best, what runs now, and what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._prompt.blocks import render_trial
from optuna_llm._prompt.blocks import write_numbers
from optuna_llm._prompt.blocks import write_values
from optuna_llm._prompt.request import Request
from optuna_llm._prompt.system import Templates
from optuna_llm._prompt.transcript import IsShown
from optuna_llm._prompt.transcript import Transcript
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import fence_text
from optuna_llm._quoting import one_line
from optuna_llm._quoting import shorten
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._study.snapshot import StudySnapshot


HISTORY_TITLE = "# Trials so far, in the order they ended\n\n"

_Locator: TypeAlias = Callable[[TrialRecord, str, str], int | None]

_MAX_REPLY = 1_500
_MAX_DIRECTION = 160
_MAX_DIRECTIONS = 8
_MAX_RUNNING = 20
_MAX_IN_VAIN = 100


@dataclass(frozen=True)
class Page:
    """The user message in the making.

    Attributes:
        room: Characters that it may take.
    """

    snapshot: StudySnapshot
    request: Request
    transcript: Transcript
    templates: Templates
    room: int

    @property
    def names(self) -> list[str]:
        """The objectives' names."""
        return [name for name, _ in self.request.problem.objectives]

    def fill(self, told: str) -> str:
        """The message with this history; without any nothing is pointed to that stands there."""
        about = [
            TrialRecord(-1, TrialState.WAITING, params=p.params, texts=p.texts)
            for p in self.request.proposals
        ]
        is_shown: IsShown = self.transcript.__contains__ if told else (lambda _: False)
        room = max(0, self.room)
        running = _render_running(
            [*self.request.running, *about],
            room // 8,
            lambda record: self.render_block(record, is_shown),
        )
        locate: _Locator = self._locate if told else (lambda *_: None)
        return self.templates.user.format(
            history=HISTORY_TITLE + told if told else "",
            best=_render_leaders(self.request.leaders, self.names),
            running=running,
            request=_render_request(self.request, self.names, room, locate),
        )

    def render_block(self, record: TrialRecord, is_shown: IsShown) -> str:
        """A trial, its texts told by those of trials that are shown."""

        def find(record: TrialRecord, name: str) -> TrialRecord | None:
            return self._find_known(record, name, is_shown)

        same = self.snapshot.find_same_feedback(record)
        same = same if same not in (None, record) and is_shown(same) else None
        return render_trial(record, self.names, self.room // 4, find, same)

    def _find_known(self, record: TrialRecord, name: str, is_shown: IsShown) -> TrialRecord | None:
        """The trial that a text is told by: one with the same, its parent or the first."""
        same = self.snapshot.find_same_text(name, record.texts[name])
        if same is not None and same is not record and is_shown(same):
            return same
        # The best is what most trials start from: whole here, it need not be in the request.
        leaders = self.request.leaders
        if len(self.snapshot.directions) == 1 and leaders and record is leaders[-1]:
            return None
        known = map(self.snapshot.find, (record.parent, self.transcript.first))
        shown = (r for r in known if r is not None and r is not record and is_shown(r))
        return next((r for r in shown if name in r.texts), None)

    def _locate(self, record: TrialRecord, name: str, fenced: str) -> int | None:
        """Number of the trial in whose block a text stands whole."""
        if "{history}" not in self.templates.user:
            return None
        same = self.snapshot.find_same_text(name, record.texts[name])
        holders = (r.number for r in (record, same) if r and self.transcript.holds(r, fenced))
        return next(holders, None)


def _render_leaders(leaders: Sequence[TrialRecord], names: Sequence[str]) -> str:
    """The best trials, a line each, values to as many digits as tell them apart."""
    if not leaders:
        return ""
    digits = _digits_to_tell([value for r in leaders for value in r.values or ()])
    title = "The best trials, the best last"
    if len(names) > 1:
        title = "Trials that no other beats in every objective"
    lines = [f"# {title}", ""]
    for leader in leaders:
        infeasible = ", infeasible" if leader.violation else ""
        numbers = f" {write_numbers(leader.params)}" if leader.params else ""
        values = write_values(leader, names, digits)
        lines.append(f"- trial {leader.number}: {values}{infeasible}{numbers}")
    return "\n".join(lines) + "\n\n"


def _digits_to_tell(values: Sequence[float], least: int = 6) -> int:
    """How many significant digits tell the values apart."""
    different = len(set(values))
    for digits in range(least, 17):
        if len({f"{value:.{digits}g}" for value in values}) == different:
            return digits
    return 17


def _render_running(
    running: Sequence[TrialRecord], limit: int, render: Callable[[TrialRecord], str]
) -> str:
    """The trials that run elsewhere, the newest that there is room for."""
    blocks: list[str] = []
    for record in reversed(running[-_MAX_RUNNING:]):
        block = render(record)
        if sum(map(len, blocks)) + len(block) > limit:
            break
        blocks.insert(0, block)
    if not blocks:
        return ""
    return "# Running now, their results not yet known: do not repeat them\n\n" + "".join(blocks)


def _render_request(request: Request, names: Sequence[str], room: int, locate: _Locator) -> str:
    problem = request.problem
    wanted = f"trial {request.number}"
    if problem.n_proposals > 1:
        wanted = f"trials {request.number} to {request.number + problem.n_proposals - 1}"
    lines = ["# Now", "", f"Propose {wanted}{_render_aim(request)}"]
    lines += _render_plateau(request, room // 8)
    for parameter in problem.texts:
        lines += _render_start(parameter, request, room // 2 // len(problem.texts), locate)
    if request.fixed or request.given:
        lines.append("The user has set a part of this trial, which stays as it is:")
    if request.fixed:
        lines.append(f"numbers: {write_numbers(request.fixed)}")
    for name, text in request.given.items():
        lines.append(f"{name}:\n{fence_text(shorten(clean_text(text), room // 8))}")
    if request.rejected is not None:
        reply, reason = request.rejected
        lines += [
            "",
            "# Your last reply could not be used",
            "",
            f"It was:\n{fence_text(shorten(clean_text(reply), min(_MAX_REPLY, room // 8)))}",
            _render_reason(reason, min(_MAX_REPLY, room // 8)),
            "Answer again, the whole of it.",
        ]
    return "\n".join(lines) + "\n"


def _render_reason(reason: str, room: int) -> str:
    """What is wrong with a reply; lines of a text keep their form."""
    first, _, rest = reason.partition("\n")
    said = f"What is wrong: {one_line(first, room)}"
    return f"{said}\n{fence_text(shorten(clean_text(rest), room))}" if rest else said


def _render_start(
    parameter: TextParameter, request: Request, room: int, locate: _Locator
) -> list[str]:
    """What to derive the next text from: the parent's text, or else the initial one."""
    name = parameter.name
    parent = request.parent
    if parent is None or name not in parent.texts:
        initial = parameter.initial
        if initial is None:
            return []
        return [f'Start from this "{name}":\n{fence_text(shorten(clean_text(initial), room))}']
    text = clean_text(parent.texts[name])
    holder = locate(parent, name, fence_text(text))
    is_best = not request.leaders or parent is request.leaders[-1]
    which = f"trial {parent.number}" + ("" if is_best else ", for variety not the best")
    if holder is None:
        start = fence_text(shorten(text, room))
        return [f'Start from "{name}" of {which}; it is:\n{start}']
    where = "" if holder == parent.number else f" at trial {holder}"
    return [f'Start from "{name}" of {which}; it is in full above{where}.']


def _render_aim(request: Request) -> str:
    if not request.leaders:
        return "; no trial is complete yet."
    objectives = request.problem.objectives
    if len(objectives) > 1:
        return ": one that none of those above beats in every objective."
    best = request.leaders[-1]
    if request.target is None or best.values is None:
        return f", to beat trial {best.number}."
    ((name, direction),) = objectives
    digits = _digits_to_tell([*best.values, request.target], least=3)
    or_better = "or more" if direction == StudyDirection.MAXIMIZE else "or less"
    aim = f"{one_line(name)} {request.target:.{digits}g} {or_better}"
    return f", to beat trial {best.number}: aim at {aim}."


def _render_plateau(request: Request, room: int) -> list[str]:
    """What to do where many trials have gained nothing, and what they were after."""
    if not request.in_vain:
        return []
    said: dict[str, int] = {}
    # Where nothing was gained for long, only the latest: the prompt has room for a few.
    for trial in request.in_vain[-_MAX_IN_VAIN:]:
        if trial.rationale:
            said[one_line(trial.rationale, _MAX_DIRECTION)] = trial.number
    lines = [f"The last {len(request.in_vain)} trials have gained nothing: go another way."]
    if said and room >= 2 * _MAX_DIRECTION:
        lines.append("Tried in vain:")
        latest = list(said.items())[-min(_MAX_DIRECTIONS, room // _MAX_DIRECTION) :]
        lines += [f"- trial {number}: {direction}" for direction, number in latest]
    return lines
