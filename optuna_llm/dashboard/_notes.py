"""What a person reads of a trial and of a study, as Markdown.

Pure: from trials to words. Comments, which show nothing, tell our notes from those of others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import shorten
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored
from optuna_llm._study.distributions import describe_distribution
from optuna_llm._study.distributions import write_number
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.progress import Progress
from optuna_llm._study.usage import StudyUsage
from optuna_llm.dashboard._markdown import escape
from optuna_llm.dashboard._markdown import fold
from optuna_llm.dashboard._markdown import show_block
from optuna_llm.dashboard._markdown import table


_BEGIN = (
    "[//]: # (optuna_llm wrote this note and may write it again; it stays as you make it if you "
    "delete this line.)"
)
_END = "[//]: # (end)"

_MAX_DIFF = 1_200
_MAX_TEXT = 6_000
_MAX_FEEDBACK = 700
_MAX_BEST_TEXT = 30_000
_MAX_TASK = 5_000
_MAX_SHOWN = 3
_MAX_STEPS = 12

_SOURCES = {
    "initial": "the starting point",
    "model": "proposed by",
    "base": "from the base sampler",
    "fallback": "from the base sampler, since the model failed",
    "user": "enqueued by the user",
}


def is_own(note: str) -> bool:
    """Whether a note was written here, if only in part."""
    return note.startswith(_BEGIN)


def is_whole(note: str) -> bool:
    """Whether a note of ours was written to its end."""
    return note.endswith(_END)


def write_trial_note(
    trial: FrozenTrial,
    progress: Progress,
    texts: Mapping[str, TextParameter],
    whole: bool,
) -> str:
    """What there is to know of a finished trial.

    Args:
        trial: The trial.
        progress: The study's, with this trial.
        texts: The study's text parameters.
        whole: Whether the texts are to be shown whole, beside what they change.
    """
    provenance = stored.read_provenance(trial)
    number = provenance.parent
    parent = None if number is None else progress.trials.get(number)
    parts = [_BEGIN, _describe_outcome(trial, progress)]
    if provenance.rationale:
        parts.append(f"> {escape(provenance.rationale)}")
    if provenance.error:
        parts.append(f"**Why the model's proposal was not used:** {escape(provenance.error)}")
    if changes := _describe_changes(trial, parent):
        parts.append(changes)
    parts += _show_texts(trial, parent, texts, whole)
    if feedback := stored.read_feedback(trial):
        parts += ["**Feedback**", show_block(fold(feedback, None), None, _MAX_FEEDBACK)]
    if provenance.usage is not None:
        parts.append(_describe_usage(provenance.usage))
    return _join(parts)


def _describe_outcome(trial: FrozenTrial, progress: Progress) -> str:
    words = [f"**{_describe_result(trial, progress)}**"]
    if any(step.number == trial.number for step in progress.steps[1:]):
        several = len(progress.objectives) > 1
        words.append("on the Pareto front when it ended" if several else "the best when it ended")
    return ", ".join([*words, *_describe_origin(trial)])


def _describe_origin(trial: FrozenTrial) -> Iterator[str]:
    """Who decided its values, and what they come from."""
    provenance = stored.read_provenance(trial)
    source = provenance.source
    if source is not None:
        named = f" {escape(provenance.model)}" if provenance.model else " the model"
        yield _SOURCES.get(source, source) + (named if source == "model" else "")
    if provenance.parent is not None:
        yield f"from trial {provenance.parent}"


def _describe_result(trial: FrozenTrial, progress: Progress) -> str:
    if trial.state == TrialState.FAIL:
        return "Failed"
    values = _write_values(trial.values or (), progress)
    if trial.state == TrialState.PRUNED:
        return f"Pruned at {values}" if values else "Pruned"
    infeasible = any(value > 0 for value in read_constraints(trial).values())
    return values + (" (infeasible)" if infeasible else "")


def _write_values(values: Sequence[float], progress: Progress) -> str:
    several = len(progress.objectives) > 1
    return ", ".join(
        (f"{escape(name)} " if several else "") + f"{value:.10g}"
        for (name, _), value in zip(progress.objectives, values, strict=False)
    )


def _describe_changes(trial: FrozenTrial, parent: FrozenTrial | None) -> str:
    """The numbers that differ from the parent's."""
    if parent is None:
        return ""
    changes = [
        f"{escape(name)} {escape(write_number(parent.params[name]))} → "
        f"**{escape(write_number(value))}**"
        for name, value in trial.params.items()
        if name in parent.params and parent.params[name] != value
    ]
    return ", ".join(changes)


