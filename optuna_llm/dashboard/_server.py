"""A small server for the dashboard, that sends long attributes cut short.

The dashboard shows an attribute on one line, or in a cell of a table without a limit: a program of
a few kB makes pages that cannot be read, and all of them are sent with each page.
"""

from __future__ import annotations

from collections.abc import Iterable
import json
import re
from socketserver import ThreadingMixIn
from typing import Any
from typing import TYPE_CHECKING
from wsgiref.simple_server import make_server
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import WSGIServer

from optuna_llm._logging import get_logger


if TYPE_CHECKING:
    from wsgiref.types import StartResponse
    from wsgiref.types import WSGIApplication
    from wsgiref.types import WSGIEnvironment

_logger = get_logger(__name__)

_STUDY = re.compile(r"/api/studies/\d+/?")
_MAX_ATTRIBUTE = 100
_N_SHOWN = 60


def serve(app: WSGIApplication, host: str, port: int) -> None:
    """Serve an application until it is interrupted.

    Raises:
        OSError: If the port is taken.
    """
    with make_server(host, port, app, _Server, _Handler) as server:
        _logger.info("The dashboard is at http://%s:%d (interrupt to end it).", host, port)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: an open page asks every few seconds."""


def shorten_attributes(app: WSGIApplication) -> WSGIApplication:
    """The dashboard's application, with trials' long attributes cut in what pages are made of.

    What is downloaded, and what is stored, stays whole.
    """

    def shortened(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_study = _STUDY.fullmatch(environ.get("PATH_INFO", ""))
        if not is_study or environ.get("REQUEST_METHOD") != "GET":
            return app(environ, start_response)
        begun: list[Any] = []
        answer = app(environ, lambda *args: begun.append(args))  # type: ignore[arg-type]
        body = b"".join(answer)
        status, headers, *rest = begun[-1]
        if status.startswith("200"):
            body = _shorten(body)
            headers = [(k, v) for k, v in headers if k.lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers, *rest)
        return [body]

    return shortened


def _shorten(body: bytes) -> bytes:
    study = json.loads(body)
    for trial in [*study.get("trials", ()), *study.get("best_trials", ())]:
        for attribute in trial["user_attrs"]:
            value = attribute["value"]
            if len(value) > _MAX_ATTRIBUTE or "\n" in value.strip():
                attribute["value"] = f"{value[:_N_SHOWN]} [… {len(value):,} characters]"
    return json.dumps(study).encode()
