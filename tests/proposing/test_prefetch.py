"""Proposals that are asked for ahead of the trials that use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import itertools
import multiprocessing
import os
from pathlib import Path
import pickle
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from provenance import only_models
from provenance import told
import pytest
from waiting import wait_for

from optuna_llm import get_texts
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import OpenAIModel
from optuna_llm import suggest_text
from optuna_llm import Usage
from optuna_llm import usage
from optuna_llm._cancellation import current
from optuna_llm._outcomes import Outcome
from optuna_llm._proposing import prefetch
from optuna_llm._proposing.prefetch import Prefetcher
from optuna_llm._records import Completion
from optuna_llm._records import Proposal
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


USAGE = Usage(prompt_tokens=100, completion_tokens=10)


class Counter:
    """Answers with 1, 2, 3, …; each ``gate`` call may hold it up."""

    def __init__(self, per_call: int = 1, gate: Callable[[], object] = lambda: None) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._gate = gate
        self._per_call = per_call
        self.n_running = 0
        self.most_at_once = 0
        self.prompts: list[str] = []

    def complete(self, messages: Sequence[Message]) -> Completion:
        with self._lock:
            self.n_running += 1
            self.most_at_once = max(self.most_at_once, self.n_running)
            self.prompts.append(messages[1].content)
            replies = [write_reply({"x": next(self._numbers)}) for _ in range(self._per_call)]
        self._gate()
        with self._lock:
            self.n_running -= 1
        if self._per_call > 1:
            replies = [f"<proposal>\n{reply}\n</proposal>" for reply in replies]
        return Completion("\n".join(replies), "counter", USAGE)


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_int("x", 0, 1_000) ** 2


def make_study(model: Any, **arguments: Any) -> optuna.Study:
    sampler = LLMSampler(model=model, seed=0, **arguments)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({"x": 0})
    return study


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("optuna_llm")]


@pytest.fixture(autouse=True)
def _nothing_runs_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(prefetch, "IDLE_SECONDS", 0.05)
    yield
    wait_for(lambda: not threads())


def test_the_next_proposal_is_asked_for_while_the_objective_runs() -> None:
    model = Counter()

    def patient(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number:
            # Trial 1 asks for itself; from then on a call is always one trial ahead.
            wait_for(lambda: len(model.prompts) == trial.number + 1)
        return value

    study = make_study(model, prefetch=1)
    study.optimize(patient, n_trials=5)
    assert [t.params["x"] for t in study.trials] == [0, 1, 2, 3, 4]
    # What runs is told, though its number was not stored yet when the call was made.
    assert '## Trial 2: running\nnumbers: {"x": 2}' in model.prompts[2]
    assert "# Now\n\nPropose trial 3, to beat trial 0." in model.prompts[2]


def test_a_sampler_made_for_one_trial_asks_for_nothing_ahead() -> None:
    """As engines have them that unpickle a study for each trial."""
    model = Counter()
    storage = InMemoryStorage()
    for number in range(5):
        sampler = LLMSampler(model=model, proposers=only_models, prefetch=2)
        study = optuna.create_study(
            storage=storage, study_name="s", sampler=sampler, load_if_exists=True
        )
        study.optimize(objective, n_trials=1)
        wait_for(lambda: not threads())
        assert len(model.prompts) == number
    study.optimize(objective, n_trials=1)
    wait_for(lambda: len(model.prompts) == number + 3)


def test_nothing_is_asked_ahead_of_a_first_trial_that_may_have_more_parameters() -> None:
    answers = itertools.count(1)

    def answer(messages: Sequence[Message]) -> str:
        number = next(answers)
        numbers = {"x": number / 100} if "<numbers>" in messages[0].content else {}
        return write_reply(numbers, {"code": f"y = {number}"})

    sampler = LLMSampler(model=ScriptedModel(answer), prefetch=2)
    study = optuna.create_study(sampler=sampler)
    first, second = study.ask(), study.ask()
    for trial in (first, second):
        suggest_text(trial, "code", "y = 0")
    assert get_texts(second) == {"code": "y = 1"}
    for trial in (first, second):
        study.tell(trial, trial.suggest_float("x", 0, 1))
    trial = study.ask()
    suggest_text(trial, "code", "y = 0")
    trial.suggest_float("x", 0, 1)
    assert told(trial, "calls") == 1


def test_several_proposals_come_in_one_reply_which_is_paid_for_once() -> None:
    model = Counter(per_call=3)
    study = make_study(model, proposals_per_call=3)
    study.optimize(objective, n_trials=7)
    assert [t.params["x"] for t in study.trials] == list(range(7))
    assert len(model.prompts) == 2
    assert "Propose trials 1 to 3" in model.prompts[0]
    calls = [told(t, "calls") for t in study.trials]
    assert calls == [None, 1, 0, 0, 1, 0, 0]
    tokens = [(told(t, "prompt_tokens") or 0) for t in study.trials]
    assert tokens == [0, 100, 0, 0, 100, 0, 0]


def test_what_is_at_hand_is_told_to_the_model_and_not_to_be_repeated() -> None:
    texts = ["Hello there", "Good morning", "Good day to you"]
    proposals = [write_reply(texts={"code": text}) for text in texts[:2]]
    first = "\n".join(f"<proposal>\n{p}\n</proposal>" for p in [*proposals, proposals[0]])
    model = ScriptedModel([first, write_reply(texts={"code": texts[2]})])
    done = threading.Event()

    def talk(trial: optuna.Trial) -> float:
        text = suggest_text(trial, "code", "Hi")
        if trial.number == 1:
            wait_for(lambda: len(model.calls) == 2)
            wait_for(lambda: len(threads()) == 0)
            done.set()
        return len(text)

    study = make_study(model, prefetch=2, proposals_per_call=2)
    study.optimize(talk, n_trials=4)
    assert done.is_set()
    assert [get_texts(t)["code"] for t in study.trials] == ["Hi", *texts]
    user = model.calls[1][1].content
    assert "## About to begin\ncode:\n```\nGood morning\n```" in user
    assert "## Trial 1: running\ncode, made from trial 0:\n```\nHello there\n```" in user


def test_a_proposal_that_was_tried_meanwhile_is_dropped_and_paid_for() -> None:
    model = Counter(per_call=3)
    study = make_study(model, proposals_per_call=3)
    study.optimize(objective, n_trials=2)
    other = optuna.create_trial(
        params={"x": 2}, distributions=study.trials[1].distributions, value=4.0
    )
    study.add_trial(other)
    study.optimize(objective, n_trials=2)
    assert [t.params["x"] for t in study.trials] == [0, 1, 2, 3, 4]
    assert sum((told(t, "calls") or 0) for t in study.trials) == len(model.prompts) == 2


def test_a_proposal_for_other_parameters_is_dropped() -> None:
    values = itertools.count(1)

    def answer(messages: Sequence[Message]) -> str:
        number = next(values)
        return write_reply({"x": -number if "-20" in messages[0].content else number})

    def patient(trial: optuna.Trial) -> float:
        x = trial.suggest_int("x", *bounds)
        wait_for(lambda: len(model.calls) > 0 and not threads())
        return x

    bounds = (0, 1_000)
    model = ScriptedModel(answer)
    sampler = LLMSampler(model=model, prefetch=1)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({"x": 0})
    study.optimize(objective, n_trials=1)
    study.optimize(patient, n_trials=1)
    assert len(model.calls) == 2
    bounds = (-20, -1)
    study.enqueue_trial({"x": -20})
    study.optimize(patient, n_trials=2)
    # The 2 that was at hand is of no use in the new range.
    assert [t.params["x"] for t in study.trials] == [0, 1, -20, -3]
    assert told(study.trials[3], "calls") == 2


@pytest.mark.parametrize("limit", [1, 2])
def test_calls_at_the_same_time_are_capped(limit: int) -> None:
    is_full = threading.Event()

    def hold() -> None:
        """Hold the first calls up until every job waits for one."""
        wait_for(lambda: is_full.is_set() or (model.n_running == limit and count_running() == 8))
        is_full.set()

    def count_running() -> int:
        return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    for arguments in ({"prefetch": 8}, {}):
        is_full.clear()
        model = Counter(gate=hold)
        study = make_study(model, max_concurrent_calls=limit, **arguments)
        study.optimize(objective, n_trials=20, n_jobs=8)
        assert model.most_at_once == limit
        assert len({t.params["x"] for t in study.trials}) == 20


def test_many_threads_share_what_was_asked_for_and_try_nothing_twice() -> None:
    model = Counter(per_call=4)
    study = make_study(model, prefetch=8, proposals_per_call=4)
    study.optimize(objective, n_trials=100, n_jobs=8)
    values = [t.params["x"] for t in study.trials]
    assert len(set(values)) == len(values) == 100
    # No more was asked for than was to be at hand at the end.
    assert len(model.prompts) * 4 <= 100 + 8 + 8 * 4


def test_a_failure_ahead_is_nobodys_and_one_that_is_waited_for_is_the_trials() -> None:
    replies = iter([write_reply({"x": 1}), ModelError("down"), write_reply({"x": 2})])
    model = ScriptedModel(lambda _: next(replies, ModelError("down for good")))
    study = make_study(model, prefetch=1)

    def patient(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number == 1:
            wait_for(lambda: len(model.calls) == 2 and not threads())
        return value

    study.optimize(patient, n_trials=4)
    sources = [told(t, "source") for t in study.trials]
    assert sources == ["user", "model", "model", "fallback"]
    assert told(study.trials[3], "error") == "down for good"


def test_what_a_users_model_raises_ends_the_trial_that_waits_for_it() -> None:
    def fail(messages: Sequence[Message]) -> str:
        raise ZeroDivisionError("a bug")

    study = make_study(fail, prefetch=2)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        study.optimize(objective, n_trials=3)
    study = make_study(ScriptedModel(lambda _: ModelSetupError("wrong key")), prefetch=2)
    with pytest.raises(ModelSetupError, match="wrong key"):
        study.optimize(objective, n_trials=3)


def test_values_of_the_user_are_asked_for_by_themselves() -> None:
    model = ScriptedModel(lambda m: write_reply({"y": 0.5}) if '"x"' not in m[0].content else "?")

    def both(trial: optuna.Trial) -> float:
        return objective(trial) + trial.suggest_float("y", 0, 1)

    study = optuna.create_study(sampler=LLMSampler(model=model, prefetch=1))
    study.enqueue_trial({"x": 0, "y": 0})
    study.enqueue_trial({"x": 1})
    study.optimize(both, n_trials=2)
    assert study.trials[1].params == {"x": 1, "y": 0.5}


def test_the_pool_is_left_out_of_pickles_and_copies() -> None:
    study = make_study("offline", prefetch=2, proposals_per_call=2, max_concurrent_calls=1)
    study.optimize(objective, n_trials=3)
    copy = pickle.loads(pickle.dumps(study))
    copy.optimize(objective, n_trials=3)
    assert {t.state for t in copy.trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize(
    ("name", "value"), [("prefetch", -1), ("proposals_per_call", 0), ("max_concurrent_calls", 0)]
)
def test_a_number_out_of_range_is_named(name: str, value: int) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be . or more: {value}"):
        LLMSampler(model="offline", **arguments)


class Silence:
    """A server that answers the first call and is silent from then on."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.n_requests = 0
        self.unanswered: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            self._answer_first(connection)
        self.unanswered.discard(connection)

    def _answer_first(self, connection: socket.socket) -> None:
        received = b""
        while data := connection.recv(65536):
            received += data
            if not received.endswith(b"}"):
                continue
            received = b""
            self.n_requests += 1
            self.unanswered.add(connection)
            if self.n_requests == 1:
                text = write_reply({"x": 1}).replace('"', '\\"').replace("\n", "\\n")
                body = b'{"model": "m", "choices": [{"message": {"content": "%s"}}]}'
                body = body.replace(b"%s", text.encode())
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                connection.sendall(body)
                self.unanswered.remove(connection)


