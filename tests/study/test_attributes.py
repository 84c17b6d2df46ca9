"""Whatever is stored under any key, no reader of a study stops for it."""

from __future__ import annotations

import copy
import io
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from optuna.trial import TrialState
from optuna_dashboard import get_note
import pytest

from optuna_llm import Completion
from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import Prices
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm._study import checks
from optuna_llm._study.declarations import read_adaptations
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.declarations import read_task
from optuna_llm._study.progress import read_progress
from optuna_llm._study.validation import read_validation
from optuna_llm.callbacks import ConsoleCallback
from optuna_llm.callbacks import MaxCostCallback
from optuna_llm.callbacks import MaxTokensCallback
from optuna_llm.callbacks import TargetValueCallback
from optuna_llm.dashboard import annotate
from optuna_llm.dashboard._study_note import write_study_note
from optuna_llm.dashboard._trial_note import write_trial_note
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


SPACE = {"x": FloatDistribution(0, 1)}
HUGE = 10**400


@pytest.fixture(autouse=True)
def _warn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test gets the warnings that a process gets once."""
    monkeypatch.setattr(checks, "_warned", set())


def nest(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def make_study(own: dict[str, Any], studys: dict[str, Any], state: TrialState) -> optuna.Study:
    """Trial 1 of three, and the study, have these attributes."""
    study = optuna.create_study(direction="maximize")
    for key, value in studys.items():
        study.set_user_attr(key, value)
    good = {"code": "a = 1", "llm:proposal": {"source": "model", "texts": {"code": 1}}}
    for number, attributes in enumerate([good, own, good]):
        is_own = number == 1
        study.add_trial(
            create_trial(
                state=state if is_own else TrialState.COMPLETE,
                value=number if not is_own or state == TrialState.COMPLETE else None,
                params={"x": 0.5},
                distributions=SPACE,
                user_attrs=copy.deepcopy(attributes),
            )
        )
    return study


def write_notes(study: optuna.Study) -> None:
    progress, attributes = read_progress(study), study.user_attrs
    texts = read_declared_texts(attributes)
    for trial in progress.finished:
        write_trial_note(trial, progress, texts, True).encode()
    adaptations = read_adaptations(attributes)
    write_study_note(
        "s", progress, read_task(attributes), texts, adaptations, usage(study)
    ).encode()


def read_all(study: optuna.Study, *, plots: bool = True) -> None:
    """Use all that reads attributes, and let the sampler propose two trials.

    Args:
        study: The study.
        plots: Whether to make the dashboard's plots too, which takes most of the time.
    """

    def answer(messages: Any) -> Completion:
        number = len(model.calls)
        asked = re.findall('<text name="(.+?)">', messages[0].content)
        texts = {name: f"b = {number}" for name in asked}
        reply = write_reply({"x": number / 100}, texts, "Because.")
        return Completion(reply, "m", Usage(prompt_tokens=10, completion_tokens=1))

    def objective(trial: optuna.Trial) -> float:
        assert isinstance(suggest_text(trial, "code", "a = 0", language="python"), str)
        report_feedback(trial, "so so")
        return trial.suggest_float("x", 0, 1)

    model = ScriptedModel(answer)
    sampler = LLMSampler(model=model, seed=0)
    study.sampler = sampler
    file = io.StringIO()
    console = ConsoleCallback(file)
    callbacks = [
        console,
        MaxTokensCallback(10**17),
        MaxCostCallback(1e17, Prices(1, 1, 0.1)),
        TargetValueCallback(1e9),
    ]
    study.optimize(objective, 2, callbacks=callbacks)  # type: ignore[arg-type]
    for trial in study.get_trials():
        get_texts(trial)
        console(study, trial)
    file.getvalue().encode()
    read_validation(study.user_attrs)
    str(usage(study))
    str(usage(study, Prices(1, 1)))
    str(sampler.preview(study)).encode()
    if plots:
        annotate(study)
        get_note(study).encode()
    else:
        write_notes(study)


OWN: list[dict[str, Any]] = [
    {"llm:proposal": 5},
    {"llm:proposal": "model"},
    {"llm:proposal": ["model"]},
    {"llm:proposal": nest(200)},
    {"llm:proposal": True},
    {"llm:proposal": {"source": "oracle"}},
    {"llm:proposal": {"source": ["model"]}},
    {"llm:proposal": {"rationale": {"why": 1}}},
    {"llm:proposal": {"parent": "0"}},
    {"llm:proposal": {"parent": True}},
    {"llm:proposal": {"parent": 0.5}},
    {"llm:proposal": {"parent": float("nan")}},
    {"llm:proposal": {"parent": HUGE}},
    {"llm:proposal": {"parent": -1}},
    {"llm:proposal": {"parent": 1}},
    {"llm:proposal": {"model": 4}},
    {"llm:proposal": {"error": []}},
    {"llm:proposal": {"claim": {}}},
    {"llm:proposal": {"calls": "1"}},
    {"llm:proposal": {"calls": 1, "seconds": HUGE}},
    {"llm:proposal": {"calls": 1, "seconds": float("nan")}},
    {"llm:proposal": {"calls": 1, "seconds": float("-inf")}},
    {"llm:proposal": {"calls": 1, "seconds": "long"}},
    {"llm:proposal": {"calls": 1, "prompt_tokens": 0.5}},
    {"llm:proposal": {"calls": 1, "completion_tokens": HUGE}},
    {"llm:proposal": {"from a newer version": 1}},
    {"llm:from a newer version": 1},
    {"llm:cases": 5},
    {"llm:cases": {"count": -1, "noise": HUGE}},
    {"llm:cases": {"scores": [1, 2], "words": 3}},
    {"llm:cases": {"scores": {"0": "1", "one": 1, "1": float("nan"), "2": HUGE}}},
    {"llm:cases": {"scores": {"²": 1, "-1": 2, "9999999": 3}}},
    {"llm:cases": {"scores": {"0": 1}, "words": {"0": 5}}},
    {"llm:cases": nest(200)},
    {"llm:proposal": {"texts": 5}},
    {"llm:proposal": {"texts": ["code"]}},
    {"llm:proposal": {"texts": {"code": "1"}}},
    {"llm:proposal": {"texts": {"code": HUGE}}},
    {"llm:proposal": {"texts": {"code": 0}}},
    {"llm:proposal": {"texts": {"feedback": 1}}, "feedback": "good"},
    {"llm:proposal": {"texts": {"llm:proposal": 1}}},
    {"llm:proposal": {"texts": {'a"><b': 1}}, 'a"><b': "x"},
    {"llm:proposal": {"texts": {"code": 1}}, "code": {"a": 1}},
    {"llm:proposal": {"texts": {"code": 2}}, "code": "a", "code:1": 5},
    {"llm:proposal": {"texts": {"code": 2}}, "code": "a"},
    {"code": {"a": 1}},
    {"code": float("nan")},
]
STUDYS: list[dict[str, Any]] = [
    {"llm:task": 5},
    {"llm:cases": 5},
    {"llm:cases": {"0": 5, "one": "a", "1": "\x1b[1m"}},
    {"llm:task": {"task": "x"}},
    {"llm:text:other": "python"},
    {"llm:text:other": {"description": 5}},
    {"llm:text:other": {"description": "", "language": ["python"]}},
    {"llm:text:": {"description": ""}},
    {'llm:text:a"><b': {"description": ""}},
    {"llm:text:feedback": {"description": ""}},
    {"llm:unclaimed:a": 5},
    {"llm:unclaimed:a": {"m": 5}},
    {"llm:unclaimed:a": {"m": {"calls": HUGE}}},
    {"llm:unclaimed:a": {"m": {"calls": 1, "seconds": float("nan")}}},
    {"llm:adaptations": 5},
    {"llm:adaptations": {"m": 5}},
    {"llm:adaptations": {"m": {"temperature": 5}}},
    {"llm:from a newer version": 5},
    {"llm:facts": 5},
    {"llm:facts": {"n_trials": 0}},
    {"llm:facts": {"n_trials": HUGE}},
    {"llm:facts": {"noise": float("nan")}},
    {"llm:facts": {"best_possible": HUGE}},
    {"llm:facts": {"target_value": "1"}},
    {"llm:facts": {"from a newer version": 1}},
    {"llm:insights": "a"},
    {"llm:insights": [1]},
]


def find_key(attributes: dict[str, Any]) -> str:
    """The key that is at fault: the last that is not a text's value."""
    return next(iter(attributes))


