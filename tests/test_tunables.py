"""Numbers that are marked in a text: the notation, and what becomes of it in a study."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import itertools
import math
import random
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import FixedTrial
from optuna.trial import TrialState
from provenance import told
import pytest

from optuna_llm import fix_text
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import propose
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm._tunables import fill
from optuna_llm._tunables import find_tunables
from optuna_llm._tunables import make_skeleton
from optuna_llm._tunables import ParamName
from optuna_llm._tunables import read_param_name
from optuna_llm._tunables import render
from optuna_llm._tunables import TunableError
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


START = "a = <<a = 0.9 in 0.01..1 log>>\nb = <<b = 7 in 0..10>>\nf = <<f = max in max, min>>\n"
PARAMS = {"code.a@0", "code.b@0", "code.f@0"}


def objective(trial: optuna.trial.BaseTrial) -> float:
    code = suggest_text(trial, "code", START, language="python", tunable=True)
    names: dict[str, Any] = {}
    exec(code, names)
    return float(abs(math.log(names["a"] / 0.1)) + abs(names["b"] - 3) / 5 + names["f"](0.0, 1.0))


def refuse(messages: Sequence[Message]) -> str:
    raise AssertionError("No model was to be asked.")


# The notation


def test_a_marker_says_the_name_the_value_and_the_range() -> None:
    a, b, f = find_tunables(START)
    assert (a.name, a.value, a.distribution) == ("a", 0.9, FloatDistribution(0.01, 1, log=True))
    assert (b.name, b.value, b.distribution) == ("b", 7, IntDistribution(0, 10))
    assert (f.value, f.distribution) == ("max", CategoricalDistribution(("max", "min")))
    assert render(START) == "a = 0.9\nb = 7\nf = max\n"


@pytest.mark.parametrize(
    ("marker", "rendered"),
    [
        ("<<x=.5 in 0.1..1>>", ".5"),
        ("<< x = -1 in -2 .. 2 >>", "-1"),
        ("<<x = 1e-3 in 1e-5..1e-1 log>>", "1e-3"),
        ("<<x = 2 in 1..8 log>>", "2"),
        ('<<x = "a, b" in "a, b", "c">>', '"a, b"'),
        ("<<x = 'it''s' in 'it''s', 'b'>>", None),
        ("<<x = np.mean in np.mean, np.median>>", "np.mean"),
        ("<<x = 4 in 2, 4, 8>>", "4"),
        ("<<x = True in True, False>>", "True"),
        ("<<x = 1 in 0.5..2>>", "1"),
    ],
)
def test_a_value_is_rendered_as_it_is_written(marker: str, rendered: str | None) -> None:
    if rendered is None:
        with pytest.raises(TunableError):
            render(marker)
    else:
        assert render(f"y = {marker};") == f"y = {rendered};"


@pytest.mark.parametrize(
    "text",
    [
        "y = 1 << x >> 2",
        "x <<= 3",
        "a[1<<n:]",
        "if 1 <<y == 4: pass",
        "cat <<EOF\nx\nEOF",
        "std::cout << x << y;",
        "<<name>> and << other >>",
    ],
)
def test_what_only_looks_alike_stays_as_it_is(text: str) -> None:
    assert find_tunables(text) == []
    assert render(text) == text


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("<<m = 3 in 0.05..2>>", r"3 is not within 0\.05\.\.2"),
        ("<<m = 0.3 in 2..1>>", "from a lower to a higher"),
        ("<<m = 0.3 in 0..2 log>>", "must begin above 0"),
        ("<<m = a in b, c>>", "a is none of the choices b, c"),
        ("<<m = a in a, a>>", "two different choices"),
        ("<<m = a in 1..3>>", "a is no number"),
        ("<<m = 1 in 1..3>> <<m = 1 in 1..3>>", "'m' is marked twice"),
        ("<<m = 0.35>>", r"is no marker .*<<margin = 0\.35 in"),
        ("<<m = 0.35 in 0.05..2", "is no marker"),
        ("<<m 0.35 in 0.05..2>>", "is no marker"),
        ("<<m: 0.35 in 0.05..2>>", "is no marker"),
        ("<<m = 1 in 1..99999999999999999999>>", "too large"),
        ("<<m = 1.0 in 1..1e999>>", "finite"),
        (" ".join(f"<<m{i} = 1 in 1..3>>" for i in range(21)), "21 tunables are too many"),
    ],
)
def test_a_marker_that_cannot_be_used_is_named_with_its_right_form(
    marker: str, words: str
) -> None:
    with pytest.raises(TunableError, match=words):
        find_tunables(marker)


_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
_NUMBERS = st.floats(-1e9, 1e9).map(lambda x: round(x, 6))


@st.composite
def markers(draw: st.DrawFn) -> tuple[str, Any, str]:
    """A marker without its name, another value in its range, and its present value as written."""
    if draw(st.booleans()):
        choices = draw(st.lists(_NAMES, min_size=2, max_size=4, unique=True))
        one, other = draw(st.sampled_from(choices)), draw(st.sampled_from(choices))
        return f"{one} in {', '.join(choices)}", other, one
    kind = draw(st.sampled_from([st.integers(-(10**9), 10**9), _NUMBERS]))
    low, *values, high = sorted(
        draw(st.lists(kind, min_size=4, max_size=4, unique=True)), key=float
    )
    one, other = draw(st.permutations(values))
    return f"{one!r} in {low!r}..{high!r}", other, repr(one)


@given(
    st.dictionaries(_NAMES, markers(), max_size=6),
    st.lists(st.text(st.characters(exclude_characters="<>"), max_size=20), min_size=7, max_size=7),
)
def test_a_text_is_filled_and_rendered_wherever_its_markers_stand(
    marked: dict[str, tuple[str, Any, str]], between: list[str]
) -> None:
    parts = [f"<<{name} = {marker}>>" for name, (marker, _, _) in marked.items()]
    text = "".join(f"{words}{part}" for words, part in zip(between, parts, strict=False))
    plain = "".join(
        f"{words}{shown}" for words, (_, _, shown) in zip(between, marked.values(), strict=False)
    )
    assert render(text) == plain
    assert fill(text, {}) == text
    others = {name: other for name, (_, other, _) in marked.items()}
    filled = fill(text, others)
    assert {t.name: t.value for t in find_tunables(filled)} == others
    assert make_skeleton(filled) == make_skeleton(text)
    assert fill(filled, {t.name: t.value for t in find_tunables(text)}).replace(" ", "") == (
        text.replace(" ", "")
    )


@given(st.text(st.sampled_from("<>=.,in log0123abc\"' \n"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TunableError):
        assert fill(text, {t.name: t.value for t in find_tunables(text)}) == text


@given(st.text(min_size=1), _NAMES, st.integers(0, 10**8))
def test_the_name_of_a_parameter_tells_its_tunable(text: str, name: str, family: int) -> None:
    param = ParamName(text, name, family)
    known = read_param_name(str(param))
    assert known == param or "\n" in text


def test_only_markers_of_a_tunable_text_count() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    assert suggest_text(trial, "code", START) == START
    assert trial.params == {}


def test_a_malformed_initial_text_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"The text 'code': '<<a = 3 in 1\.\.2>>': 3 is not with"):
        suggest_text(optuna.create_study().ask(), "code", "<<a = 3 in 1..2>>", tunable=True)


# In a study


def test_tunables_are_parameters_and_the_text_has_their_values() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(refuse), seed=0))
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.params == {"code.a@0": 0.9, "code.b@0": 7, "code.f@0": "max"}
    assert trial.distributions["code.a@0"] == FloatDistribution(0.01, 1, log=True)
    assert get_texts(trial) == {"code": "a = 0.9\nb = 7\nf = max\n"}
    assert trial.user_attrs["code"] == "a = 0.9\nb = 7\nf = max\n"
    assert trial.user_attrs["llm:template:code"] == START


def test_tuning_comes_before_the_model_and_finds_better_values() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(refuse), seed=0))
    study.optimize(objective, n_trials=5)
    assert [told(t, "source") for t in study.trials] == ["initial"] + ["tune"] * 4
    assert {t.params.keys() == {"code.a@0", "code.b@0", "code.f@0"} for t in study.trials} == {
        True
    }
    assert study.best_value < study.trials[0].value
    texts = [get_texts(t)["code"] for t in study.trials]
    assert len(set(texts)) == 5
    for trial in study.trials:
        assert objective(trial) == trial.value


def make_study(replies: Sequence[str], **arguments: Any) -> tuple[optuna.Study, ScriptedModel]:
    """A study of the model's programs and the initial one, each of them tuned as usual."""
    model = ScriptedModel([write_reply(texts={"code": reply}) for reply in replies])
    return optuna.create_study(sampler=LLMSampler(model=model, seed=0, **arguments)), model


