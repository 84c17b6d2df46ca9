"""Studies with several models, and with the base sampler as a proposer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import random
from typing import Any

import optuna
from optuna.trial import TrialState
import pytest

from optuna_llm import Candidate
from optuna_llm import Completion
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import Prices
from optuna_llm import suggest_text
from optuna_llm import Turn
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm._study.attributes import Provenance
from optuna_llm._study.attributes import read_provenance
from optuna_llm._study.snapshot import StudySnapshot
from optuna_llm._study.store import StudyStore
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


def numbers(trial: optuna.Trial) -> float:
    return (trial.suggest_float("x", -10, 10) - 3) ** 2


def mixed(trial: optuna.Trial) -> float:
    return numbers(trial) + len(suggest_text(trial, "code", "a long beginning"))


def draw(seed: int = 0, tokens: int = 0) -> ScriptedModel:
    """A model that proposes at random."""
    rng = random.Random(seed)

    def answer(_: object) -> Completion:
        reply = write_reply({"x": rng.uniform(-10, 10)}, {"code": "x" * rng.randint(1, 10_000)})
        return Completion(reply, f"served {seed}", Usage(prompt_tokens=tokens))

    return ScriptedModel(answer)


def draw_numbers(seed: int = 0, tokens: int = 0) -> ScriptedModel:
    rng = random.Random(seed)
    return ScriptedModel(
        lambda _: Completion(
            write_reply({"x": rng.uniform(-10, 10)}),
            f"served {seed}",
            Usage(prompt_tokens=tokens),
        )
    )


def refuse(error: Exception) -> ScriptedModel:
    return ScriptedModel(lambda _: error)


def in_order(*names: str) -> Any:
    return lambda turns, candidates, rng: names


def optimize(
    model: Any, objective: Any = numbers, n_trials: int = 10, **arguments: Any
) -> optuna.Study:
    study = optuna.create_study(sampler=LLMSampler("Go.", model=model, seed=0, **arguments))
    study.optimize(objective, n_trials=n_trials, catch=LLMError)
    return study


def read(study: optuna.Study) -> list[Provenance]:
    return [read_provenance(trial) for trial in study.trials]


def look(study: optuna.Study) -> StudySnapshot:
    return StudyStore(study).snapshot(study)


def test_several_models_share_the_trials_and_each_trial_names_its_own() -> None:
    models = {"one": draw_numbers(1), "two": draw_numbers(2)}
    study = optimize(models, n_trials=20)
    proposers = Counter(p.proposer for p in read(study))
    assert proposers["one"] + proposers["two"] + proposers["base"] == 20
    assert min(proposers["one"], proposers["two"]) > 2
    assert {(p.proposer, p.model) for p in read(study) if p.source == "model"} == {
        ("one", "served 1"),
        ("two", "served 2"),
    }
    assert len(models["one"].calls) == proposers["one"]


def test_where_one_model_fails_the_next_is_asked_before_the_base_sampler() -> None:
    models = {"down": refuse(ModelError("down")), "up": draw_numbers()}
    study = optimize(models, n_trials=3, proposers=in_order("down", "up"))
    assert [p.proposer for p in read(study)] == ["base", "up", "up"]
    (attempt,) = read(study)[1].attempts
    assert (attempt.proposer, attempt.result, attempt.usage.calls) == ("down", "failed", 1)
    usage_of_both = read(study)[1].usage
    assert usage_of_both is not None
    assert usage_of_both.calls == 2
    spent = usage(study)
    assert {n: part.calls for n, part in spent.by_proposer.items()} == {"down": 2, "up": 2}
    assert spent.calls == 4


def test_where_all_models_fail_the_base_sampler_stands_in() -> None:
    models = {"a": refuse(ModelError("a is down")), "b": refuse(ModelError("b is down"))}
    study = optimize(models, n_trials=2, proposers=in_order("a", "b"))
    provenance = read(study)[1]
    assert (provenance.source, provenance.proposer) == ("fallback", "base")
    assert provenance.error == "b is down"
    assert [a.proposer for a in provenance.attempts] == ["a", "b"]


def test_a_text_that_no_model_wrote_fails_its_trial_and_tells_who_was_asked() -> None:
    models = {"a": refuse(ModelError("a is down")), "b": refuse(ModelError("b is down"))}
    study = optimize(models, mixed, n_trials=2, proposers=in_order("b", "a"))
    assert study.trials[1].state == TrialState.FAIL
    assert [a.proposer for a in read(study)[1].attempts] == ["b", "a"]
    assert read(study)[1].proposer is None
    assert look(study).turns[-1].failed == ("b", "a")


def test_a_model_that_is_down_is_asked_less_and_less() -> None:
    models = {"down": refuse(ModelError("down")), "up": draw_numbers()}
    study = optimize(models, n_trials=60)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert "fallback" not in {p.source for p in read(study)}
    assert 1 <= len(models["down"].calls) <= 6


def test_a_model_that_is_up_again_is_asked_again() -> None:
    replies = iter([ModelError("down")] * 2)
    model = draw_numbers(1)
    back = ScriptedModel(lambda messages: next(replies, None) or model.complete(messages))
    study = optimize({"back": back, "up": draw_numbers(2)}, n_trials=40)
    assert Counter(p.proposer for p in read(study))["back"] > 0


def test_a_misconfigured_model_is_left_out_and_the_study_goes_on(
    logs: pytest.LogCaptureFixture,
) -> None:
    models = {"wrong": refuse(ModelSetupError("wrong key")), "right": draw_numbers()}
    study = optimize(models, n_trials=12, proposers=in_order("wrong", "right"))
    assert len(models["wrong"].calls) == 1
    assert {p.proposer for p in read(study)[1:]} == {"right"}
    assert "wrong key The model wrong is left out from now on." in logs.messages


def test_the_study_ends_once_every_model_is_misconfigured() -> None:
    models = {"a": refuse(ModelSetupError("no a")), "b": refuse(ModelSetupError("no b"))}
    with pytest.raises(ModelSetupError, match="no"):
        optimize(models, n_trials=5)


def test_a_model_that_is_merely_down_keeps_the_study_alive() -> None:
    models = {"down": refuse(ModelError("down")), "wrong": refuse(ModelSetupError("wrong key"))}
    study = optimize(models, n_trials=5, proposers=in_order("down", "wrong"))
    assert {p.source for p in read(study)[1:]} == {"fallback"}
    assert len(models["wrong"].calls) == 1


def test_a_bug_in_a_model_of_the_users_own_fails_the_trial_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        optimize({"a": refuse(ZeroDivisionError()), "b": draw_numbers()}, n_trials=9)


def test_a_pass_is_left_to_the_base_sampler() -> None:
    passes = ScriptedModel(lambda _: "<pass>Nothing is left.</pass>")
    study = optimize({"a": passes, "b": draw_numbers()}, n_trials=2, proposers=in_order("a", "b"))
    provenance = read(study)[1]
    assert (provenance.source, provenance.proposer) == ("base", "base")
    assert [(a.proposer, a.result) for a in provenance.attempts] == [("a", "passed")]
    assert look(study).turns[-1].passed == ("a",)


def test_each_model_has_its_own_form_and_prompts() -> None:
    talks = ScriptedModel(lambda _: "I would try 3.")
    good = draw_numbers()
    study = optimize(
        {"talks": talks, "good": good}, n_trials=9, proposers=in_order("talks", "good")
    )
    assert {p.proposer for p in read(study)[1:]} == {"good"}
    # It was never usable, and is sent back less; the other is asked once a trial.
    assert len(talks.calls) < 3 * 8
    assert len(good.calls) == 8
    assert all("could not be used" not in messages[1].content for messages in good.calls)


def test_a_function_of_the_users_own_replaces_the_rule() -> None:
    seen: list[tuple[int, list[Candidate]]] = []

    def alternate(
        turns: Sequence[Turn], candidates: Sequence[Candidate], rng: random.Random
    ) -> list[str]:
        seen.append((len(turns), list(candidates)))
        return [candidates[len(turns) % len(candidates)].name]

    models = {"one": draw_numbers(1, 100), "two": draw_numbers(2, 300)}
    study = optimize(models, n_trials=7, proposers=alternate)
    assert [p.proposer for p in read(study)[1:]] == ["two", "base", "one"] * 2
    assert seen[-1] == (
        6,
        [Candidate("one", cost=100), Candidate("two", cost=300), Candidate("base", False)],
    )


@pytest.mark.parametrize("chosen", [[], ["nobody"], "nobody"])
def test_a_function_that_names_no_candidate_is_told_who_there_is(chosen: object) -> None:
    with pytest.raises(ValueError, match=r"candidates \(a, base\)"):
        optimize({"a": draw_numbers()}, n_trials=3, proposers=lambda *_: chosen)


def test_cost_is_money_where_prices_are_known_and_else_tokens_or_calls() -> None:
    found: list[Sequence[Candidate]] = []

    def watch(_: object, candidates: Sequence[Candidate], rng: object) -> list[str]:
        found.append(candidates)
        return ["one" if len(found) % 2 else "two"]

    def costs(*tokens: int, **arguments: Any) -> list[float | None]:
        models = {"one": draw_numbers(1, tokens[0]), "two": draw_numbers(2, tokens[1])}
        optimize(models, n_trials=5, proposers=watch, **arguments)
        return [c.cost for c in found[-1] if c.is_model]

    assert costs(100, 300) == [100, 300]
    assert costs(100, 0) == [1, 1]
    prices = {"one": Prices(2, 2), "served 2": Prices(1, 1)}
    assert costs(100, 100, prices=prices) == pytest.approx([2e-4, 1e-4])


def test_the_base_sampler_varies_the_numbers_of_the_best_text() -> None:
    study = optimize(draw(), mixed, n_trials=40)
    trials = {t.number: t for t in study.trials}
    varied = [t for t, p in zip(study.trials, read(study), strict=True) if p.source == "base"]
    assert varied
    for trial in varied:
        provenance = read_provenance(trial)
        assert provenance.proposer == "base"
        assert provenance.parent is not None
        parent = trials[provenance.parent]
        best = min(study.trials[: trial.number], key=lambda t: t.value)
        assert parent.value == best.value
        assert get_texts(trial) == get_texts(parent)
        assert trial.params != parent.params


def test_in_a_study_of_texts_alone_the_base_sampler_has_nothing_to_do() -> None:
    study = optimize(draw(), lambda trial: len(suggest_text(trial, "code", "a")), n_trials=25)
    assert {p.source for p in read(study)} == {"initial", "model"}


def test_the_base_sampler_takes_over_numbers_from_a_model_that_talks_at_random() -> None:
    study = optimize(draw_numbers(), n_trials=60)
    sources = Counter(p.source for p in read(study)[30:])
    assert sources["base"] > sources["model"]


def test_a_proposal_made_ahead_names_the_model_that_made_it() -> None:
    models = {"one": draw_numbers(1), "two": draw_numbers(2)}
    study = optimize(models, n_trials=40, prefetch=2)
    made = {(p.proposer, p.model) for p in read(study) if p.source == "model"}
    assert made == {("one", "served 1"), ("two", "served 2")}
    study.sampler._sessions.get(study)._ahead._prefetcher.finish()
    spent = usage(study)
    assert spent.calls == sum(part.calls for part in spent.by_proposer.values())
    assert spent.calls >= len(models["one"].calls) + len(models["two"].calls) - 1


def test_models_are_named_by_a_list_a_mapping_or_themselves() -> None:
    def talk(messages: object) -> str:
        return write_reply({"x": 1.0})

    sampler = LLMSampler(model=["offline", talk, draw_numbers()])
    assert list(sampler._sessions._settings.models) == ["offline", "talk", "ScriptedModel"]
    sampler = LLMSampler(model={"a": "offline", "b": "offline"})
    assert list(sampler._sessions._settings.models) == ["a", "b"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ([], "No model is named"),
        ({}, "No model is named"),
        (["offline", "offline"], "Two models are called 'offline'"),
        ({"base": "offline"}, "no model"),
        ({"a\nb": "offline"}, "printable"),
        ({"x" * 200: "offline"}, "at most 100"),
        ({"": "offline"}, "printable"),
    ],
)
def test_names_that_cannot_be_are_refused_with_the_way_out(model: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LLMSampler(model=model)


def test_with_several_objectives_models_and_base_sampler_share_too() -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", -10, 10)
        return x**2, (x - 2) ** 2

    sampler = LLMSampler("Go.", model={"a": draw_numbers(1), "b": draw_numbers(2)}, seed=0)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(objective, n_trials=40)
    assert {p.proposer for p in read(study)} == {"a", "b", "base"}
    assert any(turn.gain for turn in look(study).turns)
