"""What is asked for, at the end of the user message."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_llm._prompt.blocks import cut_words
from optuna_llm._prompt.blocks import write_numbers
from optuna_llm._prompt.request import Locator
from optuna_llm._prompt.request import Request
from optuna_llm._prompt.second import render_second
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import fence_text
from optuna_llm._quoting import one_line
from optuna_llm._quoting import shorten
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._study.distributions import digits_to_tell
from optuna_llm._study.snapshot import StudySnapshot


_MAX_REPLY = 1_500
_LEAST_REASON = 200
_MAX_DIRECTIONS = 8
_MAX_IN_VAIN = 100
_DIRECTION_WORDS = 12
_ENOUGH = 8
"""Number of complete trials from which on the model may say that nothing is left to gain."""


def render_request(
    snapshot: StudySnapshot,
    request: Request,
    names: Sequence[str],
    room: int,
    locate: Locator,
    *,
    is_bare: bool = False,
) -> str:
    """What trial is wanted, what it is to beat and to start from, and what was wrong before.

    Args:
        snapshot: The study.
        request: What is asked for.
        names: Names of the objectives.
        room: How many characters the message may take in all.
        locate: Finds a text in the history.
        is_bare: Whether all is left out that a model can do without.
    """
    problem = request.problem
    wanted = f"trial {request.number}"
    if problem.n_proposals > 1:
        wanted = f"trials {request.number} to {request.number + problem.n_proposals - 1}"
    lines = ["# Now", "", f"Propose {wanted}{_render_aim(snapshot, request)}"]
    if not is_bare:
        lines += _render_facts(snapshot, request)
        lines += _render_plateau(request)
        lines += _render_ways_out(snapshot, request)
    for parameter in problem.texts:
        start = _render_start(parameter, snapshot, request, locate)
        lines += start[:1] if is_bare else start
        if not is_bare:
            lines += _render_failed(parameter.name, snapshot, room, locate)
    if not is_bare:
        lines += render_second(request, snapshot.case_names, locate)
    if request.fixed or request.given:
        lines.append("The user has set a part of this trial, which stays as it is:")
    if request.fixed:
        lines.append(f"numbers: {write_numbers(request.fixed)}")
    for name, text in request.given.items():
        lines.append(f"{name}:\n{fence_text(shorten(clean_text(text), room // 8))}")
    if request.rejected is not None:
        lines += _render_rejected(*request.rejected, min(_MAX_REPLY, room // 8), is_bare=is_bare)
    return "\n".join(lines) + "\n"


def _render_aim(snapshot: StudySnapshot, request: Request) -> str:
    if not request.leaders:
        return "; no trial is complete yet."
    objectives = request.problem.objectives
    if request.leaders[-1].violation:
        return ": one that is feasible, which none is yet."
    if len(objectives) > 1:
        return ": one that none of those above beats in every objective."
    best = request.leaders[-1]
    if _is_done(snapshot, request):
        return f"; none can be better than trial {best.number}."
    if request.target is None or best.values is None:
        return f", to beat trial {best.number}."
    ((name, direction),) = objectives
    digits = digits_to_tell([*best.values, request.target], least=3)
    or_better = "or more" if direction == StudyDirection.MAXIMIZE else "or less"
    aim = f"{one_line(name)} {request.target:.{digits}g} {or_better}"
    return f", to beat trial {best.number}: aim at {aim}, going by the last gains."


def _render_facts(snapshot: StudySnapshot, request: Request) -> list[str]:
    """What is left, and the goal, where the user has told them."""
    facts = snapshot.facts
    lines = []
    if snapshot.n_empty:
        tuned = " or only tuned" if len(snapshot.told) < len(snapshot.finished) else ""
        lines.append(f"Trials whose numbers are missing failed before they had values{tuned}.")
    if facts.n_trials is not None:
        left = max(request.problem.n_proposals, facts.n_trials - request.number)
        lines.append(f"{left} of {facts.n_trials} trials are left, this one included.")
    if facts.target_value is not None and facts.target_value != request.target:
        ((name, direction),) = request.problem.objectives
        or_better = "or more" if direction == StudyDirection.MAXIMIZE else "or less"
        lines.append(f"The study's goal is {one_line(name)} {facts.target_value:g} {or_better}.")
    return lines


def _render_ways_out(snapshot: StudySnapshot, request: Request) -> list[str]:
    """What may be answered in place of values, where there is reason to."""
    if request.problem.is_json:
        return []
    lines = []
    best = request.leaders[-1:]
    noise = snapshot.facts.noise
    if noise and len(request.leaders) > 1 and len(snapshot.directions) == 1:
        rivals = [r.number for r in request.leaders if _is_within(r, best[0], 2 * noise)]
        if len(rivals) > 1:
            names = ", ".join(map(str, sorted(rivals)))
            lines.append(
                f"Trials {names} differ by no more than noise. To measure one of them again in "
                f'place of new values, answer with a rationale and <repeat trial="{rivals[0]}"/>.'
            )
    # Nobody else can write a text, so that a pass helps nobody there.
    is_reason = request.in_vain or _is_done(snapshot, request)
    if not request.problem.texts and (is_reason or len(snapshot.complete) >= _ENOUGH):
        lines.append(
            "If you are sure that nothing is left to gain, you may answer <pass>why</pass> in "
            "place of the form above."
        )
    return lines


def _is_done(snapshot: StudySnapshot, request: Request) -> bool:
    """Whether the best value is the best possible one."""
    best = request.leaders[-1:]
    return bool(best) and best[0].values == (snapshot.facts.best_possible,)


def _is_within(record: TrialRecord, best: TrialRecord, distance: float) -> bool:
    if not record.values or not best.values:
        return False
    return abs(record.values[0] - best.values[0]) <= distance


def _render_plateau(request: Request) -> list[str]:
    """What to do where many trials have gained nothing, and what they were after."""
    if not request.in_vain:
        return []
    said: dict[str, int] = {}
    # Where nothing was gained for long, only the latest: the prompt has room for a few.
    for trial in request.in_vain[-_MAX_IN_VAIN:]:
        if words := cut_words(trial.rationale, _DIRECTION_WORDS):
            said[words] = trial.number
    lines = [
        f"Your last {len(request.in_vain)} trials have gained nothing: go another way, one that "
        "differs in kind."
    ]
    if said:
        lines.append("Tried in vain:")
        lines += [f"- trial {n}: {words}" for words, n in list(said.items())[-_MAX_DIRECTIONS:]]
    return lines


def _render_start(
    parameter: TextParameter, snapshot: StudySnapshot, request: Request, locate: Locator
) -> list[str]:
    """What to derive the next text from, always whole: the parent's text, or the initial one."""
    name = parameter.name
    parent = request.parent
    if parent is None or name not in parent.texts:
        if parameter.initial is None:
            return [f'There is no "{name}" to start from: write the first one.']
        return [f'Start from this "{name}":\n{fence_text(clean_text(parameter.initial))}']
    text = clean_text(parent.texts[name])
    holder = locate(parent, name, fence_text(text))
    which = f"trial {parent.number}"
    is_best = not request.leaders or parent.number == request.leaders[-1].number
    lines = []
    if holder is None:
        lines.append(f'Start from "{name}" of {which}; it is:\n{fence_text(text)}')
    else:
        where = "" if holder == parent.number else f" at trial {holder}"
        lines.append(f'Start from "{name}" of {which}; it is in full above{where}.')
    is_done = _is_done(snapshot, request)
    if not is_best and not is_done and len(request.problem.objectives) == 1:
        best = request.leaders[-1].number
        other = ""
        if name in request.problem.editable:
            other = ' An edit may change another trial\'s instead: name it in of="…".'
        lines.append(
            f"It is not the best, and chosen for variety: it may lead elsewhere. The aim is still "
            f"to beat trial {best}.{other}"
        )
    return lines