def only_models(turns: object, candidates: Any, rng: object) -> list[str]:
    return [candidate.name for candidate in candidates if candidate.is_model]


def test_a_program_that_is_sent_again_with_other_values_stays_in_its_family() -> None:
    again = START.replace("0.9", "0.5").rstrip()
    other = START.replace("b = <<b = 7 in 0..10>>", "b = <<b = 7 in 0..20>>")
    study, _ = make_study([again, other], proposers=only_models)
    study.optimize(objective, n_trials=3)
    assert [sorted(t.params)[0] for t in study.trials] == ["code.a@0", "code.a@0", "code.a@2"]
    assert study.trials[1].params["code.a@0"] == 0.5


def test_a_malformed_marker_goes_back_to_the_model() -> None:
    wrong = START.replace("0.9", "9")
    study, model = make_study([wrong, START.replace("7", "8")], proposers=only_models)
    study.optimize(objective, n_trials=2)
    assert study.trials[1].params["code.b@0"] == 8
    assert "9 is not within 0.01..1" in model.calls[1][1].content


def test_an_edit_is_made_to_the_text_with_its_markers_and_best_values() -> None:
    reply = (
        '<edit name="code" of="0">\n<<<<<<< SEARCH\nb = <<b = 7 in 0..10>>\n=======\n'
        "b = <<b = 6 in 0..12>>\n>>>>>>> REPLACE\n</edit>"
    )
    sampler = LLMSampler(
        model=ScriptedModel([reply]), seed=0, edits="always", proposers=only_models
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=2)
    assert study.trials[1].params == {"code.a@1": 0.9, "code.b@1": 6, "code.f@1": "max"}


