"""The user message: the history, the best, what runs now, and what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from optuna.trial import TrialState

from optuna_llm._images import list_images
from optuna_llm._images import mention_hidden
from optuna_llm._prompt.asking import render_request
from optuna_llm._prompt.blocks import BlockRenderer
from optuna_llm._prompt.blocks import write_numbers
from optuna_llm._prompt.blocks import write_values
from optuna_llm._prompt.cases import render_case_table
from optuna_llm._prompt.families import render_families
from optuna_llm._prompt.request import Locator
from optuna_llm._prompt.request import Request
from optuna_llm._prompt.templates import Templates
from optuna_llm._prompt.transcript import Detail
from optuna_llm._prompt.transcript import IsShown
from optuna_llm._prompt.transcript import Transcript
from optuna_llm._quoting import one_line
from optuna_llm._records import TrialRecord
from optuna_llm._study.distributions import digits_to_tell
from optuna_llm._study.distributions import write_number
from optuna_llm._study.snapshot import StudySnapshot


INSIGHTS_REQUEST = """\

The history above will be shortened after this reply. So write, besides the above, what it has \
taught: at most six lines, each a fact that the next trials need (what works, what does not, by \
how much), not a plan:
<insights>
- …
</insights>
"""

_HISTORY_TITLE = "# Trials so far, in the order they ended\n\n"
_INSIGHTS_TITLE = "# What earlier trials have taught, in your words\n\n"

_POINTER = "; it is in full above at trial 1,000,000,000."

_MAX_RUNNING = 20
_FEW = 20
"""Up to how many shown trials the best need no list of their own."""

_LEAST_TRIALS = 8
"""Number of finished trials from which on choices are counted."""

_MAX_CHOICES = 12

_Show: TypeAlias = Callable[[TrialRecord], str]


@dataclass(frozen=True)
class Page:
    """The user message in the making.

    Attributes:
        snapshot: The study.
        request: What is asked for.
        transcript: The history as it was shown in the call before.
        templates: What the message is made of.
        room: Characters that it may take.
        is_bare: Whether all is left out that a model can do without.
    """

    snapshot: StudySnapshot
    request: Request
    transcript: Transcript
    templates: Templates
    room: int
    is_bare: bool = False

    @property
    def head_size(self) -> int:
        """Characters that may stand above the history, and point to it, once there is one."""
        lines = [*self.transcript.insights, *self.snapshot.insights]
        about = sum(len(_write_insight(line)) for line in lines)
        return about + len(_INSIGHTS_TITLE + _HISTORY_TITLE + _POINTER)

    @property
    def names(self) -> list[str]:
        """The objectives' names."""
        return [name for name, _ in self.request.problem.objectives]

    def fill(self, told: str, *, asks_insights: bool = False) -> str:
        """The message with this history; without any, nothing points to it.

        Args:
            told: The history.
            asks_insights: Whether to ask for what the trials so far have taught.
        """
        about = [
            TrialRecord(-1, TrialState.WAITING, params=p.params, texts=p.texts)
            for p in self.request.proposals
        ]
        room = max(0, self.room)
        running = _render_running(
            [*self.request.running, *about],
            room // 8,
            lambda record: self.render_block(
                record, Detail.FULL, self.transcript.__contains__ if told else lambda _: False
            ),
        )
        locate: Locator = self._locate if told else (lambda *_: None)
        asked = render_request(
            self.snapshot, self.request, self.names, room, locate, is_bare=self.is_bare
        )
        best = self._render_leaders(told) + render_families(self.snapshot, self.request)
        best += _render_choices(self.snapshot, self.request)
        cases = render_case_table(self.snapshot, self.request.leaders, room // 10)
        filled = self.templates.user.format(
            history=self._render_history(told),
            best="" if self.is_bare else best + cases,
            running="" if self.is_bare else running,
            request=asked + (INSIGHTS_REQUEST if asks_insights else ""),
        )
        # Last, whatever the template: they follow the text.
        hidden = mention_hidden(self.request.n_hidden_images)
        return filled + hidden + list_images(self.request.images)

    def render_block(self, record: TrialRecord, detail: Detail, is_shown: IsShown) -> str:
        """A trial, its texts told by those of others."""

        def find(record: TrialRecord, name: str) -> TrialRecord | None:
            return self._find_known(record, name, is_shown)

        same = self.snapshot.find_same_feedback(record)
        same = same if same not in (None, record) and is_shown(same) else None
        renderer = BlockRenderer(self.snapshot, self.names, self.room // 4, find)
        return renderer.render(record, detail, same)

    def _find_known(self, record: TrialRecord, name: str, is_shown: IsShown) -> TrialRecord | None:
        """The trial that a text is told by: one with the same, its parent or the first."""
        text = record.texts[name]
        same = self.snapshot.find_same_text(name, text)
        if same is not None and same is not record and is_shown(same):
            return same
        # The best is what most trials start from: whole here, it need not be in the request.
        leaders = self.request.leaders
        is_best = (
            len(self.snapshot.directions) == 1 and leaders and record.number == leaders[-1].number
        )
        if is_best and len(text) <= self.room // 4:
            return None
        parent = self.snapshot.find(record.parent)
        if parent is not None and parent is not record and name in parent.texts:
            return parent
        first = self.snapshot.told[0] if self.snapshot.told else None
        if first is None or first is record or not is_shown(first) or name not in first.texts:
            return None
        return first

    def _locate(self, record: TrialRecord, name: str, fenced: str) -> int | None:
        """Number of the trial in whose block a text stands whole."""
        if "{history}" not in self.templates.user:
            return None
        same = self.snapshot.find_same_text(name, record.texts[name])
        holders = (r.number for r in (record, same) if r and self.transcript.holds(r, fenced))
        return next(holders, None)

    def _render_history(self, told: str) -> str:
        lines = [_write_insight(line) for line in self.transcript.insights]
        insights = f"{_INSIGHTS_TITLE}{''.join(lines)}\n" if lines and told else ""
        return f"{insights}{_HISTORY_TITLE}{told}" if told else ""

    def _render_leaders(self, told: str) -> str:
        """The best trials, values to as many digits as tell them apart.

        In one line while all of them are in sight, else a line each.
        """
        leaders = self.request.leaders
        if not leaders:
            return ""
        digits = digits_to_tell([value for r in leaders for value in r.values or ()])
        is_one = len(self.names) == 1
        is_short = len(self.transcript) <= _FEW and all(map(self.transcript.is_listed, leaders))
        if is_one and is_short and len(leaders) == 1:
            return ""
        if is_one and told and is_short:
            best = [f"{leader.number} ({_write(leader, digits)})" for leader in reversed(leaders)]
            return f"The best trials, the best first: {', '.join(best)}.\n\n"
        title = "The best trials, the best last"
        if not is_one:
            title = "Trials that no other beats in every objective, five of them at most"
        if leaders[-1].violation:
            title = "No trial is feasible yet; those that come nearest, the nearest last"
        lines = [f"# {title}", ""]
        for leader in leaders:
            infeasible = ", infeasible" if leader.violation else ""
            numbers = f" {write_numbers(leader.params)}" if leader.params else ""
            values = write_values(leader, self.names, digits)
            lines.append(f"- trial {leader.number}: {values}{infeasible}{numbers}")
        return "\n".join(lines) + "\n\n"


def _write_insight(line: str) -> str:
    return f"- {one_line(line, 300)}\n"


def _write(leader: TrialRecord, digits: int) -> str:
    values = leader.values or ()
    return ", ".join(f"{value:.{digits}g}" for value in values) + (
        ", infeasible" if leader.violation else ""
    )


def _render_choices(snapshot: StudySnapshot, request: Request) -> str:
    """How often each choice of a categorical parameter was tried, and its best value."""
    lines = []
    for name, choices in request.problem.choices.items():
        if len(snapshot.finished) < _LEAST_TRIALS or len(choices) > _MAX_CHOICES:
            continue
        said = []
        for choice in map(write_number, choices):
            tally = snapshot.choices.find(name, choice)
            best = "" if tally.best is None else f", best {tally.best:.6g}"
            said.append(f"{choice} {tally.count}x{best}" if tally.count else f"{choice} never")
        lines.append(f"- {one_line(name)}: {'; '.join(said)}")
    lines += _render_conditions(snapshot, request)
    return "# Choices, as far as they were tried\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def _render_conditions(snapshot: StudySnapshot, request: Request) -> list[str]:
    """Which parameters go with which choices, where the trials show it."""
    lines = []
    for parameter in sorted(snapshot.conditional):
        for name in request.problem.choices:
            having = snapshot.choices.find_condition(parameter, name)
            if having and parameter != name:
                choices = " or ".join(having)
                lines.append(f"- {one_line(parameter)}: used only with {one_line(name)} {choices}")
                break
    return lines


def _render_running(running: Sequence[TrialRecord], limit: int, render: _Show) -> str:
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