def _show_texts(
    trial: FrozenTrial,
    parent: FrozenTrial | None,
    declared: Mapping[str, TextParameter],
    whole: bool,
) -> Iterator[str]:
    """The texts, as what they change in the parent's where there is one."""
    before = {} if parent is None else stored.read_texts(parent)
    now = stored.read_texts(trial)
    for name, text in now.items():
        title = f"**{escape(name)}**"
        language = declared[name].language if name in declared else None
        if parent is not None and name in before:
            diff = diff_texts(fold(before[name], language), fold(text, language))
            if not diff:
                yield f"{title}: the same as in trial {parent.number}"
            else:
                yield f"{title}: what it changes in trial {parent.number}"
                yield show_block(diff, "diff", _MAX_DIFF // len(now))
        if whole or name not in before:
            yield title
            yield show_block(fold(text, language), language, _MAX_TEXT // len(now))


def _describe_usage(usage: Usage) -> str:
    words = [f"{usage.calls} call" + ("s" if usage.calls != 1 else ""), f"{usage.seconds:.3g} s"]
    if usage.prompt_tokens:
        cached = f" ({usage.cached_tokens:,} of them cached)" if usage.cached_tokens else ""
        words.insert(1, f"{usage.prompt_tokens:,} tokens sent{cached}")
        words.insert(2, f"{usage.completion_tokens:,} received")
    return f"Cost: {', '.join(words)}"


def write_study_note(
    name: str,
    progress: Progress,
    task: str,
    texts: Mapping[str, TextParameter],
    spent: StudyUsage,
) -> str:
    """What there is to know of a study.

    Args:
        name: The study's name.
        progress: What has become of it.
        task: The task.
        texts: The text parameters.
        spent: What it has cost.
    """
    lines = [escape(line, _MAX_TASK) for line in shorten(task, _MAX_TASK).splitlines()]
    parts = [_BEGIN, "## Task", *(filter(None, lines) if task.strip() else ["*None was given.*"])]
    parts.append(_describe_objectives(progress))
    parts += _describe_best(progress, texts)
    parts += _describe_progress(progress)
    parts += _describe_parameters(progress, texts)
    parts += _describe_totals(progress, spent)
    parts += _describe_continuation(name)
    return _join(parts)


def _describe_objectives(progress: Progress) -> str:
    named = [f"{direction.name.lower()} {escape(name)}" for name, direction in progress.objectives]
    return f"Objective: {', '.join(named)}"


def _describe_best(progress: Progress, texts: Mapping[str, TextParameter]) -> Iterator[str]:
    if not progress.best:
        yield "## Best trial"
        yield "*None is complete yet.*"
        return
    yield "## Pareto front" if len(progress.objectives) > 1 else "## Best trial"
    for record in progress.best[:_MAX_SHOWN]:
        trial = progress.trials[record.number]
        outcome = ", ".join([f"**{_describe_result(trial, progress)}**", *_describe_origin(trial)])
        yield f"Trial {record.number}: {outcome}"
        if record.rationale:
            yield f"> {escape(record.rationale)}"
        if trial.params:
            pairs = [f"{escape(n)} = {escape(write_number(v))}" for n, v in trial.params.items()]
            yield ", ".join(pairs)
        for name, text in record.texts.items():
            language = texts[name].language if name in texts else None
            yield f"**{escape(name)}**"
            room = _MAX_BEST_TEXT // len(record.texts) // len(progress.best[:_MAX_SHOWN])
            yield show_block(fold(text, language), language, room)
    if len(progress.best) > _MAX_SHOWN:
        yield f"*{len(progress.best) - _MAX_SHOWN} more are on the front.*"


def _describe_progress(progress: Progress) -> Iterator[str]:
    steps = progress.steps
    if not steps:
        return
    yield "## Progress"
    shown = steps if len(steps) <= _MAX_STEPS else [steps[0], *steps[1 - _MAX_STEPS :]]
    if len(shown) < len(steps):
        yield f"*The first and the last {len(shown) - 1} of {len(steps)} steps.*"
    yield table(
        ["trial:", "value:", "from:", "source", "why"],
        [_describe_step(step, progress) for step in shown],
    )


def _describe_step(step: TrialRecord, progress: Progress) -> list[str]:
    value = _write_values(step.values or (), progress)
    source = stored.read_source(progress.trials[step.number]) or ""
    parent = "" if step.parent is None else str(step.parent)
    return [str(step.number), value, parent, source, escape(step.rationale, 120)]


def _describe_parameters(progress: Progress, texts: Mapping[str, TextParameter]) -> Iterator[str]:
    space: dict[str, BaseDistribution] = {}
    for trial in progress.finished:
        space |= trial.distributions
    if not space and not texts:
        return
    yield "## Parameters"
    lines = [f"- {escape(n)}: {escape(describe_distribution(d))}" for n, d in space.items()]
    for name, text in texts.items():
        language = f" in {escape(text.language)}" if text.language else ""
        description = f": {escape(text.description)}" if text.description else ""
        lines.append(f"- {escape(name)}, a text{language}{description}")
    yield "\n".join(lines)


def _describe_totals(progress: Progress, spent: StudyUsage) -> Iterator[str]:
    yield "## Trials and cost"
    states = Counter(trial.state for trial in progress.trials.values())
    names = {TrialState.FAIL: "failed"}
    yield ", ".join(
        f"{count} {names.get(state, state.name.lower())}" for state, count in states.most_common()
    )
    sources = Counter(stored.read_source(trial) or "none" for trial in progress.finished)
    nothing = StudyUsage(cost=0.0)
    header = ["calls:", "tokens sent:", "cached:", "received:", "seconds:", "cost:"]
    yield table(
        ["source", "trials:", *header],
        [
            [source, str(count), *_write_usage(spent.by_source.get(source, nothing))]
            for source, count in sources.most_common()
        ]
        + [["**all**", str(len(progress.finished)), *_write_usage(spent)]],
    )
    models = [
        [escape(name) if name else "*no name*", *_write_usage(part)]
        for name, part in sorted(spent.by_model.items())
    ]
    if models:
        yield table(["model", *header], models)
    if spent.cost is None and spent.prompt_tokens:
        yield "*The price of a model is not known: `prices=` tells it.*"


def _write_usage(usage: StudyUsage) -> list[str]:
    counts = (usage.calls, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    # Without tokens there is nothing to be paid, or nobody has counted them.
    cost = f"{usage.cost:.4g}" if usage.cost and usage.prompt_tokens else ""
    return [*(f"{n:,}" for n in counts), f"{usage.seconds:.1f}", cost]


def _describe_continuation(name: str) -> Iterator[str]:
    yield "## To go on"
    yield show_block(
        "study = optuna.load_study(\n"
        f"    study_name={name!r},\n"
        '    storage="…",  # the address that this page is served from\n'
        '    sampler=LLMSampler(model="…"),  # it knows the task from the study\n'
        ")\n"
        "study.optimize(objective, n_trials=20)",
        "python",
        2_000,
    )


def _join(parts: Sequence[str]) -> str:
    return "\n\n".join([*parts, _END])