def test_the_prompt_tells_a_family_once_with_what_tuning_found() -> None:
    replies = (f"{START}# {i}" for i in range(100))
    model = ScriptedModel(lambda _: write_reply(texts={"code": next(replies)}))
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0))
    study.optimize(objective, n_trials=40, callbacks=[lambda s, _: model.calls and s.stop()])
    system, user = model.calls[-1]
    assert "<<margin = 0.35 in 0.05..2 log>>" in system.content
    assert user.content.count("## Trial ") == 1
    assert "- text of trial 0: " in user.content
    best = study.best_trial
    tuned = [t for t in study.trials if told(t, "source") == "tune"]
    words = f"best trial {best.number}, value {best.value:.5g}: the same with a "
    assert f"{words}{best.params['code.a@0']}" in user.content
    assert f"{len(tuned) + 1} trials, value {study.trials[0].value:.5g} at first" in user.content
    assert best.user_attrs["llm:template:code"].rstrip() in user.content


def test_the_prompt_says_what_was_said_of_a_best_trial_that_tuned() -> None:
    def tell(trial: optuna.Trial) -> float:
        value = objective(trial)
        report_feedback(trial, f"It is {value!r} off.")
        return value

    model = ScriptedModel(lambda _: write_reply(texts={"code": "a = 1\nb = 1\nf = min"}))
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0))
    study.optimize(tell, n_trials=40, callbacks=[lambda s, _: model.calls and s.stop()])
    best = min(study.trials[:-1], key=lambda t: t.value or math.inf)
    assert told(best, "source") == "tune"
    assert f"Trial {best.number}, feedback: It is {best.value!r} off." in (
        model.calls[-1][1].content
    )


def test_the_prompt_says_which_tunable_mattered() -> None:
    start = "much = <<much = 5.0 in 0.0..9.0>>\nlittle = <<little = 5.0 in 0.0..9.0>>"

    def weigh(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", start, tunable=True)
        much, little = (float(line.split()[2]) for line in text.splitlines()[:2])
        return (much - 4) ** 2 + 1e-6 * little

    model = ScriptedModel(lambda _: write_reply(texts={"code": "much = 1\nlittle = 1"}))
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0))
    study.sampler = fix_text(study, run_once(study, weigh), optuna.samplers.RandomSampler(seed=0))
    study.optimize(weigh, n_trials=30)
    study.sampler = LLMSampler(model=model, seed=0, proposers=only_models)
    study.optimize(weigh, n_trials=1)
    line = next(x for x in model.calls[-1][1].content.splitlines() if x.startswith("- text of"))
    told_share = re.search(r"; the results differ by much (\d+)%", line)
    assert told_share is not None
    assert int(told_share[1]) > 60


def run_once(study: optuna.Study, objective: Any) -> optuna.trial.FrozenTrial:
    study.optimize(objective, n_trials=1)
    return study.trials[-1]


def test_the_model_starts_from_the_best_of_a_family_only() -> None:
    numbers = itertools.count()

    def answer(messages: Sequence[Message]) -> str:
        return write_reply(texts={"code": f"{START}# {next(numbers)}"})

    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(answer), seed=0))
    study.optimize(objective, n_trials=80)
    parents = {told(t, "parent") for t in study.trials if told(t, "source") == "model"}
    for parent in parents:
        trial = study.trials[parent]
        family = sorted(trial.params)[0].partition("@")[2]
        relatives = [t for t in study.trials if f"code.a@{family}" in t.params]
        assert min(t.value for t in relatives if t.number <= parent) == trial.value


