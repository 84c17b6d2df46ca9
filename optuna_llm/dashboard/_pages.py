"""Study pages beside optuna-dashboard."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import optuna
from optuna.storages import BaseStorage

from optuna_llm._logging import get_logger
from optuna_llm._page.data import PageData
from optuna_llm._page.document import read_asset
from optuna_llm._page.document import SERVED_POLICY
from optuna_llm._page.document import write_served_page
from optuna_llm._page.rows import write_json
from optuna_llm._study.usage import Prices
from optuna_llm.dashboard._steering import check_request
from optuna_llm.dashboard._steering import read_body
from optuna_llm.dashboard._steering import Refusal
from optuna_llm.dashboard._steering import steer


if TYPE_CHECKING:
    from wsgiref.types import StartResponse
    from wsgiref.types import WSGIApplication
    from wsgiref.types import WSGIEnvironment

_logger = get_logger(__name__)

_STUDY = re.compile(r"/llm/studies/(\d{1,18})(/[a-z]+(?:/\d{1,9})?)?")
_ASSETS = {
    "/llm/page.js": "text/javascript; charset=utf-8",
    "/llm/page.css": "text/css; charset=utf-8",
}
_MAX_AGE = 1.0
_MAX_KEPT = 16


class StudyPages:
    """The application, with a page for each study under ``/llm/studies/<id>``.

    Args:
        app: The application that answers all else.
        storage: The studies.
        prices: The models' prices.
        token: What a person must know to steer studies; empty if nobody may.
        log_file: Where the calls to the models were logged; None shows none.
    """

    def __init__(
        self,
        app: WSGIApplication,
        storage: BaseStorage,
        prices: Prices | Mapping[str, Prices] | None = None,
        token: str = "",
        log_file: Path | None = None,
    ) -> None:
        self._app = app
        self._token = token
        self._storage = storage
        self._prices = prices
        self._log_file = log_file
        self._kept: OrderedDict[int, PageData] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        path = environ.get("PATH_INFO", "")
        if not path.startswith("/llm/"):
            return self._app(environ, start_response)
        method = environ.get("REQUEST_METHOD")
        if method == "POST" and self._token:
            return self._steer(path, environ, start_response)
        if method != "GET":
            return _answer(start_response, "405 Method Not Allowed", "Only GET is allowed.\n")
        if path in _ASSETS:
            text = read_asset(path.rpartition("/")[2])
            return _answer(start_response, "200 OK", text, _ASSETS[path])
        try:
            return self._show(path, environ, start_response)
        except KeyError:
            return _answer(start_response, "404 Not Found", "There is no such study or trial.\n")

    def _show(
        self, path: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request for a study's page or data.

        Raises:
            KeyError: If there is no such study, trial or part.
        """
        found = _STUDY.fullmatch(path)
        if not found:
            raise KeyError(path)
        data = self._find(int(found[1]))
        part = found[2] or ""
        if not part:
            page = write_served_page("..")
            return _answer(start_response, "200 OK", page, "text/html; charset=utf-8")
        query = parse_qs(environ.get("QUERY_STRING", ""))
        kind, _, number = part[1:].partition("/")
        if kind == "data":
            changes = data.write_changes(query.get("since", [""])[0])
            if changes is None:
                return _answer(start_response, "204 No Content", "")
            return _answer_json(start_response, changes)
        if kind == "cases":
            return _answer_json(start_response, data.write_cases(query.get("since", [""])[0]))
        if kind == "search":
            return _answer_json(start_response, write_json(data.search(query["q"][0])))
        if kind == "trials" and number:
            return _answer_json(start_response, write_json(data.describe_trial(int(number))))
        if kind == "calls" and number:
            return _answer_json(start_response, _write_calls(data, int(number)))
        raise KeyError(part)

    def _steer(
        self, path: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Change a study, for who may."""
        found = _STUDY.fullmatch(path)
        try:
            check_request(environ, self._token)
            if not found or not found[2]:
                raise KeyError(path)
            name = self._storage.get_study_name_from_id(int(found[1]))
            study = optuna.load_study(study_name=name, storage=self._storage)
            done = steer(study, found[2][1:], read_body(environ))
        except KeyError:
            return _answer_json(
                start_response, '{"reason":"There is no such study."}', "404 Not Found"
            )
        except Refusal as refusal:
            reason = write_json({"reason": str(refusal)})
            return _answer_json(start_response, reason, "403 Forbidden")
        return _answer_json(start_response, write_json({"done": done}))

    def _find(self, study_id: int) -> PageData:
        """The data of a study.

        Raises:
            KeyError: If there is no study of this ID.
        """
        name = self._storage.get_study_name_from_id(study_id)
        with self._lock:
            if study_id not in self._kept:
                study = optuna.load_study(study_name=name, storage=self._storage)
                self._kept[study_id] = PageData(study, self._prices, _MAX_AGE, self._log_file)
            self._kept.move_to_end(study_id)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
            return self._kept[study_id]


def _write_calls(data: PageData, number: int) -> str:
    try:
        return write_json(data.describe_calls(number))
    except OSError as error:
        _logger.warning("The log of calls cannot be read: %s", error)
        return "[]"


def _answer_json(
    start_response: StartResponse, body: str, status: str = "200 OK"
) -> Iterable[bytes]:
    return _answer(start_response, status, body, "application/json")


def _answer(
    start_response: StartResponse, status: str, body: str, kind: str = "text/plain; charset=utf-8"
) -> Iterable[bytes]:
    content = body.encode("utf-8")
    headers = [
        ("Content-Type", kind),
        ("Content-Length", str(len(content))),
        ("Content-Security-Policy", SERVED_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),
    ]
    start_response(status, headers)
    return [content]
