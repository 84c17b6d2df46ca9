"""The note on a trial."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import re

from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import one_line
from optuna_llm._records import TextParameter
from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored
from optuna_llm._study.case_table import find_case_sign
from optuna_llm._study.cases import read_cases
from optuna_llm._study.distributions import write_apart
from optuna_llm._study.progress import Progress
from optuna_llm.dashboard._markdown import escape
from optuna_llm.dashboard._markdown import fold
from optuna_llm.dashboard._markdown import show_block
from optuna_llm.dashboard._markdown import table
from optuna_llm.dashboard._notes import describe_origin
from optuna_llm.dashboard._notes import describe_result
from optuna_llm.dashboard._notes import join_note


_MAX_DIFF = 1_200
_MAX_TEXT = 6_000
_MAX_FEEDBACK = 700
_MAX_CASES = 5
_MAX_WORDS = 100


def write_trial_note(
    trial: FrozenTrial,
    progress: Progress,
    texts: Mapping[str, TextParameter],
    whole: bool,
) -> str:
    """The note on a finished trial.

    Args:
        trial: The trial.
        progress: The course of its study, including this trial.
        texts: The study's text parameters.
        whole: Whether to show the texts in full in addition to their diffs.
    """
    provenance = stored.read_provenance(trial)
    parent = None if provenance.parent is None else progress.trials.get(provenance.parent)
    parts = [_describe_outcome(trial, progress)]
    if provenance.rationale:
        parts.append(f"> {escape(provenance.rationale)}")
        if unused := _find_unused(trial, provenance.rationale, progress):
            parts.append(f"Not used by this trial: {', '.join(map(escape, unused))}")
    if provenance.error:
        parts.append(f"**The model's proposal was not used:** {escape(provenance.error)}")
    if tried := [
        a for a in provenance.attempts if a.result in ("failed", "passed") and a.proposer
    ]:
        said = ", ".join(f"{escape(a.proposer, 100)} {a.result}" for a in tried)
        parts.append(f"Asked before: {said}")
    if changes := _describe_changes(trial, parent):
        parts.append(changes)
    parts += _show_texts(trial, parent, texts, whole)
    if feedback := stored.read_feedback(trial):
        parts += ["**Feedback**", show_block(fold(feedback, None), None, _MAX_FEEDBACK)]
    parts += _describe_cases(trial, progress)
    if count := len(stored.read_images(trial)):
        several = "s" if count > 1 else ""
        parts.append(f"{count} image{several}, among the trial's artifacts")
    if provenance.usage is not None:
        parts.append(_describe_usage(provenance.usage))
    return join_note(parts)


def _describe_outcome(trial: FrozenTrial, progress: Progress) -> str:
    parts = [f"**{describe_result(trial, progress)}**"]
    if any(record.number == trial.number for record in progress.improvements[1:]):
        several = len(progress.objectives) > 1
        what = "on the Pareto front" if several else "the best"
        parts.append(f"{what} when it completed")
    return ", ".join([*parts, *describe_origin(trial)])


def _find_unused(trial: FrozenTrial, rationale: str, progress: Progress) -> list[str]:
    """Number parameters that the rationale names and the trial has not asked for.

    In a conditional space a model proposes values for all branches, and may explain those that the
    trial did not take. Names of one letter are passed over: they may be words.
    """
    if trial.state != TrialState.COMPLETE:
        return []
    words = set(re.findall(r"\w+", rationale))
    unused = progress.numbers - trial.params.keys()
    return sorted(name for name in unused & words if len(name) > 1)


def _describe_changes(trial: FrozenTrial, parent: FrozenTrial | None) -> str:
    """The number parameters whose values differ from the parent's."""
    if parent is None:
        return ""
    changes = []
    for name, now in trial.params.items():
        if name in parent.params and parent.params[name] != now:
            before, after = map(escape, write_apart(parent.params[name], now))
            changes.append(f"{escape(name)} {before} → **{after}**")
    return ", ".join(changes)


def _show_texts(
    trial: FrozenTrial,
    parent: FrozenTrial | None,
    declared: Mapping[str, TextParameter],
    whole: bool,
) -> Iterator[str]:
    """The texts, as diffs to those of the parent if there is one."""
    before = {} if parent is None else stored.read_texts(parent)
    now = stored.read_texts(trial)
    for name, text in now.items():
        title = f"**{escape(name)}**"
        language = declared[name].language if name in declared else None
        if parent is not None and name in before:
            diff = diff_texts(fold(before[name], language), fold(text, language))
            if not diff:
                yield f"{title}: unchanged from trial {parent.number}"
            else:
                yield f"{title}: changes to trial {parent.number}"
                yield show_block(diff, "diff", _MAX_DIFF // len(now))
        if whole or name not in before:
            yield title
            yield show_block(fold(text, language), language, _MAX_TEXT // len(now))


def _describe_cases(trial: FrozenTrial, progress: Progress) -> Iterator[str]:
    """The worst cases of the trial that something was said of."""
    results = read_cases(trial).results
    said = [case for case, result in results.items() if result.words]
    if not said:
        return
    sign = find_case_sign(None, [direction for _, direction in progress.objectives])
    worst = sorted(said, key=lambda case: (sign * results[case].score, case))[:_MAX_CASES]
    yield f"**The worst of {len(results)} cases**"
    yield table(
        ["case:", "score:", "feedback"],
        [
            [str(c), f"{results[c].score:.4g}", escape(one_line(results[c].words, _MAX_WORDS))]
            for c in worst
        ],
    )


def _describe_usage(usage: Usage) -> str:
    parts = [f"{usage.calls} call" + ("s" if usage.calls != 1 else "")]
    if usage.prompt_tokens:
        cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
        parts.append(f"{usage.prompt_tokens:,} prompt tokens{cached}")
        parts.append(f"{usage.completion_tokens:,} completion tokens")
    return f"Cost: {', '.join([*parts, f'{usage.seconds:.3g} s'])}"