def test_a_trial_that_is_done_again_gives_the_same_text() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(refuse), seed=0))
    study.optimize(objective, n_trials=3)
    last = study.trials[-1]
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=last.params,
            distributions=last.distributions,
            user_attrs=last.user_attrs,
        )
    )
    study.optimize(objective, n_trials=1)
    again = study.trials[-1]
    assert (again.value, again.params, get_texts(again)) == (
        last.value,
        last.params,
        get_texts(last),
    )


@pytest.mark.parametrize("sampler", ["llm", "random"])
def test_a_marked_text_that_is_enqueued_keeps_its_values(sampler: str) -> None:
    llm = LLMSampler(model=ScriptedModel(refuse), seed=0)
    study = optuna.create_study(
        sampler=llm if sampler == "llm" else optuna.samplers.RandomSampler(seed=0)
    )
    study.enqueue_trial({"code": START.replace("7", "4")})
    study.optimize(objective, n_trials=1)
    assert study.trials[0].params == {"code.a@0": 0.9, "code.b@0": 4, "code.f@0": "max"}
    assert get_texts(study.trials[0])["code"].splitlines()[1] == "b = 4"


def test_anybody_may_propose_a_marked_text() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(refuse), seed=0))
    study.optimize(objective, n_trials=1)
    propose(study, {"code": START.replace("0..10", "0..30")})
    study.optimize(objective, n_trials=1)
    assert study.trials[1].params == {"code.a@1": 0.9, "code.b@1": 7, "code.f@1": "max"}
    assert objective(study.trials[1]) == study.trials[1].value


def test_another_sampler_tunes_the_initial_text() -> None:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=30)
    assert study.best_value < 0.7
    assert {tuple(sorted(t.params)) for t in study.trials} == {
        ("code.a@0", "code.b@0", "code.f@0")
    }
    for trial in study.trials:
        assert objective(trial) == trial.value


def test_a_fixed_trial_may_hold_a_marked_text() -> None:
    assert objective(FixedTrial({"code": START})) == pytest.approx(math.log(9) + 0.8 + 1)


def test_a_template_that_cannot_be_read_is_skipped() -> None:
    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(refuse), seed=0))
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    for broken in (7, "<<a = 3 in", "no marker", ["x"]):
        study.add_trial(
            optuna.trial.create_trial(
                value=9.0,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={**trial.user_attrs, "llm:template:code": broken},
            )
        )
    study.optimize(objective, n_trials=2)
    assert study.trials[-1].state == TrialState.COMPLETE
    assert get_texts(study.trials[1]) == get_texts(trial)


@pytest.mark.parametrize("jobs", [1, 3])
def test_workers_that_tune_the_same_family_do_not_repeat_each_other(jobs: int) -> None:
    def count(trial: optuna.Trial) -> float:
        return float(suggest_text(trial, "n", "<<n = 5 in 0..11>>", tunable=True))

    numbers = iter(range(100))
    model = ScriptedModel(lambda _: write_reply(texts={"n": f"{next(numbers)}.5"}))
    study = optuna.create_study(sampler=LLMSampler(model=model, seed=0))
    study.optimize(count, n_trials=20, n_jobs=jobs)
    values = [t.value for t in study.trials]
    assert len(set(values)) == len(values)


def test_tuning_serves_several_objectives_and_numbers_of_the_study() -> None:
    def several(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0, 1)
        n = int(suggest_text(trial, "n", "<<n = 5 in 0..50>>", tunable=True))
        return abs(n - 20) + x, abs(n - 30) - x

    replies = iter(range(100))
    model = ScriptedModel(lambda _: write_reply({"x": 0.5}, {"n": f"1{next(replies)}"}))
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=LLMSampler(model=model, seed=0)
    )
    study.optimize(several, n_trials=6)
    tuned = [t for t in study.trials if told(t, "source") == "tune"]
    assert tuned
    assert {t.params["x"] for t in tuned} <= {t.params["x"] for t in study.trials[:1]}


# Any sampler for one text