@pytest.mark.parametrize("own", OWN, ids=repr)
def test_a_trials_broken_attribute_is_skipped_with_a_warning_that_names_both(
    own: dict[str, Any], logs: pytest.LogCaptureFixture
) -> None:
    read_all(make_study(own, {}, TrialState.COMPLETE), plots=False)
    warnings = [r.getMessage() for r in logs.records if "cannot be read" in r.getMessage()]
    assert len(warnings) == 1
    assert "of trial 1 cannot be read" in warnings[0]
    assert any(key in warnings[0] for key in own)


@pytest.mark.parametrize("studys", STUDYS, ids=repr)
def test_a_studys_broken_attribute_is_skipped_with_a_warning_that_names_it(
    studys: dict[str, Any], logs: pytest.LogCaptureFixture
) -> None:
    read_all(make_study({}, studys, TrialState.COMPLETE), plots=False)
    warnings = [r.getMessage() for r in logs.records if "cannot be read" in r.getMessage()]
    assert len(warnings) == 1
    assert find_key(studys) in warnings[0].replace("\\", "")
    assert "of the study" in warnings[0]


@pytest.mark.parametrize(
    "own",
    [
        {"feedback": 5},
        {"feedback": {"accuracy": [0.5, None]}},
        {"feedback": nest(200)},
        {"llm:proposal": {"parent": 99}},
        {"llm:proposal": {"parent": 2}},  # Which comes from it.
        {"llm:proposal": {"calls": 1, "prompt_tokens": 1, "cached_tokens": 5}},
        {"llm:proposal": {"source": None, "parent": None}},
        {"llm:proposal": {"texts": None}, "code": "a = 2"},
        {"llm:proposal": {"texts": {"code": 1}}},  # Which the objective did not ask for.
        {"llm:proposal": {"texts": {"code": 2}}, "code": None, "code:1": "2"},
    ],
    ids=repr,
)
def test_what_is_unusual_but_can_be_read_is_no_reason_for_a_warning(
    own: dict[str, Any], logs: pytest.LogCaptureFixture
) -> None:
    study = make_study(own, {}, TrialState.COMPLETE)
    two = {"llm:proposal": {"parent": 1, "texts": {"code": 1}}, "code": "a = 3"}
    study.add_trial(create_trial(value=9, user_attrs=two))
    read_all(study)
    assert "cannot be read" not in logs.text