def end_by_stop(study: optuna.Study) -> None:
    study.optimize(lambda t: (objective(t), study.stop() if t.number else 0)[0], n_trials=9)


def end_by_count(study: optuna.Study) -> None:
    study.optimize(objective, n_trials=2)


def end_by_exception(study: optuna.Study) -> None:
    with pytest.raises(ZeroDivisionError):
        study.optimize(lambda t: objective(t) / (t.number < 1), n_trials=9)


def end_by_interrupt(study: optuna.Study) -> None:
    def interrupted(trial: optuna.Trial) -> float:
        if trial.number == 2:
            raise AssertionError("It has no values.")
        if trial.number == 1:
            threading.Thread(target=interrupt).start()
        return objective(trial)

    def interrupt() -> None:
        # Trial 1 has got its values by then, so it is trial 2 that waits.
        prefetcher = study.sampler._sessions.get(study)._ahead._prefetcher  # type: ignore[attr-defined]
        wait_for(lambda: len(study.get_trials(deepcopy=False)) == 3 and prefetcher.n_waiting)
        # To this thread, so that it does not wake the one that waits.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        study.optimize(lambda t: objective(t) if t.number != 1 else interrupted(t), n_trials=9)
    assert study.trials[2].state == TrialState.FAIL


@pytest.mark.parametrize("end", [end_by_stop, end_by_count, end_by_exception, end_by_interrupt])
def test_however_a_study_ends_no_call_runs_on(end: Callable[[optuna.Study], None]) -> None:
    server = Silence()
    study = make_study(OpenAIModel("m", base_url=server.url), prefetch=3)
    end(study)
    wait_for(lambda: not threads())
    wait_for(lambda: not server.unanswered)


