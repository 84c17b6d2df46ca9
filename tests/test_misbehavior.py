"""Studies against a server that misbehaves: none hangs, and nothing untrue is stored."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import copy
import json
from pathlib import Path
import pickle
import random
import re
import signal
import socket
import subprocess
import sys
import traceback
from typing import Any

from fault_server import CONTENT
from fault_server import FaultServer
from fault_server import REJECTIONS
from fault_server import respond
from fault_server import serve_faults
from fault_server import WIRE
from fault_server import write_error
from forking import needs_fork
from forking import run_forked
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState
from provenance import only_models
from provenance import told
import pytest
from waiting import wait_for

from optuna_llm import Completion
from optuna_llm import explain_failures
from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import OfflineModel
from optuna_llm import OpenAIModel
from optuna_llm import suggest_text
from optuna_llm.evaluate import Judge


Trialish = optuna.Trial | FrozenTrial


def objective(trial: Trialish) -> float:
    """Depends on every number and on each character of the text."""
    x = trial.suggest_float("x", -10, 10)
    half = trial.suggest_float("half", 0, 3, step=0.5)
    n = trial.suggest_int("n", 0, 50)
    kind = trial.suggest_categorical("kind", ["a", None, 3])
    code = suggest_text(trial, "code", "1.5 + 2.25", language="python")
    return x * x + half + n / 7 + (kind == "a") + sum(map(ord, code)) / 1e6


def connect(server: FaultServer, **arguments: Any) -> OpenAIModel:
    return OpenAIModel("m", base_url=server.url, **{"timeout": 30, "patience": 60, **arguments})


def make_study(model: OpenAIModel, **arguments: Any) -> optuna.Study:
    return optuna.create_study(
        sampler=LLMSampler("Go down.", model=model, seed=0, proposers=only_models, **arguments)
    )


def check(study: optuna.Study, n_trials: int, n_jobs: int = 1) -> None:
    """Every trial has ended, with true values, and says where they came from."""
    trials = study.get_trials(deepcopy=False)
    assert len(trials) == n_trials
    for trial in trials:
        source = told(trial, "source")
        if trial.state == TrialState.COMPLETE:
            # Those that begin beside trial 0 may know of no parameters either.
            assert source == "model" or (source == "initial" and trial.number < n_jobs)
            assert trial.value == objective(trial)
            assert get_texts(trial).keys() == {"code"}
            assert told(trial, "error") is None
        else:
            assert trial.state == TrialState.FAIL
            assert source is None
            assert told(trial, "error")
            assert trial.params == {}


def every_seventh(fault: str) -> Callable[[int], str | None]:
    return lambda number: fault if number % 7 == 2 else None


def outlast(fault: str) -> None:
    """Run a study of 30 trials in which one request in seven meets a fault."""
    with serve_faults(every_seventh(fault)) as server:
        # Generous to calls that are healthy but wait for a busy machine.
        study = make_study(connect(server, timeout=0.8, patience=5))
        study.optimize(objective, n_trials=30, catch=LLMError)
        check(study, 30)
        assert server.counts[fault] >= 4
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    # One fault passes, or is mended by asking again; but nobody waits five minutes here.
    lost = server.counts[fault] if fault == "429, retry in five minutes" else 0
    assert len(complete) == 30 - lost


@pytest.mark.slow
def test_a_study_outlasts_each_fault() -> None:
    # Side by side, since most of it is waiting.
    with ThreadPoolExecutor(8) as pool:
        runs = {fault: pool.submit(outlast, fault) for fault in [*WIRE, *CONTENT]}
    failed = {fault: run.exception() for fault, run in runs.items() if run.exception()}
    assert failed == {}
    assert len(runs) > 60


@pytest.mark.slow
def test_a_study_outlasts_all_faults_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    faults = [*WIRE, *CONTENT]
    with serve_faults(lambda _: rng.choice(faults) if rng.random() < 0.4 else None) as server:
        study = make_study(connect(server, timeout=0.4, patience=0.5))
        study.optimize(objective, n_trials=200, n_jobs=4, catch=LLMError)
        check(study, 200, n_jobs=4)
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(complete) > 150
    keys = {(str(t.params), str(get_texts(t))) for t in complete}
    assert len(keys) == len(complete)
    assert len(server.counts) > 50
    with capsys.disabled():
        print(f"\n{len(complete)} of 200 trials complete; faults met:")
        for fault, count in sorted(server.counts.items()):
            print(f"  {fault:34}{count:4}")


class SigningModel:
    """Signs each text with the nonce that its prompt carries."""

    def __init__(self) -> None:
        self._model = OfflineModel(0)

    def complete(self, messages: Sequence[Message]) -> Completion:
        reply = self._model.complete(messages).text
        nonce = NONCE.search(messages[0].content + messages[1].content)
        assert nonce is not None
        return Completion(reply.replace("\n</text>", f"  # {nonce[0]}\n</text>"))


# No digits, which the stand-in model would vary.
NONCE = re.compile(r"nonce-[a-z]")


@pytest.mark.slow
@needs_fork
def test_forked_processes_outlast_all_faults_and_get_only_their_own_replies() -> None:
    """With one model, which the parent has used before."""
    rng = random.Random(0)
    # The two that are left out are replies to other prompts by design.
    faults = [fault for fault in [*WIRE, *CONTENT] if not fault.startswith("the reply before")]

    def work(number: int) -> list[str]:
        nonce = f"nonce-{'abcde'[number]}"
        sampler = LLMSampler(f"Go down: {nonce}.", model=model, seed=number, proposers=only_models)
        study = optuna.create_study(sampler=sampler)
        study.optimize(objective, n_trials=30, catch=LLMError)
        check(study, 30)
        trials = [t for t in study.trials if told(t, "source") == "model"]
        return [nonce, *(get_texts(trial)["code"] for trial in trials)]

    with serve_faults(lambda _: rng.choice(faults) if rng.random() < 0.4 else None) as server:
        server.model = SigningModel()
        model = connect(server, timeout=2.0, patience=1.0)
        assert work(4)[0] == "nonce-e"
        processes = run_forked(work)
    assert {nonce for nonce, *_ in processes} == {f"nonce-{letter}" for letter in "abcd"}
    for nonce, *texts in processes:
        assert len(texts) > 15
        found = [set(NONCE.findall(text)) for text in texts]
        assert all(nonces == {nonce} for nonces in found), (nonce, found)


@pytest.mark.parametrize("fault", ["500", "is silent", "breaks off", "prose"])
def test_what_does_not_pass_falls_back_and_says_why(fault: str) -> None:
    with serve_faults(lambda _: fault) as server:
        study = make_study(connect(server, timeout=0.4, patience=0.1))
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=3)
    assert [told(t, "source") for t in study.trials] == [
        "base",
        "fallback",
        "fallback",
    ]
    assert all(told(t, "error") for t in study.trials[1:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"http://127.0.0.1:{free_port()}/v1", "refused"),
        ("http://no-such-host.invalid/v1", "not known|resolution"),
        ("https://127.0.0.1:{port}/v1", "SSL"),
    ],
    ids=["nobody", "unknown host", "no TLS"],
)
def test_nobody_at_the_address_falls_back_too(url: str, says: str) -> None:
    with serve_faults(lambda _: None) as server:
        url = url.format(port=server.server_address[1])
        study = make_study(OpenAIModel("m", base_url=url, api_key="x", timeout=2, patience=0.1))
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    assert told(study.trials[1], "source") == "fallback"
    assert re.search(says, told(study.trials[1], "error"))


def test_pauses_grow_and_each_is_logged_with_its_reason(logs: pytest.LogCaptureFixture) -> None:
    with serve_faults(lambda number: "503" if number < 4 else None) as server:
        study = make_study(connect(server))
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    waits = [r.getMessage() for r in logs.records if "Asking again in" in r.getMessage()]
    assert len(waits) == 4
    assert all("answered 503: not now Asking again in" in wait for wait in waits)
    pauses = [float(wait.split()[-2]) for wait in waits]
    assert 0.1 <= pauses[0] <= 0.4
    assert 1.0 <= pauses[3] <= 3.0
    assert told(study.trials[1], "source") == "model"


def test_logs_are_as_loud_as_optunas(logs: pytest.LogCaptureFixture) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with serve_faults(lambda number: "503" if number < 1 else None) as server:
        make_study(connect(server)).optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    assert logs.records == []


@pytest.mark.parametrize(
    ("parameter", "value", "kept"),
    [
        ("temperature", 0.5, {}),
        ("max_tokens", 500, {"max_completion_tokens": 500}),
        ("max_completion_tokens", 500, {"max_tokens": 500}),
        ("seed", 1, {}),
        ("response_format", {"type": "text"}, {}),
        ("top_k", 5, {}),
    ],
)
def test_a_parameter_that_is_rejected_is_dropped_or_renamed_and_remembered(
    parameter: str, value: Any, kept: dict[str, Any], logs: pytest.LogCaptureFixture
) -> None:
    assert parameter in REJECTIONS
    sent = {"extra_body": {parameter: value}} if parameter == "top_k" else {parameter: value}
    with serve_faults(lambda _: parameter) as server:
        study = make_study(connect(server, top_p=0.9, **sent))
        study.optimize(objective, n_trials=6)
        check(study, 6)
    keys = [body.keys() - {"model", "messages"} for body in server.bodies]
    assert keys[0] == {parameter, "top_p"}
    assert all(key == {"top_p", *kept} for key in keys[1:])
    assert all(server.bodies[-1][name] == value for name, value in kept.items())
    assert sum("from now on" in r.getMessage() for r in logs.records) == 1


def test_several_parameters_are_given_up_one_after_another() -> None:
    rejected = ["temperature", "seed", "response_format"]
    with serve_faults(lambda number: rejected[min(number, 2)]) as server:
        model = connect(server, temperature=1, seed=2, response_format={"type": "text"})
        study = make_study(model)
        study.optimize(objective, n_trials=4)
        check(study, 4)
    assert server.bodies[-1].keys() == {"model", "messages"}


def test_a_prompt_too_long_is_cut_and_asked_again(logs: pytest.LogCaptureFixture) -> None:
    with serve_faults(lambda _: "too long") as server:
        study = make_study(connect(server), max_prompt_tokens=16_000)
        study.optimize(objective, n_trials=25)
        check(study, 25)
    sizes = [sum(len(m["content"]) for m in body["messages"]) for body in server.bodies]
    assert sum(size > 6_000 for size in sizes) == 1
    assert sum("From now on a prompt takes at most" in r.getMessage() for r in logs.records) == 1


def test_a_model_that_takes_hardly_any_prompt_ends_the_study() -> None:
    with serve_faults(lambda _: "too long") as server:
        long = "Go down. " * 800
        study = optuna.create_study(sampler=LLMSampler(long, model=connect(server)))
        with pytest.raises((ModelSetupError, ValueError), match=r"hardly any|too small"):
            study.optimize(objective, n_trials=5)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """A server that knows no key."""

    def refuse(connection: socket.socket, _: FaultServer) -> None:
        respond(connection, write_error("Incorrect API key"), 401)

    monkeypatch.setitem(WIRE, "401", refuse)
    with serve_faults(lambda _: "401") as server:
        yield server


@pytest.mark.parametrize("n_jobs", [1, 4])
@pytest.mark.parametrize("catch", [(), Exception, (LLMError,)])
def test_optimize_ends_with_the_error_of_a_wrong_key_whatever_it_catches(
    catch: Any, n_jobs: int, refusing: FaultServer
) -> None:
    study = make_study(connect(refusing))
    study.optimize(objective, n_trials=1)
    ended = []
    with pytest.raises(ModelSetupError, match="answered 401: Incorrect API key"):
        study.optimize(
            objective,
            n_trials=4,
            n_jobs=n_jobs,
            catch=catch,
            callbacks=[lambda _, trial: ended.append(trial.number)],
        )
    assert 1 <= len(refusing.bodies) <= n_jobs
    first, *others = study.trials
    assert first.state == TrialState.COMPLETE
    assert all(t.state == TrialState.FAIL for t in others)
    assert all("Incorrect API key" in told(t, "error") for t in others)
    # Callbacks hear of the trial that failed, as of any other.
    assert sorted(ended) == [t.number for t in others if catch]


def test_without_optimize_a_wrong_key_is_told_where_the_values_are_asked_for(
    refusing: FaultServer,
) -> None:
    study = make_study(connect(refusing))
    study.tell((trial := study.ask()), objective(trial))
    trial = study.ask()
    with pytest.raises(ModelSetupError, match="Incorrect API key"):
        objective(trial)
    study.tell(trial, state=TrialState.FAIL)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]


def test_an_objective_that_hides_a_wrong_key_does_not_hide_it_from_the_user(
    refusing: FaultServer,
) -> None:
    def hide(trial: optuna.Trial) -> float:
        try:
            return objective(trial)
        except ModelError:
            return 1000.0

    study = make_study(connect(refusing))
    with pytest.raises(ModelSetupError, match="Incorrect API key"):
        study.optimize(hide, n_trials=9, catch=Exception)
    assert len(study.trials) == 2


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_a_judge_with_a_wrong_key_ends_the_study_too(
    is_wrapped: bool, refusing: FaultServer
) -> None:
    judge = Judge("Is it good? {text}", model=connect(refusing))

    def rate(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", "start")
        return judge(text, None if is_wrapped else trial).score

    study = optuna.create_study(sampler=LLMSampler(model="offline"))
    with pytest.raises(ModelSetupError, match="Incorrect API key"):
        study.optimize(explain_failures(rate) if is_wrapped else rate, 9, catch=Exception)
    assert [t.state for t in study.trials] == [TrialState.FAIL]


SECRET = "sk-abcdefghijklmnop"


@pytest.mark.parametrize(("login", "scheme"), [("", "Bearer"), ("user:pass-word@", "Basic")])
def test_no_secret_gets_out(
    login: str,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    logs: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    def tell(connection: socket.socket, server: FaultServer) -> None:
        status = 503 if len(server.bodies) % 3 else 401
        respond(connection, write_error(f"You sent {server.headers[-1]} {SECRET}"), status)

    monkeypatch.setitem(WIRE, "tells", tell)
    told = []
    with serve_faults(lambda number: "tells" if number else None) as server:
        url = server.url.replace("://", f"://{login}")
        log = tmp_path / "log.jsonl"
        model = OpenAIModel("m", base_url=url, api_key=SECRET, patience=0.6)
        study = make_study(model, log_file=log)
        for _ in range(3):
            try:
                study.optimize(objective, n_trials=3, catch=())
            except ModelError as error:
                told += [str(error), repr(error), traceback.format_exc()]
        assert all(scheme in head for head in server.headers)
    told += [logs.text, log.read_text(), repr(model), json.dumps(server.bodies)]
    told += [str(vars(trial)) for trial in study.trials]
    assert "You sent" in logs.text
    assert len(told) > 6
    for text in told:
        assert SECRET not in text
        assert "pass-word" not in text
        assert "dXNlcjpwYXNzLXdvcmQ=" not in text  # The login as it is sent.
    assert SECRET.encode() not in pickle.dumps(study)
    assert SECRET.encode() not in pickle.dumps(copy.deepcopy(study.sampler))


INTERRUPTED = """
import signal, sys
import optuna
from optuna_llm import LLMSampler, OpenAIModel, suggest_text
signal.signal(signal.SIGTERM, signal.default_int_handler)
model = OpenAIModel("m", base_url={url!r}, timeout=90)
study = optuna.load_study(study_name="s", storage={storage!r}, sampler=LLMSampler(model=model))
study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=9)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("fault", ["is silent", "429, retry in five minutes"])
def test_an_interrupt_ends_a_call_at_once_and_leaves_no_trial_running(
    number: int, fault: str, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="s")
    with serve_faults(lambda _: fault) as server:
        script = INTERRUPTED.format(url=server.url, storage=storage)
        process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
        wait_for(lambda: server.bodies)
        process.send_signal(number)
        process.wait(50)  # Less than the call's own time limit, and than the pause.
    assert [t.state for t in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]
    assert study.trials[1].params == {}
