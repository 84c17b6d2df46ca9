"""Reaching a server: certificates, proxies, redirects, and what must not get out or in."""

from __future__ import annotations

from collections.abc import Iterator
import gzip
import json
from pathlib import Path
import resource
import ssl
import subprocess
from typing import Any
import zlib

import openai
import optuna
import pytest
from pytest_httpserver import HTTPServer

from optuna_llm import Completion
from optuna_llm import LLMError
from optuna_llm import LLMSampler
from optuna_llm import Message
from optuna_llm import ModelError
from optuna_llm import ModelSetupError
from optuna_llm import OpenAIModel
from optuna_llm import ReplyError


MESSAGES = (Message("system", "Be brief."), Message("user", "Hello?"))
PATH = "/v1/chat/completions"
HI = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
SECRET = "sk-abcdefghijklmnop"


def ask(model: OpenAIModel) -> Completion:
    return model.complete(MESSAGES)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that nobody has signed, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", folder / "key", "-out", folder / "certificate"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "certificate", folder / "key"


@pytest.fixture
def tls_server(certificate: tuple[Path, Path]) -> Iterator[HTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request(PATH).respond_with_json(HI)
        yield server


def test_a_certificate_that_is_not_trusted_ends_the_study_and_names_the_setting(
    tls_server: HTTPServer,
) -> None:
    model = OpenAIModel("m", base_url=tls_server.url_for("/v1"))
    study = optuna.create_study(sampler=LLMSampler(model=model))
    with pytest.raises(ModelSetupError, match=r"certificate is not trusted.*SSL_CERT_FILE"):
        study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=9)
    assert len(study.trials) == 2