@pytest.mark.slow
def test_a_process_ends_though_calls_are_under_way() -> None:
    server = Silence()
    code = f"""
import optuna
from optuna_llm import LLMSampler, OpenAIModel
model = OpenAIModel("m", base_url={server.url!r})
study = optuna.create_study(sampler=LLMSampler(model=model, prefetch=3))
study.enqueue_trial({{"x": 0}})
study.optimize(lambda t: t.suggest_int("x", 0, 1000), n_trials=2)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    wait_for(lambda: not server.unanswered)


def test_a_model_error_ahead_of_a_text_fails_its_trial_only() -> None:
    replies = iter(
        [write_reply(texts={"code": "b"}), "?", "?", "?", write_reply(texts={"code": "c"})]
    )
    model = ScriptedModel(lambda _: next(replies))
    study = make_study(model, proposals_per_call=2)
    study.optimize(lambda t: len(suggest_text(t, "code", "a")), n_trials=4, catch=LLMError)
    states = [t.state for t in study.trials]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, KeyboardInterrupt])
def test_whatever_a_model_raises_in_the_background_reaches_the_trial_that_waits(
    error: type[BaseException],
) -> None:
    def fail(messages: Sequence[Message]) -> str:
        raise error

    study = make_study(fail, prefetch=2)
    study.optimize(objective, n_trials=1)
    with pytest.raises(error):
        study.optimize(objective, n_trials=1)


def test_calls_that_no_trial_has_used_are_counted_in_the_study() -> None:
    def patient(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number:
            wait_for(lambda: len(model.prompts) == trial.number + 2 and not threads())
        return value

    model = Counter()
    study = make_study(model, prefetch=2)
    study.optimize(patient, n_trials=4)
    wait_for(lambda: "unclaimed" in usage(study).by_source)
    spent = usage(study)
    assert spent.by_source["unclaimed"].calls == 2
    assert spent.prompt_tokens == 500
    assert spent.by_model["counter"].calls == 5
    # A trial that uses one of them later pays for it, and nothing is counted twice.
    study.optimize(objective, n_trials=1)
    wait_for(lambda: usage(study).calls == len(model.prompts))


def test_calls_that_were_cancelled_are_counted_in_the_study() -> None:
    gate = threading.Event()
    model = Counter(gate=lambda: len(model.prompts) > 1 and gate.wait(60))
    study = make_study(model, prefetch=1)
    study.optimize(objective, n_trials=2)
    wait_for(lambda: usage(study).calls == 2)
    gate.set()
    assert usage(study).by_source["unclaimed"].calls == 1
    assert usage(study).prompt_tokens == 100


@pytest.mark.slow
def test_a_process_that_ends_stores_what_its_unused_calls_have_cost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    code = f"""
import optuna
from optuna_llm import LLMSampler
from optuna_llm.testing import write_reply
numbers = iter(range(1, 1000))
sampler = LLMSampler(model=lambda _: write_reply({{"x": next(numbers)}}), prefetch=2)
study = optuna.create_study(storage={url!r}, study_name="s", sampler=sampler)
study.optimize(lambda t: t.suggest_int("x", 0, 1000), n_trials=3)
print(next(numbers) - 1)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    calls = usage(optuna.load_study(study_name="s", storage=url)).calls
    # A call that began while the number was printed is counted too.
    assert int(run.stdout) <= calls <= int(run.stdout) + 2


def test_a_forked_child_asks_for_itself() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("There is no fork here.")
    model = Counter()
    study = make_study(model, prefetch=2)
    study.optimize(objective, n_trials=3)
    child = multiprocessing.get_context("fork").Process(
        target=study.optimize, args=[objective], kwargs={"n_trials": 3}
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_a_trial_that_waits_while_calls_are_cancelled_asks_again() -> None:
    # The timer of an idle study may go off just as a trial begins.
    asked: list[int] = []
    prefetcher = Prefetcher(ahead=1, per_call=1, max_calls=1)

    def ask() -> Outcome:
        asked.append(1)
        cancellation = current()
        if len(asked) == 1:
            wait_for(lambda: cancellation.is_cancelled)
        return Outcome(Proposal({"x": 1.0}, {}))

    taken: list[Outcome] = []
    trial = threading.Thread(target=lambda: taken.append(prefetcher.take(ask)))
    trial.start()
    wait_for(lambda: asked)
    prefetcher.close()
    trial.join(60)
    assert taken
    prefetcher.close()
