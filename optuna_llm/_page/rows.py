"""Trials as the study page gets them: a row for each, and all of one trial on demand."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from datetime import datetime
import itertools
import json
import math
from typing import Any

from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._quoting import shorten
from optuna_llm._records import Usage
from optuna_llm._study import attributes as stored
from optuna_llm._study.cases import read_cases
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.ledger import read_trial_cost
from optuna_llm._study.ledger import TrialCost
from optuna_llm._study.usage import price
from optuna_llm._study.usage import Prices


_MAX_HEAD = 160
_MAX_CASES = 500
_MAX_PARAMS = 200


def write_json(value: object) -> str:
    """The value as strict JSON in ASCII, in which no character can end a script or a line."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def make_row(
    trial: FrozenTrial,
    trials: Sequence[FrozenTrial],
    prices: Prices | Mapping[str, Prices] | None,
) -> dict[str, Any]:
    """What the page shows of a trial in lists and charts.

    Args:
        trial: The trial.
        trials: All trials of its study, by number.
        prices: The prices of the models.
    """
    provenance = stored.read_provenance(trial)
    costs = read_trial_cost(trial, trials)
    row = {
        "number": trial.number,
        "state": trial.state.name,
        "values": [encode(value) for value in trial.values or ()],
        "source": provenance.source,
        "model": provenance.model,
        "proposer": provenance.proposer,
        "parent": provenance.parent,
        "second_parent": provenance.second_parent,
        "rationale": _head(provenance.rationale),
        "feedback": _head(stored.read_feedback(trial)),
        "error": _head(provenance.error),
        "params": _encode_params(trial.params),
        "start": _seconds(trial.datetime_start),
        "end": _seconds(trial.datetime_complete),
        "n_cases": len(read_cases(trial).results) or None,
        "violation": encode(float(sum(v for v in read_constraints(trial).values() if v > 0))),
        **(describe_cost(costs, prices) if costs else {}),
    }
    return {name: value for name, value in row.items() if value not in (None, "", [], {})}


def describe_cases(trial: FrozenTrial) -> list[list[float]]:
    """Case and score of the cases that a trial has been evaluated on."""
    results = read_cases(trial).results.items()
    return [[case, _round(result.score)] for case, result in itertools.islice(results, _MAX_CASES)]


def describe_trial(trial: FrozenTrial, declared: Sequence[str]) -> dict[str, Any]:
    """All of a trial that its row lacks.

    Args:
        trial: The trial.
        declared: Names of the study's text parameters.
    """
    provenance = stored.read_provenance(trial)
    cases = read_cases(trial).results
    scores = {case: result.score for case, result in cases.items()}
    reported = sorted((trial.intermediate_values | scores).items())[:_MAX_CASES]
    return {
        "number": trial.number,
        "texts": stored.read_texts(trial, declared),
        "rationale": provenance.rationale,
        "feedback": stored.read_feedback(trial),
        "error": provenance.error,
        "constraints": [
            [shorten(str(name), _MAX_HEAD), encode(value)]
            for name, value in read_constraints(trial).items()
        ],
        "reported": [[step, encode(value)] for step, value in reported],
        "cases": {step: cases[step].words for step, _ in reported if step in cases},
        "images": len(stored.read_images(trial)),
    }


def matches(trial: FrozenTrial, words: Sequence[str], declared: Sequence[str]) -> bool:
    """Whether a trial's texts, rationale, feedback and error contain all of the words.

    Args:
        trial: The trial.
        words: The words, in lower case.
        declared: Names of the study's text parameters.
    """
    provenance = stored.read_provenance(trial)
    said = (provenance.rationale, stored.read_feedback(trial), provenance.error)
    content = "\n".join([*said, *stored.read_texts(trial, declared).values()]).lower()
    return all(word in content for word in words)


def describe_cost(
    costs: Sequence[TrialCost], prices: Prices | Mapping[str, Prices] | None
) -> dict[str, Any]:
    """What proposals have cost: in tokens and seconds, and in money where the price is known."""
    money: float | None
    try:
        money = sum(price(cost, prices) for cost in costs)
    except (ImportError, ValueError):
        money = None
    return {**_describe_usage(sum((cost.usage for cost in costs), Usage())), "cost": money}


def encode(value: object) -> Any:
    """A value as JSON has it; a number that JSON lacks becomes a string."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return shorten(value if isinstance(value, str) else repr(value), _MAX_HEAD)


def find_log_params(trial: FrozenTrial) -> set[str]:
    """Names, as in rows, of the parameters whose range is logarithmic."""
    return {
        shorten(name, _MAX_HEAD)
        for name, distribution in trial.distributions.items()
        if getattr(distribution, "log", False)
    }


def is_settled(trial: FrozenTrial) -> bool:
    """Whether a trial does not change any more."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def _describe_usage(usage: Usage) -> dict[str, Any]:
    return {
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "seconds": round(usage.seconds, 3),
    }


def _encode_params(params: Mapping[str, Any]) -> dict[str, Any]:
    shown = itertools.islice(params.items(), _MAX_PARAMS)
    return {shorten(name, _MAX_HEAD): encode(value) for name, value in shown}


def _round(score: float) -> float:
    return float(f"{score:.6g}")


def _head(text: str) -> str:
    """The first words of a text, on one line."""
    head = " ".join(text[: 4 * _MAX_HEAD].split())
    return head if len(head) <= _MAX_HEAD else head[: _MAX_HEAD - 1] + "…"


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else round(time.timestamp(), 3)
