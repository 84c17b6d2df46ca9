"""The JSON schema of a reply, for models that fail at its usual form."""

from __future__ import annotations

from collections.abc import Mapping
import json
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_llm._records import Problem
from optuna_llm._study.distributions import count_values
from optuna_llm._study.distributions import write_number


_MAX_LISTED = 50
"""Up to how many values are listed: not all servers hold a number to its bounds."""

_MAX_RATIONALE = 240
"""Characters of a rationale, since small models find no end."""

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}

_Schema = dict[str, Any]

# Small models like to leave a text empty.
_TEXT: _Schema = {"type": "string", "minLength": 1}


def make_schema(problem: Problem) -> _Schema:
    """The schema of a reply to a problem: a rationale, the numbers, the texts.

    Each property is required, as OpenAI's strict mode wants it; a parameter that a trial may do
    without can be null.
    """
    parts: _Schema = {"rationale": {"type": "string", "maxLength": _MAX_RATIONALE}}
    if problem.space:
        parts["numbers"] = _describe_object(
            {
                name: _allow_null(_describe(distribution), name, problem)
                for name, distribution in problem.space.items()
            }
        )
    if problem.texts:
        parts["texts"] = _describe_object(
            {text.name: _allow_null(_TEXT, text.name, problem) for text in problem.texts}
        )
    proposal = _describe_object(parts)
    if problem.n_proposals == 1:
        return proposal
    count = problem.n_proposals
    proposals = {"type": "array", "items": proposal, "minItems": count, "maxItems": count}
    return _describe_object({"proposals": proposals})


def _describe_object(properties: Mapping[str, _Schema]) -> _Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _allow_null(schema: _Schema, name: str, problem: Problem) -> _Schema:
    if name not in problem.conditional:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


def _describe(distribution: BaseDistribution) -> _Schema:
    if isinstance(distribution, CategoricalDistribution):
        return _list_values(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is not None and count_values(distribution) <= _MAX_LISTED:
        n_values = round(count_values(distribution))
        return _list_values([low + i * step for i in range(n_values)])
    kind = "integer" if isinstance(distribution, IntDistribution) else "number"
    return {"type": kind, "minimum": low, "maximum": high}


def _list_values(values: Any) -> _Schema:
    """The values as they are shown, which is how they are accepted."""
    shown = [json.loads(written) for written in dict.fromkeys(map(write_number, values))]
    kinds = {type(value) for value in shown}
    return ({"type": _TYPES[kinds.pop()]} if len(kinds) == 1 else {}) | {"enum": shown}
