"""Each example ends well on the stand-in, and gets far with a model that knows the answer."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import json
import os
from pathlib import Path
import re
import runpy
import struct
import subprocess
import sys
from typing import Any

from optuna.trial import TrialState
from provenance import told
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request
from werkzeug import Response

from optuna_llm import Completion
from optuna_llm import get_texts
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm.models import ReplayModel
from optuna_llm.optimize import Result
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Load an example's names, as running it would find its neighbours."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return lambda name: runpy.run_path(str(EXAMPLES / f"{name}.py"))


def propose(*texts: str) -> ScriptedModel:
    return ScriptedModel([write_reply(texts={"x": text}) for text in texts])


# The later programs take seconds of CPU each: the first ones tell whether the prompts match.
@pytest.mark.parametrize("count", [4, pytest.param(13, marks=pytest.mark.slow)])
def test_the_quickstart_replays_a_models_words_to_the_letter(
    count: int,
    load: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("OPTUNA_LLM_MODEL", raising=False)
    main = load("quickstart")["main"]
    storage = f"sqlite:///{tmp_path}/quickstart.db"
    storage = f"sqlite:///{tmp_path}/quickstart.db"
    assert len(main(storage, 2).trials) == 2
    study = main(storage, count)
    assert [told(t, "source") for t in study.trials] == ["initial"] + ["model"] * (count - 1)
    assert study.trials[0].value == 69
    if count == 13:
        readme = (EXAMPLES.parent / "README.md").read_text()
        assert f"from 69 boxes too many to {study.best_value:.0f}" in " ".join(readme.split())
    printed = " ".join(capsys.readouterr().out.split())
    assert all(told(trial, "rationale") in printed for trial in study.trials[1:])
    assert f"The best of {count} trials, {study.best_value:.0f} boxes too many" in printed
    assert get_texts(study.best_trial)["code"] in study.best_trial.user_attrs["code"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import random", "Import is not allowed"),
        ("def choose(item, rooms, seen): return len(rooms) / 2", "/ is not allowed"),
        ("def choose(item, rooms, seen): return 0.5", "0.5 is not allowed"),
        ("def choose(item, rooms, seen): return id(item)", "id is not allowed"),
        ("def choose(item, rooms, seen): return rooms.__class__", ".__class__ is not allowed"),
        ("def choose(item, rooms, seen): return stream", "stream is not allowed"),
        ("def choose(item, rooms, seen): return 99", "IndexError: list index out of range"),
        ("def choose(item, rooms, seen): return -1 - len(rooms)", "IndexError"),
        ("def choose(item, rooms, seen):", "expected an indented block"),
    ],
)
def test_the_quickstart_takes_no_program_that_is_wrong_or_inexact(
    code: str, says: str, load: Callable[[str], dict[str, Any]]
) -> None:
    with pytest.raises((SyntaxError, ValueError), match=re.escape(says)):
        load("quickstart")["score"](code)


def test_a_record_of_the_quickstart_is_made_anew_from_any_model(
    load: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickstart = load("quickstart")
    path = tmp_path / "replies.jsonl"
    recorded = quickstart["run"](ReplayModel(path, "offline"), None, 4)
    replayed = quickstart["run"](ReplayModel(path), None, 4)
    assert [get_texts(t) for t in replayed.trials] == [get_texts(t) for t in recorded.trials]


def run_quickstart(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "quickstart.py"), *arguments],
        env={**os.environ, "OPENAI_API_KEY": "x", "OPTUNA_LLM_MODEL": "m", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_quickstart_ends_with_the_reason_if_the_key_is_wrong(
    tmp_path: Path, httpserver: HTTPServer
) -> None:
    answer = {"error": {"message": "Incorrect API key"}}
    httpserver.expect_request("/chat/completions").respond_with_json(answer, status=401)
    storage = f"sqlite:///{tmp_path}/quickstart.db"
    run = run_quickstart(storage, "9", OPENAI_BASE_URL=httpserver.url_for(""))
    assert run.returncode == 1
    assert re.findall(r"^trial +\d+: .*", run.stdout, re.MULTILINE) == [
        "trial  0: the program to start from",
        "trial  1: no proposal",
    ]
    assert "\n          failed: " in run.stdout
    assert run.stderr.startswith("ModelSetupError: ")
    assert "Incorrect API key" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_the_quickstart_says_how_it_is_used() -> None:
    run = run_quickstart("--help")
    assert run.returncode == 0
    assert "usage: quickstart.py [-h] [storage] [n_trials]" in run.stdout


@pytest.mark.parametrize(
    "name",
    ["code_golf", "forecast", "numbers_as_text", "prime_speed", "sklearn_automl", "text_rubric"],
)
def test_an_example_in_which_nothing_passes_says_so(
    name: str, load: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load(name)["main"]
    start = "START" if "START" in example.__globals__ else None
    if start:
        monkeypatch.setitem(example.__globals__, start, "raise SystemExit(1)")
    elif name == "numbers_as_text":
        monkeypatch.setitem(example.__globals__, "json", None)
    model = (lambda _: "no score") if name == "text_rubric" else "offline"
    one_trial = {"n_trials": 1} if name == "forecast" else {"max_steps": 0}
    with pytest.raises(SystemExit, match="the reasons are above"):
        example(model=model, **one_trial)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numbers_as_text", "code_golf", "text_rubric", "sklearn_automl"])
def test_an_example_runs_to_its_end_on_the_stand_in(name: str) -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        env={**os.environ, "OPTUNA_LLM_MODEL": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "trial 0 (initial)" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("prime_speed", {"max_steps": 1}, marks=pytest.mark.slow),
        ("paperclips", {"seconds": 1}),
    ],
)
def test_a_slow_example_runs_to_its_end_on_the_stand_in_with_short_settings(
    name: str, settings: dict[str, Any], load: Callable[[str], dict[str, Any]]
) -> None:
    result: Result = load(name)["main"](model="offline", seed=0, **settings)
    assert len(result.study.trials) == settings.get("max_steps", 3) + 1


def test_the_forecast_is_tuned_between_the_model_s_rules(
    load: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("forecast")
    seasonal = (
        "def forecast(values):\n"
        "    year = values[-12] + values[-1] - values[-13]\n"
        "    return <<part = 0.1 in 0.0..1.0>> * year + 0.5 * values[-1]"
    )
    model = ScriptedModel(lambda _: write_reply(texts={"code": seasonal}))
    study = example["main"](12, model, 0)
    assert [told(t, "source") for t in study.trials].count("model") >= 1
    assert {name.partition("@")[0] for t in study.trials for name in t.params} == {
        "code.part",
        "code.share",
        "code.trend_share",
    }
    assert study.best_value < study.trials[0].value
    assert (
        f"{study.trials[0].value:.3g} -> {study.best_value:.3g} % off" in capsys.readouterr().out
    )


def test_a_drawing_is_looked_at_beside_its_target_and_becomes_it(
    load: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    example = load("drawing")
    broken = example["START"].replace("circle", "ellipse")

    class SeeingModel(ScriptedModel):
        takes_images = True

    replies = [write_reply(texts={"svg": svg}) for svg in (broken, example["TARGET"])]
    model = SeeingModel(replies)
    study = example["main"](str(tmp_path / "drawings"), 3, model=model)
    assert [trial.value for trial in study.trials][1:] == [None, 0]
    assert "only rect and circle can be drawn, not ellipse" in model.calls[1][1].content
    (image,) = model.calls[1][1].images
    assert image.type == "image/png"
    width, height = struct.unpack(">II", image.data[16:24])
    assert (width, height) == (4 * (96 + 4 + 96), 4 * 96)


def test_the_drawing_runs_to_its_end_on_the_stand_in(
    load: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    study = load("drawing")["main"](str(tmp_path / "drawings"), 30, model="offline")
    assert study.best_value < study.trials[0].value
    assert {trial.state.name for trial in study.trials} == {"COMPLETE"}


PROMPTS = (
    "Answer with nothing but the answer. Write dates as YYYY-MM-DD, times as HH:MM.",
    "Answer with nothing but the answer. Write dates as YYYY-MM-DD, times as HH:MM, amounts as "
    "12.50 EUR, lengths in minutes as 90 min, and names with the surname first: Lopez, Maria. "
    "Else answer yes, no or, where the note does not tell, unknown.",
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPTUNA_LLM_MODEL", raising=False)
    monkeypatch.delenv("OPTUNA_LLM_TASK_MODEL", raising=False)


@pytest.mark.usefixtures("offline")
def test_a_prompt_is_tuned_by_what_is_said_of_its_cases(
    load: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    usages = Usage(prompt_tokens=1_000, completion_tokens=100)
    model = ScriptedModel(
        [
            Completion(write_reply({"temperature": 0}, {"prompt": prompt}), "writer", usages)
            for prompt in (*PROMPTS, f"{PROMPTS[0]} Be brief.")
        ]
    )
    study = load("prompt_tuning")["main"](4, model=model)
    assert study.trials[0].value == 0
    # Dates, times, and of the amounts and lengths those whose usual form is the wanted one.
    assert 1 / 3 <= study.trials[1].value < 1 / 2
    assert study.trials[2].value == 1
    assert study.trials[3].state == TrialState.PRUNED
    assert len(study.trials[3].intermediate_values) < 40
    told_of_first = model.calls[1][1].content
    assert "answered 'Maria Lopez', not 'Lopez, Maria'" in told_of_first
    assert "better than trial 0 in 1" in told_of_first
    spent = usage(study)
    assert spent.by_model["writer"].prompt_tokens == 3_000
    n_answers = sum(len(trial.intermediate_values) for trial in study.trials)
    # Those in flight when a trial is pruned have cost something too.
    assert n_answers <= spent.by_model["stand-in"].calls < n_answers + 8
    assert spent.prompt_tokens > 3_000 + 20 * n_answers
    printed = capsys.readouterr().out
    assert "100% at temperature 0" in printed
    assert "Trial 2, the best by training, is the best held out too." in printed
    # Nothing of the cases held out has been told.
    words = "\n".join(message.content for call in model.calls for message in call)
    assert "Hugo Meyer" not in words
    assert "Maria Lopez" in words


@pytest.mark.usefixtures("offline")
def test_the_tokens_of_both_models_end_the_tuning_of_a_prompt(
    load: Callable[[str], dict[str, Any]],
) -> None:
    example = load("prompt_tuning")["main"]
    assert len(example(12, max_tokens=1_500).trials) == 1
    replies = [
        Completion(write_reply({"temperature": 0}, {"prompt": text}), "m", Usage(10_000))
        for text in PROMPTS
    ]
    assert len(example(12, model=ScriptedModel(replies), max_tokens=10_000).trials) == 2


@pytest.mark.usefixtures("offline")
def test_the_tuning_of_a_prompt_survives_an_answer_that_does_not_come(
    load: Callable[[str], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = load("prompt_tuning")["main"]
    busy = [ModelError("The server is busy.")] * 8
    model = ScriptedModel([*busy, *["unknown"] * 200])
    monkeypatch.setitem(main.__globals__, "open_task_model", lambda *_: model)
    states = [trial.state for trial in main(2).trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE]
    model = ScriptedModel(lambda _: ModelError("The server is busy."))
    with pytest.raises(SystemExit, match="No prompt could be tried"):
        main(2)


@pytest.mark.usefixtures("offline")
def test_the_tuning_of_a_prompt_gains_on_the_stand_ins(
    load: Callable[[str], dict[str, Any]],
) -> None:
    study = load("prompt_tuning")["main"](30)
    assert study.best_value > study.trials[0].value + 0.1
    # The stand-in may repeat itself until its trial fails.
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) >= 20


def test_the_questions_that_a_prompt_is_tuned_on_and_judged_by_are_of_the_same_kinds(
    load: Callable[[str], dict[str, Any]],
) -> None:
    forms = [r"\d{4}-\d\d-\d\d", r"\d\d:\d\d", r"\d+\.\d\d [A-Z]{3}", r"\d+ min"]
    forms += [r"[A-Z]\w+, [A-Z]\w+", "yes|no|unknown"]
    example = load("prompt_tuning")
    for cases, n_cases in ((example["TRAINING"], 40), (example["HELD_OUT"], 20)):
        assert len(cases) == n_cases
        counts = [
            sum(re.fullmatch(form, case["answer"]) is not None for case in cases.values())
            for form in forms
        ]
        assert sum(counts) == n_cases
        assert max(counts) - min(counts) <= 1


def test_a_prompt_is_tuned_for_a_model_behind_an_endpoint(
    load: Callable[[str], dict[str, Any]],
    httpserver: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def respond(request: Request) -> Response:
        sent = json.loads(request.data)
        asked.append(sent)
        reply = write_reply({"temperature": 0.5}, {"prompt": "Say unknown."})
        answer = {
            "model": f"{sent['model']}-2026",
            "choices": [
                {
                    "finish_reason": "stop",
                    "message": {"content": reply if sent["model"] == "big" else "unknown"},
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1},
        }
        return Response(json.dumps(answer), content_type="application/json")

    httpserver.expect_request("/chat/completions").respond_with_handler(respond)
    monkeypatch.setenv("OPENAI_BASE_URL", httpserver.url_for(""))
    monkeypatch.setenv("OPTUNA_LLM_MODEL", "big")
    monkeypatch.setenv("OPTUNA_LLM_TASK_MODEL", "small")
    study = load("prompt_tuning")["main"](2)
    # As often as the answer is "unknown".
    assert [trial.value for trial in study.trials] == [0.05, 0.05]
    answers = [sent for sent in asked if sent["model"] == "small"]
    assert len(answers) == 2 * 40 + 2 * 20
    told = {(sent["messages"][0]["content"], round(sent["temperature"], 1)) for sent in answers}
    assert ("Say unknown.", 0.5) in told
    assert usage(study).by_model["small-2026"].calls == 80
    assert usage(study).by_model["big-2026"].calls == 1


def test_numbers_as_text_finds_the_minimum(load: Callable[[str], dict[str, Any]]) -> None:
    result: Result = load("numbers_as_text")["main"](model=propose("[0, 1]", "[11, 0]", "[0, 0]"))
    assert result.scores == [72.25, 1.0, 0.0]
    assert result.best_x == "[0, 0]"


GOLFED = "print(sum(c in'aeiouAEIOU'for c in input()))"


@pytest.mark.usefixtures("bubblewrap")
def test_code_golf_gets_shorter_and_wrong_programs_fail(
    load: Callable[[str], dict[str, Any]],
) -> None:
    model = propose("print(3)", GOLFED)
    result: Result = load("code_golf")["main"](model=model, max_steps=2)
    assert result.best_score == len(GOLFED) < result.scores[0]
    assert "for '' it prints '3\\n', not 0" in model.calls[1][1].content


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
def test_code_golf_is_not_won_by_a_table_of_the_answers_it_was_told(
    load: Callable[[str], dict[str, Any]],
) -> None:
    table = "print({11:3,0:0,15:10,6:0,8:5}.get(len(input()),7))"
    result: Result = load("code_golf")["main"](model=propose(table), max_steps=1)
    assert result.study.trials[1].state == TrialState.FAIL


GOOD_CLASSIFIER = """\
import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC


class Gradients(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        images = np.asarray(X).reshape(-1, 8, 8) / 16.0
        images = np.stack([gaussian_filter(image, 0.4) for image in images])
        gy, gx = np.gradient(images, axis=(1, 2))
        size, angle = np.hypot(gx, gy), np.arctan2(gy, gx) % np.pi
        bins = [
            (size * (np.floor(angle / np.pi * 6) == k)).reshape(-1, 4, 2, 4, 2).sum((2, 4))
            for k in range(6)
        ]
        return np.hstack([part.reshape(len(images), -1) for part in (images, *bins)])


clf = make_pipeline(Gradients(), SVC(C=30, gamma=0.02)).fit(X, y)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
def test_automl_starts_where_the_original_did_and_passes_it(
    load: Callable[[str], dict[str, Any]],
) -> None:
    model = propose("clf = 5", GOOD_CLASSIFIER)
    result: Result = load("sklearn_automl")["main"](model=model, max_steps=2)
    assert result.scores[0] == 0.9610678531701891
    assert result.best_score is not None
    assert result.best_score > 0.975
    assert "has no attribute 'predict'" in model.calls[1][1].content


CONCURRENT = """\
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
import os
import time

end = time.monotonic() + 1.5


def make(_):
    connection = HTTPConnection(os.environ["FACTORY"].removeprefix("http://"))
    while time.monotonic() < end:
        connection.request("POST", "/", b"")
        connection.getresponse().read()


with ThreadPoolExecutor(64) as pool:
    list(pool.map(make, range(64)))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
def test_paperclips_are_made_at_once_and_a_late_script_earns_nothing(
    load: Callable[[str], dict[str, Any]],
) -> None:
    late = "import time\ntime.sleep(100)"
    model = propose(CONCURRENT, late)
    # Half a second where the original has thirty, and five more before it is too late.
    result: Result = load("paperclips")["main"](model=model, max_steps=2, seconds=0.5)
    assert result.scores[0] == 3
    assert result.scores[1] > 375, model.calls[1][1].content
    assert result.scores[2] == 0


FAST = """\
SMALL = [d for d in range(2, 40) if all(d % k for k in range(2, d))]
def is_prime(n):
    if any(n % d == 0 for d in SMALL):
        return n in SMALL
    return n > 1 and (n < 1600 or all(pow(base, n - 1, n) == 1 for base in (2, 3, 5)))
"""
# Right for all that the original checks.
TABLE = """\
KNOWN = {n for n in range(2, 3000) if all(n % d for d in range(2, n))} | {21269}


def is_prime(n):
    return n in KNOWN
"""


# No clock of its own process may earn a program a better score.
STOPPED_CLOCKS = """\
import time, timeit
time.time = time.perf_counter = time.monotonic = time.process_time = lambda: 0.0
timeit.default_timer, timeit.timeit = time.time, lambda *_, **__: 1e-9
"""


@pytest.mark.slow
@pytest.mark.usefixtures("bubblewrap")
def test_prime_speed_gets_fast_and_a_wrong_program_fails_with_the_case(
    load: Callable[[str], dict[str, Any]],
) -> None:
    example = load("prime_speed")
    cheat = f"{STOPPED_CLOCKS}\n{example['START']}"
    model = propose("def is_prime(n):\n    return n % 2 == 1", TABLE, FAST, cheat)
    result: Result = example["main"](model=model, max_steps=4)
    start, fast, cheated = result.scores
    assert fast > start
    assert cheated < start + 1
    failed = [t.user_attrs["feedback"] for t in result.study.trials[1:3]]
    assert failed[0].endswith("ValueError: is_prime(1) gives True")
    assert failed[1].endswith(" gives False")


def test_a_text_is_rewritten_until_the_judge_likes_it(
    load: Callable[[str], dict[str, Any]],
) -> None:
    better = "Net, I learn, rail: Iten."

    def play_both_parts(messages: Sequence[Message]) -> str:
        if "You rate a text by a rubric" not in messages[0].content:
            return write_reply(texts={"x": better})
        score = 9 if better in messages[1].content else 6
        return f"It is so so.\n<score>{score}</score>"

    model = ScriptedModel(play_both_parts)
    result: Result = load("text_rubric")["main"](model=model, max_steps=1)
    assert tuple(result) == (9.0, [6.0, 9.0], better)
    assert "feedback: It is so so." in model.calls[1][1].content
    # The judge's calls are counted on the trials: one on the first, one beside the proposal's.
    assert [told(t, "calls") for t in result.study.trials] == [1, 2]


@pytest.mark.slow
def test_processes_of_the_distributed_example_share_a_study(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "distributed.py"), f"sqlite:///{tmp_path}/study.db", "2"],
        env={**os.environ, "OPTUNA_LLM_MODEL": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count(": 10 trials") == 2
    assert "20 different of 20" in run.stdout
