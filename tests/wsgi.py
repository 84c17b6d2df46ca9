"""Requests to a WSGI application in this process."""

from __future__ import annotations

from typing import Any
from wsgiref.util import setup_testing_defaults


def fetch(
    app: Any, path: str, host: str | None = "localhost", *, query: str = ""
) -> tuple[str, str]:
    """Status and body of the application's answer to a GET request."""
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": query}
    setup_testing_defaults(environ)
    environ["HTTP_HOST"] = host
    if host is None:
        del environ["HTTP_HOST"]
    begun: list[Any] = []
    body: bytes = b"".join(app(environ, lambda *args: begun.append(args)))
    return begun[-1][0], body.decode()
