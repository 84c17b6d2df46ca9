"""Secrets that a server repeats get neither into errors, logs and trials nor into pickles."""

from __future__ import annotations

from contextlib import suppress
import json
import pickle
import threading
import traceback
from typing import Any
from urllib.parse import quote

import openai
import optuna
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request
from werkzeug import Response

from optuna_llm import Completion
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelSetupError
from optuna_llm import OpenAIModel


MESSAGES = (Message("system", "Be brief."), Message("user", "Hello?"))
PATH = "/v1/chat/completions"
HI = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
SECRET = "sk-abcdefghijklmnop"


def ask(model: OpenAIModel) -> Completion:
    return model.complete(MESSAGES)


AZURE = {"api_version": "2024-10-21", "azure_deployment": "d"}
BASIC = "dXNAZXItbmFtZTpwYXNzL3dvcmQ="
LOGIN = "us%40er-name:pass%2Fword"
WAYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "key": ({"api_key": SECRET}, [SECRET]),
    "login in the address": (
        {"login": LOGIN},
        ["us@er-name", "pass/word", "pass%2Fword", BASIC],
    ),
    "token in the address": ({"query": "token=to%2Bken-1234"}, ["to+ken-1234", "to%2Bken-1234"]),
    "headers": (
        {"extra_headers": {"X-Api-Key": "header-secret", "Authorization": "Token abc-def-ghi"}},
        ["header-secret", "abc-def-ghi"],
    ),
    "query": ({"extra_query": {"key": "query-secret"}}, ["query-secret"]),
    "Azure's key": ({"azure": {"api_key": SECRET}}, [SECRET]),
    "Azure's token": ({"azure": {"azure_ad_token": "azure-token-1"}}, ["azure-token-1"]),
    "Azure's function": (
        {"azure": {"azure_ad_token_provider": lambda: "azure-token-2"}},
        ["azure-token-2"],
    ),
    "a client's headers": (
        {"openai": {"api_key": SECRET, "default_headers": {"X-Token": "client-secret"}}},
        [SECRET, "client-secret"],
    ),
}


def make_model(url: str, way: dict[str, Any]) -> OpenAIModel:
    way = dict(way)
    if "azure" in way:
        client = openai.AzureOpenAI(azure_endpoint=url, **AZURE, **way["azure"])
        return OpenAIModel("m", client=client, patience=0)
    if "openai" in way:
        client = openai.OpenAI(base_url=f"{url}/v1", **way["openai"])
        return OpenAIModel("m", client=client, patience=0)
    if "login" in way:
        url = url.replace("://", f"://{way.pop('login')}@")
    query = way.pop("query", "")
    return OpenAIModel("m", base_url=f"{url}/v1" + (query and f"?{query}"), patience=0, **way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [200, 401, 503])
def test_no_secret_that_the_server_repeats_gets_out(
    way: str, status: int, httpserver: HTTPServer, logs: pytest.LogCaptureFixture
) -> None:
    def repeat(request: Request) -> Response:
        parts = [request.headers, request.url, quote(str(request.headers)), secrets]
        said = f"You sent {parts[len(httpserver.log) % 4]}"
        body: Any = {"error": {"message": said}}
        if status == 200:
            body = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        return Response(json.dumps(body), status=status, mimetype="application/json")

    arguments, secrets = WAYS[way]
    httpserver.expect_request("").respond_with_handler(repeat)
    model = make_model(httpserver.url_for("").rstrip("/"), arguments)
    told = [repr(model)]
    study = optuna.create_study(sampler=LLMSampler(model=model, max_reply_retries=0))
    for _ in range(4):
        try:
            told.append(ask(model).text)
        except LLMError as error:
            told += [str(error), repr(error), traceback.format_exc()]
    with suppress(LLMError):
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=2)
    told += [record.getMessage() for record in logs.records if record.name != "werkzeug"]
    told += [str(vars(trial)) for trial in study.trials]
    assert any("You sent" in text for text in told)
    for secret in secrets:
        assert not any(secret in text for text in told)


@pytest.mark.parametrize("way", [way for way in WAYS if not way.startswith(("Azure", "a client"))])
def test_no_secret_is_pickled(way: str, httpserver: HTTPServer) -> None:
    arguments, secrets = WAYS[way]
    httpserver.expect_request(PATH).respond_with_json(HI)
    model = make_model(httpserver.url_for("").rstrip("/"), arguments)
    pickled = pickle.dumps(model)
    for secret in secrets:
        assert secret.encode() not in pickled
    copy = pickle.loads(pickled)
    if way in ("headers", "query"):
        with pytest.raises(ModelSetupError, match="was pickled without"):
            ask(copy)
    else:
        assert ask(copy).text == "Hi"


def test_a_login_of_the_environment_is_found_again(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = httpserver.url_for("/v1").replace("://", f"://{LOGIN}@")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    header = {"Authorization": f"Basic {BASIC}"}
    httpserver.expect_request(PATH, headers=header).respond_with_json(HI)
    model = OpenAIModel("m")
    assert ask(model).text == ask(pickle.loads(pickle.dumps(model))).text == "Hi"


def test_a_secret_in_a_lasting_connection_is_known_from_every_thread(
    httpserver: HTTPServer,
) -> None:
    def repeat(request: Request) -> Response:
        body = {"error": {"message": f"You sent {request.headers['X-Token']}"}}
        return Response(json.dumps(body), status=400, mimetype="application/json")

    httpserver.expect_request(PATH).respond_with_handler(repeat)
    url = httpserver.url_for("/v1")
    model = OpenAIModel("m", base_url=url, extra_headers={"X-Token": "secret-header"})
    said: list[str] = []

    def fail() -> None:
        with pytest.raises(ModelSetupError) as caught:
            ask(model)
        said.append(str(caught.value))

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 4
    assert all("You sent ***" in text for text in said)
