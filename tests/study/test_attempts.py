"""What a trial stores of other models that were asked for it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
import pytest

from optuna_llm import Prices
from optuna_llm import report_usage
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm._outcomes import Attempt
from optuna_llm._outcomes import EVALUATION
from optuna_llm._study import attributes as stored
from optuna_llm._study import checks
from optuna_llm._study.attempts import subtract_attempts
from optuna_llm._study.store import StudyStore
from optuna_llm.evaluate import evaluate_cases


ATTEMPTS = (
    Attempt("big", "failed", Usage(prompt_tokens=100, calls=3, seconds=2.0), "big-2026"),
    Attempt("small", "passed", Usage(calls=1)),
    Attempt("", "unused", Usage(calls=1)),
)
TOTAL = Usage(prompt_tokens=150, calls=7, seconds=3.0)


@pytest.fixture(autouse=True)
def _warn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_warned", set())


def add(study: optuna.Study, proposal: Any, value: float = 1.0) -> None:
    study.add_trial(
        create_trial(
            params={"x": value},
            distributions={"x": FloatDistribution(-10, 10)},
            value=value,
            user_attrs={stored.PROPOSAL: proposal},
        )
    )


def write(provenance: stored.Provenance) -> Any:
    return stored.provenance_attributes(provenance)[stored.PROPOSAL]


def test_attempts_are_read_as_they_were_written() -> None:
    study = optuna.create_study()
    provenance = stored.Provenance("model", "other", usage=TOTAL, attempts=ATTEMPTS)
    add(study, write(provenance))
    found = stored.read_provenance(study.trials[0])
    assert found == provenance
    assert subtract_attempts(found.usage, found.attempts) == Usage(
        prompt_tokens=50, calls=2, seconds=1.0
    )


def test_a_cost_is_that_of_who_was_asked_and_sums_stay_what_they_were() -> None:
    study = optuna.create_study()
    add(study, write(stored.Provenance("model", "other", usage=TOTAL, attempts=ATTEMPTS)))
    spent = usage(study, {"big-2026": Prices(2, 2), "": Prices(1, 1)})
    assert {n: part.calls for n, part in spent.by_proposer.items()} == {
        "big": 3,
        "small": 1,
        "unclaimed": 1,
        "other": 2,
    }
    assert (spent.calls, spent.prompt_tokens) == (7, 150)
    assert spent.cost == pytest.approx((100 * 2 + 50) / 1e6)
    assert "proposer big" in str(spent)


def test_turns_tell_standing_gain_and_who_failed() -> None:
    study = optuna.create_study()
    add(study, {"source": "base", "proposer": "base"}, 5)
    add(study, {"source": "model", "proposer": "big"}, 3)
    add(study, write(stored.Provenance("base", "base", usage=TOTAL, attempts=ATTEMPTS)), 4)
    add(study, {"source": "user"}, 1)
    turns = StudyStore(study).snapshot(study).turns
    assert [turn.proposer for turn in turns] == ["base", "big", "base", None]
    assert [turn.standing for turn in turns] == [0, 0, 0.5, 0]
    assert [turn.gain for turn in turns] == [0, 2, 0, 2]
    assert (turns[2].failed, turns[2].passed) == (("big",), ("small",))


def test_what_the_objective_asked_is_no_turn_of_a_proposer() -> None:
    study = optuna.create_study()
    asked = Attempt(EVALUATION, "evaluated", Usage(prompt_tokens=900, calls=9), "small-2026")
    total = Usage(prompt_tokens=1_000, calls=10)
    add(study, write(stored.Provenance("model", "big", usage=total, attempts=(asked,))))
    snapshot = StudyStore(study).snapshot(study)
    assert {name: s.by_model for name, s in snapshot.spent.items()} == {
        "big": {"": Usage(prompt_tokens=100, calls=1)}
    }
    assert (snapshot.turns[0].failed, snapshot.turns[0].passed) == ((), ())
    spent = usage(study)
    assert {name: part.calls for name, part in spent.by_source.items()} == {
        "model": 1,
        EVALUATION: 9,
    }


def test_what_an_objective_reports_is_counted_once_for_each_call_from_any_thread() -> None:
    study = optuna.create_study(direction="maximize")

    def objective(trial: optuna.Trial) -> float:
        def evaluate(case: int) -> float:
            report_usage(trial, Usage(prompt_tokens=case, completion_tokens=1), model="task")
            return 1.0

        return evaluate_cases(trial, range(20), evaluate, max_workers=4)

    study.optimize(objective, n_trials=2)
    spent = usage(study).by_model["task"]
    assert (spent.calls, spent.prompt_tokens, spent.completion_tokens) == (40, 380, 40)
    assert usage(study).by_source[EVALUATION] == spent
    # Nothing of a trial that does not run.
    report_usage(study.best_trial, Usage(prompt_tokens=1))
    assert usage(study).calls == 40


def test_a_report_of_something_else_than_usage_is_refused() -> None:
    trial = optuna.create_study().ask()
    with pytest.raises(TypeError, match="usage must be a Usage"):
        report_usage(trial, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model must be a name or None"):
        report_usage(trial, Usage(), model=5)  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["proposer", "result", "model", "calls", "seconds"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_readers_survive_anything_in_the_place_of_attempts(value: Any) -> None:
    study = optuna.create_study()
    add(study, {"source": "model", "proposer": "a", "calls": 1, "seconds": 1, "attempts": value})
    found = stored.read_provenance(study.trials[0])
    assert all(a.result in ("failed", "passed", "unused", "evaluated") for a in found.attempts)
    assert usage(study).calls >= 0
    assert len(StudyStore(study).snapshot(study).turns) == 1
