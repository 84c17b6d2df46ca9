"""Models that a process has used before it forks: every reply belongs to its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import pickle
import random
import threading
from typing import Any

from fault_server import FaultServer
from fault_server import serve_faults
from fault_server import WIRE
from forking import FORK_MARKS
from forking import run_forked
import openai
import pytest

from optuna_llm import Completion
from optuna_llm import LLMError
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import OpenAIModel


pytestmark = FORK_MARKS

# Those that pass at once, so that the test is short.
FAULTS = [fault for fault in WIRE if fault not in ("trickles", "is silent")]


class EchoModel:
    def complete(self, messages: Sequence[Message]) -> Completion:
        return Completion(messages[1].content)


def ask(model: OpenAIModel, nonce: str) -> bool:
    """Whether the reply, if there is one, is that to the prompt."""
    prompt = f"{nonce}-{random.random()}"
    try:
        return model.complete([Message("system", "Echo."), Message("user", prompt)]).text == prompt
    except LLMError:
        return True


def ask_in_threads(model: OpenAIModel, nonce: str, n_calls: int) -> list[bool]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda i: ask(model, f"{nonce}-{i}"), range(n_calls)))


@pytest.mark.slow
def test_children_forked_under_load_read_only_replies_to_their_own_prompts() -> None:
    rng = random.Random(0)
    plan = lambda _: rng.choice(FAULTS) if rng.random() < 0.3 else None  # noqa: E731
    with serve_faults(plan) as server:
        server.model = EchoModel()
        model = OpenAIModel("m", base_url=server.url, timeout=5, patience=3)
        over = threading.Event()
        parents: list[bool] = []

        def keep_asking() -> None:
            while not over.is_set():
                parents.append(ask(model, "parent"))

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        children = run_forked(lambda i: ask_in_threads(model, f"child-{i}", 30))
        over.set()
        for thread in threads:
            thread.join()
    assert len(parents) > 4
    assert all(parents)
    assert children == [[True] * 30] * 4


def make_own_client(server: FaultServer) -> Any:
    return openai.OpenAI(api_key="x", base_url=server.url)


@pytest.mark.parametrize(
    "way",
    [
        "address",
        pytest.param("client", marks=pytest.mark.slow),
        pytest.param("function", marks=pytest.mark.slow),
    ],
)
def test_a_child_opens_connections_of_its_own(way: str) -> None:
    with serve_faults(lambda _: None) as server:
        server.model = EchoModel()
        arguments: dict[str, Any] = {
            "address": {"base_url": server.url},
            "client": {"client": make_own_client(server)},
            "function": {"client": lambda: make_own_client(server)},
        }[way]
        model = OpenAIModel("m", **arguments)
        assert ask(model, "before")
        (port,) = server.ports
        assert run_forked(lambda i: ask_in_threads(model, f"child-{i}", 8)) == [[True] * 8] * 4
        assert server.ports[port] == 1
        assert len(server.ports) > 4
        # The parent's own connection is as good as before.
        assert ask(model, "after")
        assert server.ports[port] == 2


def test_a_client_with_connections_that_cannot_be_remade_is_refused_in_a_child() -> None:
    def work(_: int) -> str:
        try:
            model.complete([Message("system", "Echo."), Message("user", "Hi")])
        except ModelSetupError as error:
            return str(error)
        return ""

    with serve_faults(lambda _: None) as server:
        server.model = EchoModel()
        http_client = openai.DefaultHttpxClient()
        client = openai.OpenAI(api_key="x", base_url=server.url, http_client=http_client)
        model = OpenAIModel("m", client=client)
        assert ask(model, "before")
        assert all("a function that makes one" in said for said in run_forked(work, 2))


def make_local_client() -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-in-the-function", base_url="http://localhost:9/v1")


def test_a_model_whose_client_a_function_makes_can_be_pickled() -> None:
    model = OpenAIModel("m", client=make_local_client, patience=0)
    pickled = pickle.dumps(model)
    assert b"sk-in-the-function" not in pickled
    with pytest.raises(ModelError, match="No response from localhost"):
        ask_once(pickle.loads(pickled))


def ask_once(model: OpenAIModel) -> Completion:
    return model.complete([Message("system", "Echo."), Message("user", "Hi")])
