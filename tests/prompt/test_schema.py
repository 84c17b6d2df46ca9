"""The JSON schema that is made of a problem."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.study import StudyDirection
import pytest

from optuna_llm._prompt.schema import make_schema
from optuna_llm._prompt.system import render_system
from optuna_llm._records import Problem
from optuna_llm._records import TextParameter
from optuna_llm._study.distributions import read_number


def make_problem(space: dict[str, BaseDistribution], **changes: Any) -> Problem:
    arguments: dict[str, Any] = {"space": space, "texts": [], "is_json": True} | changes
    return Problem("", [("value", StudyDirection.MINIMIZE)], **arguments)


@pytest.mark.parametrize(
    ("distribution", "schema"),
    [
        (FloatDistribution(-1, 2.5), {"type": "number", "minimum": -1.0, "maximum": 2.5}),
        (FloatDistribution(0, 1, step=0.25), {"type": "number", "enum": [0, 0.25, 0.5, 0.75, 1]}),
        (
            FloatDistribution(0, 100, step=0.25),
            {"type": "number", "minimum": 0.0, "maximum": 100.0},
        ),
        (IntDistribution(1, 4), {"type": "integer", "enum": [1, 2, 3, 4]}),
        (IntDistribution(2, 8, step=3), {"type": "integer", "enum": [2, 5, 8]}),
        (IntDistribution(1, 1000), {"type": "integer", "minimum": 1, "maximum": 1000}),
        (CategoricalDistribution(["a", "b"]), {"type": "string", "enum": ["a", "b"]}),
        (CategoricalDistribution([True, False]), {"type": "boolean", "enum": [True, False]}),
        (CategoricalDistribution([None, 1, "x"]), {"enum": [None, 1, "x"]}),
        (CategoricalDistribution([1 / 3]), {"type": "number", "enum": [0.3333333]}),
    ],
)
def test_a_number_parameter_has_its_type_and_its_bounds_or_values(
    distribution: BaseDistribution, schema: dict[str, Any]
) -> None:
    made = make_schema(make_problem({"x": distribution}))["properties"]["numbers"]
    assert made["properties"]["x"] == schema
    assert made["required"] == ["x"]
    assert made["additionalProperties"] is False


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(0.1, 0.7, step=0.1),
        FloatDistribution(0.05, 0.95, step=0.15),
        IntDistribution(-5, 37, step=7),
        CategoricalDistribution([1 / 3, True, 1.5, None, "1"]),
    ],
)
def test_each_listed_value_is_accepted(distribution: BaseDistribution) -> None:
    schema = make_schema(make_problem({"x": distribution}))
    listed = schema["properties"]["numbers"]["properties"]["x"]["enum"]
    assert len({read_number("x", value, distribution) for value in listed}) == len(listed)


def test_texts_are_strings_and_what_a_trial_may_do_without_can_be_null() -> None:
    space: dict[str, BaseDistribution] = {"x": IntDistribution(1, 99)}
    texts = [TextParameter("code"), TextParameter("notes")]
    problem = make_problem(space, texts=texts, conditional=frozenset({"x", "notes"}))
    parts = make_schema(problem)["properties"]
    assert list(parts) == ["rationale", "numbers", "texts"]
    number = {"type": "integer", "minimum": 1, "maximum": 99}
    assert parts["numbers"]["properties"] == {"x": {"anyOf": [number, {"type": "null"}]}}
    text = {"type": "string", "minLength": 1}
    assert parts["texts"]["properties"] == {
        "code": text,
        "notes": {"anyOf": [text, {"type": "null"}]},
    }


def test_several_proposals_are_a_list_of_that_length() -> None:
    one = make_schema(make_problem({"x": IntDistribution(1, 99)}))
    several = make_schema(make_problem({"x": IntDistribution(1, 99)}, n_proposals=3))
    items = {"type": "array", "items": one, "minItems": 3, "maxItems": 3}
    assert several["properties"] == {"proposals": items}


def test_the_prompt_asks_for_json_and_for_no_tags() -> None:
    space: dict[str, BaseDistribution] = {"x": IntDistribution(1, 9)}
    texts = [TextParameter("code")]
    problem = make_problem(space, texts=texts, conditional=frozenset({"x"}))
    said = render_system(problem).split("# Reply\n")[1]
    assert '{"rationale": "one sentence' in said
    assert '"numbers": {"x": …}, "texts": {"code": …}}' in said
    assert "What your trial will not use is null." in said
    assert "<" not in said
