"""A small server for optuna-dashboard and the study pages."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import os
from pathlib import Path
import secrets
import socket
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import make_server
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import WSGIServer

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage
import optuna_dashboard

from optuna_llm._logging import get_logger
from optuna_llm._study.usage import import_genai_prices
from optuna_llm._study.usage import Prices
from optuna_llm.dashboard._attributes import abridge_attributes
from optuna_llm.dashboard._hosts import check_host
from optuna_llm.dashboard._hosts import find_hosts
from optuna_llm.dashboard._pages import StudyPages


if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

_logger = get_logger(__name__)


def run(
    storage: str | BaseStorage,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    artifact_store: str | Path | ArtifactStore | None = None,
    allowed_hosts: Iterable[str] = (),
    prices: Prices | Mapping[str, Prices] | None = None,
    log_file: str | os.PathLike[str] | None = None,
) -> None:
    """Serve optuna-dashboard and a page for each study, until interrupted.

    .. code-block:: python

        from optuna_llm.dashboard import run

        run("sqlite:///study.db")

    The study page shows what was tried, why, and what came of it, and follows the study while it
    runs. It is at ``/llm/studies/<id>``; the notes in optuna-dashboard link to it.

    From there, a study can also be steered: enqueue a trial with edited values, mark a trial, or
    stop the workers. That takes the token that is logged when the server starts.

    Given a storage rather than its URL, the dashboard caches finished trials: with 10,000 trials,
    a page takes a tenth of the time. Its pages show an attribute on a single line, so long ones
    are abridged there; downloads contain them in full. The scores of cases, which it would draw as
    learning curves, are shown by the study page and the notes instead.

    Requests must be addressed to the host that it listens at or to this machine. Requests to
    other names are refused, so that no website can reach the dashboard through the browser of a
    visitor (DNS rebinding).

    Args:
        storage: The storage or its URL.
        host: The name or address to listen at. Whoever can reach it can change studies.
        port: The port to listen at.
        artifact_store: The studies' artifacts, as a directory or an artifact store of Optuna.
        allowed_hosts: Further names that users reach it by, such as that of a proxy.
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        log_file: What samplers with ``log_file=`` wrote, or the record of a ``ReplayModel``: the
            page then shows what the model was asked for a trial and what it replied. Whoever can
            reach the server can read that.

    Raises:
        OSError: If the port is taken.
        TypeError: If ``allowed_hosts`` is a single string.
        ValueError: If ``allowed_hosts`` contains something else than names and addresses.
    """
    hosts = find_hosts(host, allowed_hosts)
    if isinstance(artifact_store, str | Path):
        artifact_store = FileSystemArtifactStore(artifact_store)
    storage = optuna.storages.get_storage(storage)
    app = abridge_attributes(optuna_dashboard.wsgi(storage, artifact_store), storage)
    token = secrets.token_urlsafe(12)
    log = None if log_file is None else Path(log_file)
    app = check_host(StudyPages(app, storage, prices, token, log), host, hosts)
    server_class = _IPv6Server if ":" in host else _Server
    with make_server(host, port, app, server_class, _Handler) as server:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}"
        _logger.info(
            "The dashboard is at %s, a study's page at %s/llm/studies/<id> (interrupt to stop).",
            address,
            address,
        )
        _logger.info("To steer a study from its page, enter this token there: %s", token)
        with contextlib.suppress(ImportError):
            # Imported now: it takes seconds, which the first visitor would wait for.
            import_genai_prices()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: an open page polls every few seconds."""
