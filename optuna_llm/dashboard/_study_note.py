"""The note on a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Mapping

from optuna.trial import TrialState

from optuna_llm._outcomes import EVALUATION
from optuna_llm._quoting import clean_text
from optuna_llm._quoting import shorten
from optuna_llm._records import TextParameter
from optuna_llm._records import TrialRecord
from optuna_llm._study.attributes import read_provenance
from optuna_llm._study.attributes import read_texts
from optuna_llm._study.distributions import describe_distribution
from optuna_llm._study.distributions import write_number
from optuna_llm._study.progress import Progress
from optuna_llm._study.usage import StudyUsage
from optuna_llm._study.validation import Validation
from optuna_llm.dashboard._families import describe_families
from optuna_llm.dashboard._families import is_tunable
from optuna_llm.dashboard._markdown import escape
from optuna_llm.dashboard._markdown import fold
from optuna_llm.dashboard._markdown import show_block
from optuna_llm.dashboard._markdown import table
from optuna_llm.dashboard._notes import describe_origin
from optuna_llm.dashboard._notes import describe_result
from optuna_llm.dashboard._notes import join_note
from optuna_llm.dashboard._notes import write_values


_MAX_BEST_TEXT = 30_000
_MAX_TASK = 5_000
_MAX_BEST = 3
_MAX_IMPROVEMENTS = 12
_MAX_LISTED = 50

_USAGE_HEADER = ["calls:", "prompt tokens:", "cached:", "completion tokens:", "seconds:", "cost:"]


def write_study_note(
    name: str,
    progress: Progress,
    task: str,
    texts: Mapping[str, TextParameter],
    adaptations: Mapping[str, Mapping[str, str]],
    spent: StudyUsage,
    validation: Validation | None = None,
) -> str:
    """The note on a study.

    Args:
        name: The study's name.
        progress: Its course so far.
        task: The task.
        texts: The text parameters.
        adaptations: For each model, the request parameters that its server refused, and what is
            sent instead.
        spent: What the study has cost.
        validation: What the best trials reach in held-out cases.
    """
    paragraphs = shorten(clean_text(task), _MAX_TASK).split("\n")
    task_lines = [escape(paragraph, _MAX_TASK) for paragraph in paragraphs]
    parts = ["## Task", *(filter(None, task_lines) if task.strip() else ["*No task was given.*"])]
    parts.append(_describe_objectives(progress))
    parts += _describe_adaptations(adaptations)
    parts += _describe_best(progress, texts)
    parts += _describe_validation(validation)
    parts += _describe_improvements(progress)
    parts += describe_families(progress, texts)
    parts += _describe_parameters(progress, texts)
    parts += _describe_trials(progress)
    parts += _describe_usage(progress, spent)
    parts += _describe_continuation(name)
    return join_note(parts)


def _describe_objectives(progress: Progress) -> str:
    named = [f"{direction.name.lower()} {escape(name)}" for name, direction in progress.objectives]
    return f"Objective: {', '.join(named)}"


def _describe_adaptations(adaptations: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What differs from the experiment that the user has set up."""
    lines = [
        f"- {escape(model or 'the model', 100)}: **{escape(parameter, 100)}**: {escape(change)}"
        for model, changes in adaptations.items()
        for parameter, change in changes.items()
    ]
    if not lines:
        return
    yield "## Changed requests"
    yield (
        "The model's server did not accept the requests as they were set up. They have been "
        "changed, and so has this experiment:"
    )
    yield _list(lines)


def _list(lines: list[str]) -> str:
    left_out = len(lines) - _MAX_LISTED
    return "\n".join(lines[:_MAX_LISTED] + [f"- and {left_out} more"] * (left_out > 0))


def _describe_best(progress: Progress, texts: Mapping[str, TextParameter]) -> Iterator[str]:
    yield "## Pareto front" if len(progress.objectives) > 1 else "## Best trial"
    if not progress.best:
        yield "*No trial is complete yet.*"
    shown = progress.best[:_MAX_BEST]
    for record in shown:
        trial = progress.trials[record.number]
        outcome = ", ".join([f"**{describe_result(trial, progress)}**", *describe_origin(trial)])
        yield f"Trial {record.number}: {outcome}"
        if record.rationale:
            yield f"> {escape(record.rationale)}"
        if trial.params:
            pairs = [f"{escape(n)} = {escape(write_number(v))}" for n, v in trial.params.items()]
            yield ", ".join(pairs)
        # As the objective got them: in the record, tunables are marked.
        own = read_texts(trial, record.texts)
        for name, text in own.items():
            language = texts[name].language if name in texts else None
            yield f"**{escape(name)}**"
            room = _MAX_BEST_TEXT // len(own) // len(shown)
            yield show_block(fold(text, language), language, room)
    if len(progress.best) > len(shown):
        yield f"*{len(progress.best) - len(shown)} more trials are on the Pareto front.*"


def _describe_validation(validation: Validation | None) -> Iterator[str]:
    """A table of held-out scores, and which trial to trust."""
    if validation is None:
        return
    yield "## Held-out cases"
    yield f"**{escape(validation.verdict, _MAX_TASK)}**"
    header, *rows = validation.make_rows()
    yield table([f"{name}:" for name in header], rows[:_MAX_LISTED])