@pytest.mark.parametrize(
    "sampler",
    [
        None,
        optuna.samplers.RandomSampler(seed=0),
        optuna.samplers.NSGAIISampler(seed=0, population_size=4),
    ],
)
def test_any_sampler_tunes_a_fixed_text(sampler: optuna.samplers.BaseSampler | None) -> None:
    study, _ = make_study([START + "# other"], proposers=only_models)
    study.optimize(objective, n_trials=2)
    study.sampler = fix_text(study, study.trials[1], sampler)
    study.optimize(objective, n_trials=12)
    fixed = study.trials[2:]
    assert {t.user_attrs["code"].splitlines()[-1] for t in fixed} == {"# other"}
    assert {tuple(sorted(t.params)) for t in fixed} == {("code.a@1", "code.b@1", "code.f@1")}
    assert {(told(t, "source"), told(t, "parent")) for t in fixed} == {("tune", 1)}
    # A genetic algorithm takes over values of parents.
    assert len({t.params["code.a@1"] for t in fixed}) >= 4
    assert study.best_value < study.trials[1].value


def test_a_fixed_text_keeps_the_study_s_numbers_in_the_search() -> None:
    def both(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1, 1)
        return x**2 + float(suggest_text(trial, "n", "<<n = 0.5 in 0.0..1.0>>", tunable=True))

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(both, n_trials=1)
    study.sampler = fix_text(study, study.best_trial)
    study.optimize(both, n_trials=25)
    assert {tuple(sorted(t.params)) for t in study.trials} == {("n.n@0", "x")}
    assert study.best_value < 0.3


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_text_that_is_not_tunable_may_hold_what_looks_like_a_marker(jobs: int) -> None:
    alike = "cat <<EOF = 1..2"

    def both(trial: optuna.Trial) -> float:
        assert suggest_text(trial, "script", alike) == alike
        return float(suggest_text(trial, "n", "<<n = 0.5 in 0.0..1.0>>", tunable=True))

    study = optuna.create_study(sampler=LLMSampler(model=ScriptedModel(refuse), seed=0))
    study.optimize(both, n_trials=2)
    assert [told(t, "source") for t in study.trials] == ["initial", "tune"]
    study.sampler = fix_text(study, study.best_trial)
    study.optimize(both, n_trials=9, n_jobs=jobs)
    assert len({t.params["n.n@0"] for t in study.trials}) == 11


def test_a_text_without_anything_to_tune_is_refused() -> None:
    study = optuna.create_study()
    study.optimize(lambda t: len(suggest_text(t, "code", "x")), n_trials=1)
    with pytest.raises(ValueError, match="Trial 0 has no numbers that could be tuned"):
        fix_text(study, study.best_trial)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="Trial 1 has no texts"):
        fix_text(study, study.trials[1])


@pytest.mark.parametrize("directions", [["minimize"], ["maximize"], ["minimize", "maximize"]])
def test_whatever_comes_back_a_trial_s_text_has_the_values_of_its_parameters(
    directions: list[str],
) -> None:
    rng = random.Random(0)

    def answer(messages: Sequence[Message]) -> str:
        draw = rng.random()
        if draw < 0.2:
            return write_reply({"x": 0.5}, {"code": "v = <<v = 3 in 5..6>>", "note": "bad"})
        if draw < 0.3:
            return "<pass>Nothing is left.</pass>"
        code = f"v = <<v = {rng.randint(1, 9)} in 0..10>>\nw = <<w = a in a, b>>"
        note = f"<<k = {rng.random():.2f} in 0.0..1.0>>" if draw < 0.6 else f"{draw}"
        return write_reply({"x": rng.random()}, {"code": code, "note": note})

    def fickle(trial: optuna.Trial) -> float | tuple[float, float]:
        trial.suggest_float("x", 0, 1)
        suggest_text(trial, "code", "v = <<v = 5 in 0..10>>\nw = b", tunable=True)
        suggest_text(trial, "note", "hi", tunable=True)
        draw = rng.random()
        if draw < 0.1:
            raise ValueError("It has failed.")
        if draw < 0.2 and len(directions) == 1:
            raise optuna.TrialPruned
        values = rng.gauss(0, 1), math.inf if draw < 0.4 else -math.inf if draw < 0.5 else draw
        return values[1] if len(directions) == 1 else values

    study = optuna.create_study(
        directions=directions, sampler=LLMSampler(model=ScriptedModel(answer), seed=0)
    )
    study.optimize(fickle, n_trials=40, catch=(ValueError, LLMError))
    assert {"model", "tune"} <= {told(t, "source") for t in study.trials}
    for trial in study.trials:
        check_values(trial)


def check_values(trial: optuna.trial.FrozenTrial) -> None:
    for param, value in trial.params.items():
        known = read_param_name(param)
        if known is not None:
            marked = find_tunables(trial.user_attrs[f"llm:template:{known.text}"])
            assert {t.name: t.value for t in marked}[known.tunable] == value
    for name, text in get_texts(trial).items():
        assert render(trial.user_attrs.get(f"llm:template:{name}", text)) == text
