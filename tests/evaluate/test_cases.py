"""evaluate_cases: what it evaluates, when it prunes, what it stores."""

from __future__ import annotations

import itertools
from pathlib import Path
import threading
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.pruners import HyperbandPruner
from optuna.pruners import NopPruner
from optuna.pruners import WilcoxonPruner
from optuna.trial import TrialState
import pytest

from optuna_llm import CaseResult
from optuna_llm import LLMError
from optuna_llm import report_case
from optuna_llm._study import cases as kept
from optuna_llm._study import internals
from optuna_llm._study.history import make_record
from optuna_llm.evaluate import evaluate_cases


class CountingPruner(BasePruner):
    """Prunes at a number of reported values."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[int] = []

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        assert study.direction == optuna.study.StudyDirection.MAXIMIZE
        self.asked.append(len(trial.intermediate_values))
        return len(trial.intermediate_values) >= self.count


def make_study(pruner: BasePruner | None = None, **kwargs: Any) -> optuna.Study:
    return optuna.create_study(direction="maximize", pruner=pruner or NopPruner(), **kwargs)


def tell(study: optuna.Study, **kwargs: Any) -> optuna.trial.FrozenTrial:
    study.optimize(lambda trial: evaluate_cases(trial, **kwargs), 1)
    return study.get_trials()[-1]


@pytest.mark.parametrize("options", [{}, {"max_workers": 4}, {"timeout": 60}])
def test_each_case_is_evaluated_once_and_stored(options: dict[str, Any]) -> None:
    seen: list[int] = []

    def evaluate(case: int) -> tuple[float, str]:
        seen.append(case)
        return case / 10, f"wrong: {case}" if case > 7 else ""

    trial = tell(make_study(), cases=range(10), evaluate=evaluate, **options)
    assert trial.value == pytest.approx(0.45)
    assert sorted(seen) == list(range(10))
    assert trial.intermediate_values == {case: case / 10 for case in range(10)}
    record = make_record(trial)
    assert record.n_cases == 10
    assert record.cases[7] == CaseResult(0.7)
    assert record.cases[9] == CaseResult(0.9, "wrong: 9")
    assert record.noise is None


def test_each_trial_draws_its_own_order_which_a_rerun_draws_again() -> None:
    def draw() -> list[list[int]]:
        seen: list[list[int]] = []
        study = make_study()
        for _ in range(3):
            seen.append([])
            tell(study, cases=range(20), evaluate=lambda case: seen[-1].append(case) or 0)
        return seen

    first, again = draw(), draw()
    assert first == again
    assert first[0] != first[1] != first[2]
    seen: list[int] = []
    tell(make_study(), cases=range(20), shuffle=False, evaluate=lambda c: seen.append(c) or 0)
    assert seen == list(range(20))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_in_any_part_of_the_order_the_best_is_as_strong_as_on_the_whole(direction: str) -> None:
    study = optuna.create_study(direction=direction, pruner=NopPruner())
    strong = {case for case in range(60) if case % 3 == 0}
    tell(study, cases=range(60), evaluate=lambda case: float(case in strong))
    for _ in range(5):
        seen: list[int] = []
        # No trial is better, so the first stays the best.
        bad = 0.0 if direction == "maximize" else 1.0
        tell(study, cases=range(60), evaluate=lambda case: seen.append(case) or bad)  # noqa: B023
        for count in range(1, 61):
            assert abs(len(strong.intersection(seen[:count])) - count / 3) < 2
        assert sorted(seen) == list(range(60))


def test_names_keep_their_numbers_when_the_order_changes() -> None:
    study = make_study()
    tell(study, cases={"a": 1, "b": 2}, evaluate=float)
    trial = tell(study, cases={"new": 3, "b": 2, "a": 1}, evaluate=float)
    assert trial.intermediate_values == {0: 1, 1: 2, 2: 3}
    assert study.user_attrs["llm:cases"] == {"0": "a", "1": "b", "2": "new"}


def test_an_exception_in_a_case_fails_the_trial_with_its_words() -> None:
    study = make_study()

    def evaluate(case: int) -> float:
        if case == 3:
            raise KeyError("no such thing")
        return 1

    with pytest.raises(KeyError):
        tell(study, cases={f"q{i}": i for i in range(5)}, evaluate=evaluate, max_workers=2)
    trial = study.trials[0]
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["feedback"].startswith("Case 3 (q3) failed: ")
    assert "no such thing" in trial.user_attrs["feedback"]


def test_a_failed_case_has_the_failed_score_if_there_is_one() -> None:
    def evaluate(case: int) -> float:
        return 1 / case if case < 2 else float("nan")

    trial = tell(make_study(), cases=[0, 1, 2], evaluate=evaluate, failed_score=-1)
    assert trial.value == pytest.approx(-1 / 3)
    record = make_record(trial)
    assert "ZeroDivisionError" in record.cases[0].words
    assert "not a finite number: nan" in record.cases[2].words


@pytest.mark.parametrize("error", [LLMError("no model"), optuna.TrialPruned("by me")])
def test_what_says_nothing_of_a_case_is_raised_despite_a_failed_score(error: Exception) -> None:
    def evaluate(case: int) -> float:
        raise error

    study = make_study()
    trial = study.ask()
    with pytest.raises(type(error), match=str(error)):
        evaluate_cases(trial, range(3), evaluate, failed_score=0, max_workers=2)


def test_a_case_beyond_its_limit_has_failed_and_its_place_is_taken() -> None:
    hung = threading.Event()

    def evaluate(case: int) -> float:
        if case == 0:
            hung.wait(60)
        return 1

    try:
        trial = tell(make_study(), cases=range(6), evaluate=evaluate, timeout=0.3, failed_score=0)
        assert trial.value == pytest.approx(5 / 6)
        assert make_record(trial).cases[0].words == "no result within 0.3 seconds"
        with pytest.raises(TimeoutError, match=r"Case 0 took longer than 0\.3 seconds"):
            tell(make_study(), cases=range(2), evaluate=evaluate, timeout=0.3)
    finally:
        hung.set()


def test_cases_run_at_a_time() -> None:
    barrier = threading.Barrier(3, timeout=60)

    def evaluate(case: int) -> float:
        barrier.wait()
        return 1

    assert tell(make_study(), cases=range(6), evaluate=evaluate, max_workers=3).value == 1


def test_one_worker_without_a_limit_runs_in_the_calling_thread() -> None:
    threads = set()
    tell(make_study(), cases=range(3), evaluate=lambda c: threads.add(threading.get_ident()) or 1)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("max_workers", [1, 3])
def test_a_pruned_trial_keeps_the_results_it_has(max_workers: int) -> None:
    pruner = CountingPruner(7)
    ended = []

    def evaluate(case: int) -> float:
        ended.append(case)
        return 1

    trial = tell(make_study(pruner), cases=range(30), evaluate=evaluate, max_workers=max_workers)
    assert trial.state == TrialState.PRUNED
    assert pruner.asked == [7]
    assert len(trial.intermediate_values) == 7
    assert len(ended) <= 7 + max_workers
    assert make_record(trial).n_cases == 30


def test_nobody_evaluates_any_longer_once_a_trial_is_pruned() -> None:
    running: set[int] = set()

    def evaluate(case: int) -> float:
        running.add(case)
        threading.Event().wait(0.02)
        running.discard(case)
        return 1

    tell(make_study(CountingPruner(2)), cases=range(30), evaluate=evaluate, max_workers=8)
    assert running == set()


def test_many_cases_are_asked_about_less_often() -> None:
    few, many = CountingPruner(10_000), CountingPruner(10_000)
    tell(make_study(few), cases=range(12), evaluate=lambda _: 1)
    assert few.asked == list(range(3, 13))
    tell(make_study(many), cases=range(1_000), evaluate=lambda _: 1)
    assert many.asked[:36] == list(range(14, 50))
    gaps = [b - a for a, b in itertools.pairwise(many.asked)]
    assert max(gap / count for gap, count in zip(gaps, many.asked, strict=False)) < 0.1
    assert len(many.asked) < 150


def test_wilcoxon_prunes_what_is_worse_and_nothing_else() -> None:
    pruner = WilcoxonPruner(p_threshold=0.05)
    study = make_study(pruner)
    tell(study, cases=range(60), evaluate=lambda case: case % 3 / 2)
    worse = tell(study, cases=range(60), evaluate=lambda case: case % 3 / 2 - (case % 4 > 0) / 4)
    assert worse.state == TrialState.PRUNED
    assert 2 < len(worse.intermediate_values) < 30
    better = tell(study, cases=range(60), evaluate=lambda case: case % 3 / 2 + (case % 4 > 2) / 4)
    assert better.state == TrialState.COMPLETE
    assert study.best_trial.number == better.number


def test_a_pruner_that_wants_a_learning_curve_is_not_asked() -> None:
    study = make_study(HyperbandPruner(min_resource=1, max_resource=9))
    for value in (1, 0, 0, 0, 0, 0, 0):
        tell(study, cases=range(9), evaluate=lambda _, value=value: value)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_repeats_are_averaged_and_their_noise_is_told() -> None:
    turn = itertools.count()

    def evaluate(case: int) -> tuple[float, str]:
        score = next(turn) % 2
        return score, f"scored {score}"

    trial = tell(make_study(), cases=range(8), evaluate=evaluate, repeats=4)
    record = make_record(trial)
    assert trial.value == 0.5
    assert record.cases[0] == CaseResult(0.5, "scored 0")
    # The variance of 0, 1, 0, 1 is 1/3; of a mean of 4 of them, over 8 cases:
    assert record.noise == pytest.approx((1 / 3 / 4 / 8) ** 0.5)


def test_a_resumed_trial_is_evaluated_on_the_other_cases_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = make_study(storage=url, study_name="s")
    trial = study.ask()
    seen: list[int] = []

    def evaluate(case: int) -> tuple[float, str]:
        seen.append(case)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return case, f"w{case}"

    with pytest.raises(KeyboardInterrupt):
        evaluate_cases(trial, range(9), evaluate)
    number = trial._trial_id
    study = optuna.load_study(study_name="s", storage=url)
    again = optuna.Trial(study, number)
    value = evaluate_cases(again, range(9), evaluate)
    study.tell(again, value)
    assert value == 4
    assert len(seen) == 10
    assert sorted(set(seen)) == list(range(9))
    record = make_record(study.trials[0])
    assert record.cases == {case: CaseResult(case, f"w{case}") for case in range(9)}


def test_a_second_call_in_a_trial_is_refused() -> None:
    trial = make_study().ask()
    evaluate_cases(trial, range(2), float)
    with pytest.raises(ValueError, match="called before in this trial"):
        evaluate_cases(trial, range(2), float)


def test_several_objectives_keep_their_scores_with_the_words() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.optimize(
        lambda t: (evaluate_cases(t, range(5), lambda case: (case, f"w{case}")), 1.0), 1
    )
    record = make_record(study.trials[0])
    assert record.values == (2, 1)
    assert record.cases == {case: CaseResult(case, f"w{case}") for case in range(5)}
    with pytest.raises(ValueError, match="2,001 cases are too many"):
        evaluate_cases(study.ask(), range(2_001), float)


def test_a_finished_trial_is_evaluated_without_a_report() -> None:
    study = make_study()
    tell(study, cases=range(3), evaluate=float)
    assert evaluate_cases(study.best_trial, [4, 6], float) == 5
    assert evaluate_cases(optuna.trial.FixedTrial({}), {"a": 4}, float, max_workers=2) == 4


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"cases": []}, ValueError, "There are no cases"),
        ({"cases": "abc"}, TypeError, "must be a sequence or a mapping"),
        ({"cases": {1: 2}}, TypeError, "names of cases"),
        ({"max_workers": 0}, ValueError, "max_workers must be 1 or more: 0"),
        ({"max_workers": 1.5}, TypeError, "max_workers must be an int"),
        ({"repeats": 0}, ValueError, "repeats must be 1 or more: 0"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"failed_score": float("nan")}, ValueError, "failed_score must be"),
        ({"evaluate": lambda _: None}, TypeError, "evaluate returned None for case 0"),
        ({"evaluate": lambda _: "1"}, TypeError, "evaluate returned '1' for case 0"),
        ({"evaluate": lambda _: None, "failed_score": 0}, TypeError, "returned None"),
        ({"evaluate": lambda _: float("inf")}, ValueError, "not a finite number: inf"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments: dict[str, Any] = {"cases": range(2), "evaluate": float, "shuffle": False, **options}
    with pytest.raises(error, match=f"(?i){match}"):
        evaluate_cases(make_study().ask(), **arguments)


def test_a_progress_bar_is_shown_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    tell(make_study(), cases=range(3), evaluate=float, show_progress_bar=True)
    assert "3/3" in capsys.readouterr().err


def test_report_case_keeps_the_first_score_of_a_case() -> None:
    study = make_study()
    trial = study.ask()
    report_case(trial, 0, 1.0, "well", name="first")
    report_case(trial, 0, 0.0, "badly")
    report_case(trial, 2, True)
    study.tell(trial, 1.0)
    assert make_record(study.trials[0]).cases == {0: CaseResult(1.0, "well"), 2: CaseResult(1.0)}
    assert study.user_attrs["llm:cases"] == {"0": "first"}
    report_case(study.trials[0], 5, 1.0)  # A finished trial: nothing happens.
    report_case(optuna.trial.FixedTrial({}), 5, 1.0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("0", 1.0), TypeError),
        ((True, 1.0), TypeError),
        ((-1, 1.0), ValueError),
        ((10**6, 1.0), ValueError),
        ((0, "1"), TypeError),
        ((0, None), TypeError),
        ((0, float("nan")), ValueError),
        ((0, 1.0, 5), TypeError),
    ],
)
def test_report_case_refuses_bad_input(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        report_case(make_study().ask(), *arguments)


def test_ordinary_steps_are_not_taken_for_cases() -> None:
    study = make_study()
    trial = study.ask()
    trial.report(0.5, 3)
    study.tell(trial, 1.0)
    assert make_record(study.trials[0]).cases == {}


def test_words_fit_into_one_attribute_whatever_their_number() -> None:
    results = {case: CaseResult(float(case % 9 > 0), "字" * 3_000) for case in range(2_000)}
    for with_scores in (False, True):
        known = kept.StoredCases(results, 2_000, 0.01)
        (value,) = kept.case_attributes(known, with_scores=with_scores).values()
        assert 40_000 < kept.json_bytes(value) <= 60_000
        # What is rare has more to say.
        assert {results[int(case)].score for case in value["words"]} == {0.0}


def test_another_name_of_a_case_is_told(logs: pytest.LogCaptureFixture) -> None:
    study = make_study()
    kept.name_cases(study, {0: "a", 1: "b"})
    kept.name_cases(study, {1: "c"})
    assert "another name for case 1" in logs.text
    assert kept.read_case_names(study.user_attrs) == {0: "a", 1: "c"}


@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
def test_values_are_reported_at_once(kind: str, tmp_path: Path) -> None:
    journal = optuna.storages.journal
    storage: Any = {
        "memory": lambda: None,
        "sqlite": lambda: f"sqlite:///{tmp_path}/study.db",
        "journal": lambda: optuna.storages.JournalStorage(
            journal.JournalFileBackend(f"{tmp_path}/journal")
        ),
    }[kind]()
    study = make_study(storage=storage)
    trial = study.ask()
    trial.report(0.25, 1)
    internals.report_values(trial, {0: 0.5, 1: 0.25, 7: 1.0})
    trial.report(0.75, 8)
    study.tell(trial, 1.0)
    assert study.trials[0].intermediate_values == {0: 0.5, 1: 0.25, 7: 1.0, 8: 0.75}
    with pytest.raises(RuntimeError):
        internals.report_values(trial, {9: 1.0})
