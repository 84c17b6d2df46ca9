"""What a trial's objective spends on models of its own."""

from __future__ import annotations

from dataclasses import replace
import threading

from optuna.trial import BaseTrial
from optuna.trial import Trial

from optuna_llm._outcomes import Attempt
from optuna_llm._outcomes import EVALUATION
from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored


_charging = threading.Lock()


def report_usage(trial: BaseTrial, usage: Usage, *, model: str | None = None) -> None:
    """Count what a model has cost that the objective has asked; call it for each call.

    :func:`usage` and the budgets count it beside what the proposals cost, under the model's own
    name and price.

    .. code-block:: python

        reply = task_model.complete(messages)
        report_usage(trial, reply.usage, model=reply.model)

    It may be called from the threads of :func:`~optuna_llm.evaluate.evaluate_cases`. A
    :class:`~optuna_llm.evaluate.Judge` that is given the trial does so by itself.

    Args:
        trial: The running trial; nothing is counted for a trial of another kind.
        usage: Tokens, calls and seconds; without any calls, it counts as one.
        model: The model's name, by which its price is known.

    Raises:
        TypeError: If an argument has another type.
    """
    if not isinstance(usage, Usage):
        raise TypeError(f"usage must be a Usage, such as that of a Completion: {usage!r}.")
    if model is not None and not isinstance(model, str):
        raise TypeError(f"model must be a name or None: {model!r}.")
    if isinstance(trial, Trial):
        charge(trial, model, replace(usage, calls=usage.calls or 1))


def charge(trial: BaseTrial, model: str | None, usage: Usage) -> None:
    """Add what calls to a model cost to what a running trial has cost so far.

    Args:
        trial: The trial.
        model: The model's name, as its server reports it.
        usage: The cost.
    """
    with _charging:  # Cases may be evaluated in several threads.
        known = stored.read_provenance(trial)
        before = [a for a in known.attempts if (a.result, a.model) == ("evaluated", model)]
        spent = sum((attempt.usage for attempt in before), usage)
        attempts = [a for a in known.attempts if a not in before]
        attempts.append(Attempt(EVALUATION, "evaluated", spent, model))
        total = (known.usage or Usage()) + usage
        told = replace(known, usage=total, attempts=tuple(attempts))
        for key, value in stored.provenance_attributes(told).items():
            trial.set_user_attr(key, value)
