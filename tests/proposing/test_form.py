"""The form that a model is asked to reply in, after what it did with the one before."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from itertools import pairwise
import json
from typing import Any

import optuna
from provenance import only_models
from provenance import told
import pytest

from optuna_llm import Completion
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import suggest_text
from optuna_llm.models import ReplayModel
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


Schema = Mapping[str, Any]


class SmallModel:
    """Fails at tags, and is good at JSON as long as it is held to a schema.

    Attributes:
        schemas: The schema of each call, None without one.
        is_free: Whether its server takes no schema.
        is_good: Whether it is good at JSON.
    """

    def __init__(self, *, is_free: bool = False, is_good: bool = True) -> None:
        self.schemas: list[Schema | None] = []
        self.prompts: list[str] = []
        self.is_free = is_free
        self.is_good = is_good

    def complete(self, messages: Sequence[Message], *, schema: Schema | None = None) -> Completion:
        self.schemas.append(schema)
        self.prompts.append("".join(message.content for message in messages))
        x = len(self.schemas) / 1_000
        texts = {"words": f"so {x}"} if schema and "texts" in schema["properties"] else {}
        reply = json.dumps({"rationale": "Up.", "numbers": {"x": x}, "texts": texts})
        is_bad = schema is None or not self.is_good
        return Completion("So be it." if is_bad else reply, is_free=self.is_free and not is_bad)


def numbers(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


def mixed(trial: optuna.Trial) -> float:
    suggest_text(trial, "words", "hm")
    return numbers(trial)


def run(model: Any, objective: Any = numbers, n_trials: int = 6, **arguments: Any) -> optuna.Study:
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0, **arguments))
    study.optimize(objective, n_trials=n_trials, catch=LLMError)
    assert len(study.trials) == n_trials
    return study


def list_sources(study: optuna.Study) -> list[Any]:
    return [told(trial, "source") for trial in study.trials]


def test_a_model_that_fails_three_times_is_asked_for_json(
    logs: pytest.LogCaptureFixture,
) -> None:
    model = SmallModel()
    study = run(model)
    assert [schema is not None for schema in model.schemas] == [False] * 3 + [True] * 4
    assert list_sources(study) == ["base", "fallback", *["model"] * 4]
    assert "<numbers>" in model.prompts[2]
    assert "<numbers>" not in model.prompts[3]
    assert logs.text.count("sent a JSON schema from now on") == 1


def test_texts_go_into_json_only_after_twice_as_many_failures() -> None:
    model = SmallModel()
    study = run(model, mixed)
    assert [schema is not None for schema in model.schemas] == [False] * 5 + [False] + [True] * 3
    assert [get_texts(t).get("words") for t in study.trials[-3:]] == [
        "so 0.007",
        "so 0.008",
        "so 0.009",
    ]


@pytest.mark.parametrize("objective", [numbers, mixed])
def test_always_asks_for_json_at_once_and_never_does_not(objective: Any) -> None:
    model = SmallModel()
    study = run(model, objective, structured="always")
    assert None not in model.schemas
    assert list_sources(study)[1:] == ["model"] * 5
    model = SmallModel()
    run(model, objective, structured="never")
    assert set(model.schemas) == {None}


def test_a_server_that_takes_no_schema_is_asked_in_the_usual_form_again() -> None:
    model = SmallModel(is_free=True)
    study = run(model)
    asked = [schema is not None for schema in model.schemas]
    assert asked.count(True) == 1
    assert list_sources(study).count("model") == 1


def test_json_is_given_up_where_it_is_no_better() -> None:
    model = SmallModel(is_good=False)
    run(model, n_trials=12)
    assert [schema is not None for schema in model.schemas][:9] == [False] * 3 + [True] * 6
    assert set(model.schemas[9:]) == {None}


def test_now_and_then_a_bad_reply_changes_nothing() -> None:
    values = iter(range(1, 100))
    good = lambda: write_reply({"x": next(values) / 100})  # noqa: E731
    replies = ["no", "no", good(), "no", "no", good(), good(), "no", good(), good()]
    model = ScriptedModel(replies)
    model.accepts_schema = True  # type: ignore[attr-defined]
    assert list_sources(run(model))[1:] == ["model"] * 5
    assert all("<numbers>" in messages[0].content for messages in model.calls)


def test_a_model_that_was_never_usable_is_asked_less_and_less_and_one_warning_says_so(
    logs: pytest.LogCaptureFixture,
) -> None:
    model = ScriptedModel(lambda messages: "no")
    n_calls = []
    study = optuna.create_study(sampler=LLMSampler(model=model, proposers=only_models))
    for _ in range(12):
        study.optimize(numbers, n_trials=1)
        n_calls.append(len(model.calls))
    made = [after - before for before, after in pairwise(n_calls)]
    assert made[0] == 3
    assert made == sorted(made, reverse=True)
    assert made[-6:] == [1] * 6
    (said,) = [r for r in logs.messages if r.startswith("None of the model's")]
    assert "take another model" in said
    assert "an example in the task" in said
    # It takes none.
    assert "structured" not in said


def test_the_warning_names_structured_output_where_it_was_turned_off(
    logs: pytest.LogCaptureFixture,
) -> None:
    run(SmallModel(), n_trials=12, structured="never")
    assert 'set structured="always"' in logs.text


def test_a_model_that_was_usable_once_is_always_asked_again() -> None:
    replies = [write_reply({"x": 0.5}), *["no"] * 60]
    model = ScriptedModel(replies)
    run(model, n_trials=22, proposers=only_models)
    assert len(model.calls) == 61


def test_a_plain_function_that_takes_a_schema_is_given_it() -> None:
    schemas = []

    def ask(messages: Sequence[Message], *, schema: Schema | None = None) -> str:
        schemas.append(schema)
        return json.dumps({"numbers": {"x": len(schemas) / 100}})

    assert list_sources(run(ask, structured="always"))[1:] == ["model"] * 5
    assert None not in schemas


@pytest.mark.parametrize("model", ["offline", lambda messages: "no", ScriptedModel([])])
def test_always_needs_a_model_that_takes_a_schema(model: Any) -> None:
    with pytest.raises(ValueError, match='structured="always" needs a model that takes a JSON'):
        LLMSampler(model=model, structured="always")


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(ValueError, match="structured must be one of auto, always, never"):
        LLMSampler(model="offline", structured="sometimes")  # type: ignore[arg-type]


@pytest.mark.parametrize("is_free", [False, True])
def test_a_study_with_schemas_replays_to_the_letter(tmp_path: Any, is_free: bool) -> None:
    path = tmp_path / "replies"
    recorded = run(ReplayModel(path, SmallModel(is_free=is_free)))
    replayed = run(ReplayModel(path))
    assert [t.params for t in replayed.trials] == [t.params for t in recorded.trials]
    assert list_sources(replayed) == list_sources(recorded)


def test_several_proposals_come_in_one_object() -> None:
    def ask(messages: Sequence[Message], *, schema: Schema | None = None) -> str:
        assert schema is not None
        count = schema["properties"]["proposals"]["maxItems"]
        start = len(calls)
        calls.append(count)
        items = [{"numbers": {"x": (start * count + i) / 1_000}} for i in range(count)]
        return json.dumps({"proposals": items})

    calls: list[int] = []
    study = run(ask, structured="always", proposals_per_call=4, n_trials=9)
    assert list_sources(study).count("model") == 8
    assert set(calls) == {4}


def test_prompts_that_ask_for_json_offer_nothing_that_json_cannot_say() -> None:
    model = SmallModel()
    run(model, structured="always", n_trials=25, max_prompt_tokens=900)
    said = "".join(model.prompts)
    assert "<pass>" not in said
    assert "<insights>" not in said
