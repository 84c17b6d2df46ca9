"""What a trial's objective spends on models of its own."""

from __future__ import annotations

from dataclasses import replace
import threading

from optuna.trial import BaseTrial

from optuna_llm._outcomes import Attempt
from optuna_llm._outcomes import EVALUATION
from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored


_charging = threading.Lock()


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
