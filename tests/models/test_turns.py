"""Parameters that proposals take turns in, and patience that another model shortens."""

from __future__ import annotations

import pickle
import time
from typing import Any

from fault_server import serve_faults
import optuna
import pytest

from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import OpenAIModel
from optuna_llm.models._circumstances import calling
from optuna_llm.models._request import make_form
from optuna_llm.models._request import take_turn
from optuna_llm.testing import ScriptedModel


ASK = [Message("system", "s"), Message("user", "u")]


def sent(name: str, *turns: int, api: Any = "chat", **parameters: Any) -> list[Any]:
    form = make_form(api, parameters, stream=False, has_cache_key=False)
    bodies = [take_turn(form, turn).render("m", ASK).arguments["extra_body"] for turn in turns]
    return [body.get(name) for body in bodies]


def test_proposals_take_turns_in_a_sequence_of_values() -> None:
    assert sent("temperature", 0, 1, 2, 3, temperature=[0.2, 0.9]) == [0.2, 0.9, 0.2, 0.9]
    assert sent("reasoning_effort", 0, 4, reasoning_effort=("low", "high", "max")) == [
        "low",
        "high",
    ]


def test_the_responses_api_takes_turns_too() -> None:
    efforts = sent("reasoning", 0, 1, api="responses", reasoning_effort=["low", "high"])
    assert efforts == [{"effort": "low"}, {"effort": "high"}]


def test_a_single_value_and_other_sequences_stay_as_they_are() -> None:
    assert sent("temperature", 0, 1, temperature=0.5) == [0.5, 0.5]
    assert sent("stop", 0, 1, stop=["a", "b"]) == [["a", "b"]] * 2


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be a value or a sequence"):
        OpenAIModel("m", base_url="http://localhost:1/v1", temperature=[])


def test_the_turn_is_the_trials_so_that_workers_share_them_and_a_retry_keeps_it() -> None:
    with serve_faults(lambda number: "prose" if number == 1 else None) as server:
        model = OpenAIModel("m", base_url=server.url, temperature=[0.1, 0.2, 0.3])
        study = optuna.create_study(sampler=LLMSampler("Go.", model=model, seed=0))
        study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
    # Trials 1 to 4, of which the second was asked for twice.
    assert [body["temperature"] for body in server.bodies] == [0.2, 0.3, 0.3, 0.1, 0.2]


def test_outside_of_a_study_calls_take_turns_also_in_a_copy() -> None:
    with serve_faults(lambda _: "prose") as server:
        model = OpenAIModel("m", base_url=server.url, temperature=[1, 2])
        copied = pickle.loads(pickle.dumps(model))
        server.model = ScriptedModel(lambda _: "Good day.")
        for _ in range(3):
            assert copied.complete(ASK).text
    assert [body["temperature"] for body in server.bodies] == [1, 2, 1]


def test_where_another_model_waits_a_server_is_not_waited_for_long() -> None:
    with serve_faults(lambda _: "429") as server:
        server.model = ScriptedModel(lambda _: "Good day.")
        model = OpenAIModel("m", base_url=server.url)
        began = time.monotonic()
        with calling(1, patience=0.3), pytest.raises(ModelError):
            model.complete(ASK)
        assert time.monotonic() - began < 20