def test_a_certificate_of_the_environment_is_trusted_and_connections_survive_its_cut(
    tls_server: HTTPServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    model = OpenAIModel("m", base_url=tls_server.url_for("/v1"))
    assert [ask(model).text for _ in range(3)] == ["Hi"] * 3


def test_https_to_a_server_without_tls_is_an_error_of_the_setup(httpserver: HTTPServer) -> None:
    url = httpserver.url_for("/v1").replace("http:", "https:")
    with pytest.raises(ModelSetupError, match="does not speak TLS: begin base_url with http://"):
        ask(OpenAIModel("m", base_url=url))


@pytest.mark.parametrize(
    ("variable", "value", "url"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:9", "http://192.0.2.1/v1"),
        ("all_proxy", "socks://127.0.0.1:9", "http://127.0.0.1/v1"),
        ("HTTP_PROXY", "ftp://127.0.0.1", "http://192.0.2.1/v1"),
        ("HTTPS_PROXY", "foo://user:pass-word@127.0.0.1", "https://192.0.2.1/v1"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "https://192.0.2.1/v1"),
    ],
)
def test_an_environment_that_no_client_can_be_made_of_is_named(
    variable: str, value: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ModelSetupError, match=variable) as caught:
        ask(OpenAIModel("m", base_url=url, api_key="x"))
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://localhost:abc/v1", "no valid host or port"),
        ("http://localhost:99999/v1", "no valid host or port"),
        ("http://bad host/v1", "no valid host"),
        (f"http://{'a' * 70}.org/v1", "no valid host"),
        ("ftp://localhost/v1", "must begin with http"),
        ("http:///v1", "name a host"),
    ],
)
@pytest.mark.parametrize("setting", ["base_url", "OPENAI_BASE_URL"])
def test_an_address_that_cannot_be_right_is_refused_at_once(
    url: str, says: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {}
    if setting == "base_url":
        arguments = {"base_url": url}
    else:
        monkeypatch.setenv(setting, url)
    with pytest.raises(ValueError, match=f"{setting}.*{says}|{says}"):
        OpenAIModel("m", api_key="x", **arguments)


def test_a_host_that_the_client_refuses_is_an_error_of_the_setup() -> None:
    with pytest.raises(ModelSetupError, match=r"base_url|No client"):
        ask(OpenAIModel("m", base_url="http://☃.☃/v1", api_key="x"))


def test_a_server_on_this_machine_is_reached_past_the_proxy(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    httpserver.expect_request(PATH).respond_with_json(HI)
    assert ask(OpenAIModel("m", base_url=httpserver.url_for("/v1"))).text == "Hi"


@pytest.mark.parametrize("status", [403, 407])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named(
    status: int, scheme: str, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("").respond_with_data("Ask your administrator", status=status)
    address = f"127.0.0.1:{httpserver.port}"
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:pass-word@{address}")
    with pytest.raises(ModelSetupError, match=rf"http://{address} \({scheme}_proxy\)") as caught:
        ask(OpenAIModel("m", base_url=f"{scheme}://192.0.2.1/v1", api_key="x"))
    assert "pass-word" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"through the proxy http://127\.0\.0\.1:9 \(HTTP_PROXY"):
        ask(OpenAIModel("m", base_url="http://192.0.2.1/v1", api_key="x", patience=0))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_within_a_host_is_followed_and_remembered(
    status: int, httpserver: HTTPServer
) -> None:
    headers = {"Location": "/api/v2/chat/completions"}
    httpserver.expect_request(PATH).respond_with_data("", status=status, headers=headers)
    httpserver.expect_request("/api/v2/chat/completions", method="POST").respond_with_json(HI)
    model = OpenAIModel("m", base_url=httpserver.url_for("/v1"))
    assert [ask(model).text, ask(model).text] == ["Hi", "Hi"]
    assert [request.path for request, _ in httpserver.log] == [
        PATH,
        "/api/v2/chat/completions",
        "/api/v2/chat/completions",
    ]
    assert model.adaptations == {"base_url": httpserver.url_for("/api/v2")}


@pytest.mark.parametrize("way", ["address", "client"])
@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:{port}/v1/chat/completions", "/login", "{same}"]
)
def test_no_redirect_takes_the_prompt_elsewhere(
    way: str, location: str, httpserver: HTTPServer
) -> None:
    with HTTPServer(host="127.0.0.1") as thief:
        thief.expect_request("").respond_with_json(HI)
        url = httpserver.url_for("/v1")
        location = location.format(port=thief.port, same=f"{url}/chat/completions")
        headers = {"Location": location}
        httpserver.expect_request(PATH).respond_with_data("", status=307, headers=headers)
        arguments: dict[str, Any] = {"base_url": url, "api_key": SECRET}
        if way == "client":
            arguments = {"client": openai.OpenAI(**arguments)}
        with pytest.raises(ModelSetupError, match="redirects to"):
            ask(OpenAIModel("m", **arguments))
        assert thief.log == []
    assert len(httpserver.log) == 1


@pytest.fixture(scope="module")
def bomb() -> bytes:
    start = b'{"choices": [{"message": {"content": "'
    return gzip.compress(start + b"x" * 100_000_000, compresslevel=1)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("way", ["address", "client"])
def test_a_body_that_expands_without_end_is_not_expanded(
    status: int, way: str, bomb: bytes, httpserver: HTTPServer
) -> None:
    assert len(bomb) < 1_000_000
    headers = {"Content-Encoding": "gzip"}
    httpserver.expect_request(PATH).respond_with_data(bomb, status=status, headers=headers)
    arguments: dict[str, Any] = {"base_url": httpserver.url_for("/v1"), "api_key": "x"}
    if way == "client":
        arguments = {"client": openai.OpenAI(**arguments)}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LLMError, match=r"longer than 1,000,000|answered 500"):
        ask(OpenAIModel("m", patience=0, **arguments))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


@pytest.mark.parametrize(
    ("coding", "compress"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
@pytest.mark.parametrize("status", [200, 503])
def test_compressed_replies_and_errors_are_read(
    coding: str, compress: Any, status: int, httpserver: HTTPServer
) -> None:
    body = compress(json.dumps(HI if status == 200 else {"error": "not now"}).encode())
    headers = {"Content-Encoding": coding}
    httpserver.expect_request(PATH).respond_with_data(body, status=status, headers=headers)
    model = OpenAIModel("m", base_url=httpserver.url_for("/v1"), patience=0)
    if status == 200:
        assert ask(model).text == "Hi"
    else:
        with pytest.raises(ModelError, match="answered 503: not now"):
            ask(model)


@pytest.mark.parametrize(
    ("body", "coding", "kind"),
    [(b"\x1f\x8bnonsense", "gzip", ModelError), (b"anything", "br", ReplyError)],
)
def test_a_body_that_cannot_be_decompressed_is_an_error(
    body: bytes, coding: str, kind: type[LLMError], httpserver: HTTPServer
) -> None:
    headers = {"Content-Encoding": coding}
    httpserver.expect_request(PATH).respond_with_data(body, headers=headers)
    with pytest.raises(kind):
        ask(OpenAIModel("m", base_url=httpserver.url_for("/v1"), patience=0))