def _render_failed(name: str, snapshot: StudySnapshot, room: int, locate: Locator) -> list[str]:
    """The text of the last trial if it failed and the history shows only a part of it.

    A small repair may be all that it needs. The prompts after this one go without it.
    """
    last = snapshot.finished[-1] if snapshot.finished else None
    if last is None or last.state != TrialState.FAIL or name not in last.texts:
        return []
    text = clean_text(last.texts[name])
    fenced = fence_text(text)
    is_known = any(
        locate(last, name, words) is not None for words in (fenced, f"{name}, changes to trial")
    )
    if not text or is_known or len(fenced) > room // 4:
        return []
    return [f'Trial {last.number} failed. If it is worth a repair: its "{name}" is\n{fenced}']


def _render_rejected(reply: str, reason: str, size: int, *, is_bare: bool) -> list[str]:
    """A reply that could not be used, and why."""
    lines = ["", "# Your last reply could not be used", ""]
    if is_bare:
        lines.append(_render_reason(one_line(reason), min(_LEAST_REASON, size)))
    else:
        lines.append(f"It was:\n{fence_text(shorten(clean_text(reply), size))}")
        lines.append(_render_reason(reason, size))
    return [*lines, "Answer again, the whole of it."]


def _render_reason(reason: str, room: int) -> str:
    """What is wrong with a reply; lines of a text keep their form."""
    first, _, rest = reason.partition("\n")
    said = f"What is wrong: {one_line(first, room)}"
    return f"{said}\n{fence_text(shorten(clean_text(rest), room))}" if rest else said