def _describe_improvements(progress: Progress) -> Iterator[str]:
    improvements = progress.improvements
    if not improvements:
        return
    yield "## Progress"
    shown = list(improvements)
    if len(improvements) > _MAX_IMPROVEMENTS:
        shown = [improvements[0], *improvements[1 - _MAX_IMPROVEMENTS :]]
        yield f"*The first and the last {len(shown) - 1} of {len(improvements)} improvements.*"
    yield table(
        ["trial:", "value:", "parent:", "source", "rationale"],
        [_describe_improvement(record, progress) for record in shown],
    )


def _describe_improvement(record: TrialRecord, progress: Progress) -> list[str]:
    value = write_values(record.values or (), progress)
    source = escape(progress.origins[record.number].source or "", 100)
    parents = (record.parent, record.second_parent)
    parent = ", ".join(str(number) for number in parents if number is not None)
    return [str(record.number), value, parent, source, escape(record.rationale, 120)]


def _describe_parameters(progress: Progress, texts: Mapping[str, TextParameter]) -> Iterator[str]:
    space = progress.space
    if not space and not texts:
        return
    yield "## Parameters"
    lines = [
        f"- {escape(name)}: {escape(describe_distribution(distribution))}"
        for name, distribution in space.items()
        if not is_tunable(name, texts)
    ]
    for name, text in texts.items():
        language = f" in {escape(text.language, 100)}" if text.language else ""
        description = f": {escape(text.description)}" if text.description else ""
        lines.append(f"- {escape(name)}, a text{language}{description}")
    yield "\n".join(lines)


def _describe_trials(progress: Progress) -> Iterator[str]:
    yield "## Trials and cost"
    states = Counter(trial.state for trial in progress.trials.values())
    yield ", ".join(
        f"{count} {'failed' if state == TrialState.FAIL else state.name.lower()}"
        for state, count in states.most_common()
    )


def _describe_usage(progress: Progress, spent: StudyUsage) -> Iterator[str]:
    """Tables of the cost by source and by model."""
    n_trials: Counter[str] = Counter(
        progress.origins[trial.number].source or "none" for trial in progress.finished
    )
    sources = [source for source, _ in n_trials.most_common()]
    sources += sorted(spent.by_source.keys() - n_trials.keys())
    nothing = StudyUsage(cost=0.0)
    rows = [
        [escape(s, 100), str(n_trials[s]), *_write_usage(spent.by_source.get(s, nothing))]
        for s in sources
    ]
    total = ["**total**", str(len(progress.finished)), *_write_usage(spent)]
    yield table(["source", "trials:", *_USAGE_HEADER], [*rows, total])
    if "unclaimed" in spent.by_source:
        yield (
            "*Unclaimed: calls whose proposals no trial has used, such as those in flight or made "
            "ahead when the study ended.*"
        )
    yield from _describe_proposers(progress, spent)
    if spent.by_model:
        models = [
            [escape(name, 100) if name else "*unnamed*", *_write_usage(part)]
            for name, part in sorted(spent.by_model.items())[:_MAX_LISTED]
        ]
        yield table(["model", *_USAGE_HEADER], models)
    if spent.cost is None and spent.prompt_tokens:
        yield "*The cost is unknown for lack of a model's price: pass it as `prices=`.*"


def _describe_proposers(progress: Progress, spent: StudyUsage) -> Iterator[str]:
    """A table of what each has proposed and gained, where several models do."""
    if len(spent.by_proposer.keys() - {EVALUATION, "none", "unclaimed"}) < 2:
        return
    proposers = {t.number: read_provenance(t).proposer or "none" for t in progress.finished}
    n_trials = Counter(proposers.values())
    n_gains = Counter(proposers[record.number] for record in progress.improvements)
    nothing = StudyUsage(cost=0.0)
    yield table(
        ["proposer", "trials:", "new bests:", *_USAGE_HEADER],
        [
            [
                escape(name, 100),
                str(n_trials[name]),
                str(n_gains[name]),
                *_write_usage(spent.by_proposer.get(name, nothing)),
            ]
            for name in sorted(n_trials.keys() | spent.by_proposer.keys())[:_MAX_LISTED]
        ],
    )


def _write_usage(usage: StudyUsage) -> list[str]:
    counts = (usage.calls, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    # No tokens: nothing to pay for, or the server does not count them.
    cost = f"{usage.cost:.4g}" if usage.cost and usage.prompt_tokens else ""
    return [*(f"{n:,}" for n in counts), f"{usage.seconds:.1f}", cost]


def _describe_continuation(name: str) -> Iterator[str]:
    yield "## Continue this study"
    yield show_block(
        "study = optuna.load_study(\n"
        f"    study_name={name!r},\n"
        '    storage="…",  # the storage that this page is served from\n'
        '    sampler=LLMSampler(model="…"),  # reads the task from the study\n'
        ")\n"
        "study.optimize(objective, n_trials=20)",
        "python",
        2_000,
    )
