"""Two models over HTTP, one of which has a fault: nothing is lost, and shares follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from fault_server import FaultServer
from fault_server import respond
from fault_server import serve_faults
from fault_server import WIRE
from fault_server import write_error
import optuna
from optuna.trial import TrialState
import pytest

from optuna_llm import LLMSampler
from optuna_llm import OpenAIModel
from optuna_llm import usage
from optuna_llm._proposing import panel
from optuna_llm._study.attributes import read_provenance


N_TRIALS = 12


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_SHARED_PATIENCE", 0.1)


def parabola(trial: optuna.Trial) -> float:
    return (trial.suggest_float("x", -10, 10) - 3) ** 2


def share(
    plan: Callable[[int], str | None], n_trials: int = N_TRIALS, **arguments: object
) -> tuple[optuna.Study, int]:
    """A study by a faulty model and a good one, and how often the faulty one was called."""
    with serve_faults(plan) as bad, serve_faults(lambda _: None) as good:
        models = {
            "bad": OpenAIModel("m", base_url=bad.url, timeout=0.3),
            "good": OpenAIModel("m", base_url=good.url),
        }
        sampler = LLMSampler("Go.", model=models, seed=0, **arguments)  # type: ignore[arg-type]
        study = optuna.create_study(sampler=sampler)
        study.optimize(parabola, n_trials=n_trials)
        if "prefetch" not in arguments:  # Which ends with calls under way.
            assert usage(study).by_proposer["good"].calls == len(good.bodies)
        return study, len(bad.bodies)


@pytest.mark.parametrize(
    "fault", ["500", "429, retry in five minutes", "hangs up", "is silent", "trickles", "no JSON"]
)
def test_a_faulty_model_costs_the_study_no_trial_and_is_asked_less(fault: str) -> None:
    study, n_calls = share(lambda _: fault)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    provenances = [read_provenance(trial) for trial in study.trials]
    proposers = Counter(p.proposer for p in provenances)
    assert proposers["bad"] == 0
    assert proposers["good"] >= N_TRIALS // 3
    assert "fallback" not in {p.source for p in provenances}
    asked = [p for p in provenances if any(a.proposer == "bad" for a in p.attempts)]
    assert 1 <= len(asked) <= 5
    assert n_calls >= len(asked)


def test_a_model_that_recovers_gets_trials_again() -> None:
    study, _ = share(lambda number: "500" if number < 2 else None, n_trials=30)
    proposers = Counter(read_provenance(trial).proposer for trial in study.trials)
    assert proposers["bad"] > 0


def test_a_wrong_key_leaves_its_model_out_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch, logs: pytest.LogCaptureFixture
) -> None:
    def refuse(connection: object, _: FaultServer) -> None:
        answer = write_error("Incorrect API key provided", code="invalid_api_key")
        respond(connection, answer, 401)  # type: ignore[arg-type]

    monkeypatch.setitem(WIRE, "401", refuse)
    study, n_calls = share(lambda _: "401")
    assert n_calls == 1
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert "The model bad is left out from now on." in logs.text


def test_proposals_made_ahead_pass_over_a_model_that_is_down() -> None:
    study, _ = share(lambda _: "500", prefetch=2)
    provenances = [read_provenance(trial) for trial in study.trials]
    assert {p.proposer for p in provenances} <= {"good", "base"}
    failed = [a for p in provenances for a in p.attempts if a.result == "failed"]
    assert {a.proposer for a in failed} == {"bad"}