def test_an_enqueued_trial_whose_text_is_no_string_gets_one_of_the_model(
    logs: pytest.LogCaptureFixture,
) -> None:
    study = make_study({}, {}, TrialState.COMPLETE)
    study.enqueue_trial({}, user_attrs={"code": {"a": 1}, "llm:proposal": []})
    read_all(study)
    assert study.trials[3].user_attrs["code"].startswith("b = ")
    assert "'code' of trial 3 cannot be read" in logs.text


@pytest.mark.parametrize("cycle", [(1, 0), (1, 2, 0)])
def test_a_cycle_of_parents_stops_no_reader(cycle: tuple[int, ...]) -> None:
    study = optuna.create_study()
    for number, parent in enumerate(cycle):
        attributes = {
            "code": f"a = {number}",
            "llm:proposal": {"source": "model", "parent": parent, "texts": {"code": 1}},
        }
        study.add_trial(create_trial(value=number, user_attrs=attributes))
    read_all(study)


KEYS = st.sampled_from(
    [
        *["llm:proposal"] * 6,
        *["code", "code:1", "code:2", "x", "x:1", "feedback", "llm:cases", "llm:template:code"],
    ]
) | st.text(max_size=5).map("llm:".__add__)
STUDY_KEYS = st.sampled_from(
    [
        *["llm:task", "llm:text:code", "llm:text:other", "llm:text:x", "llm:text:"],
        *["llm:unclaimed:a", "llm:unclaimed:", "llm:adaptations", "llm:cases"],
        *["llm:facts", "llm:insights"],
    ]
) | st.text(max_size=5).map("llm:".__add__)
FIELDS = st.sampled_from(
    [
        *["source", "rationale", "parent", "model", "error", "claim", "calls", "seconds"],
        *["texts"] * 3,
        *["prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"],
        *["description", "language", "initial", "has_initial", "code", "x", "m"],
        *["n_trials", "best_possible", "target_value", "noise"],
    ]
) | st.text(max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, 99, -1, HUGE, "model", "base", "python"])
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=8,
)
VALUES |= st.dictionaries(FIELDS, SCALARS, max_size=8)


@given(
    st.dictionaries(KEYS, VALUES, max_size=5),
    st.dictionaries(STUDY_KEYS, VALUES, max_size=4),
    st.sampled_from(
        [TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL]
    ),
)
def test_anything_under_any_key_stops_no_reader(
    own: dict[str, Any], studys: dict[str, Any], state: TrialState
) -> None:
    read_all(make_study(own, studys, state))
