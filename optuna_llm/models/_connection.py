"""Connections to a server: bounded in what they read, and cut off from another thread."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import functools
import os
import socket
import ssl
import sys
import threading
from typing import Any
from typing import TYPE_CHECKING
import zlib

from optuna_llm._errors import ReplyError
from optuna_llm._processes import current_process
from optuna_llm._processes import LAZY_IMPORTS


if TYPE_CHECKING:
    import openai

CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

_MAX_ERROR_BYTES = 64_000
"""Of a longer error body nothing more is read."""

_LONGEST_CONNECT = 5.0
"""Seconds for connecting, as the openai client has it by default; a reply may take longer."""

_PIECE = 65_536
"""Bytes that are decompressed at a time."""


class BrokenBodyError(Exception):
    """A body that cannot be decompressed."""


class Connection:
    """A client for one call at a time.

    Neither the client nor its HTTP library can end a request that another thread waits in, and
    closing the socket does not wake that thread: so the socket itself is shut down. The library
    tells of its sockets through its ``trace`` extension.

    Args:
        make_client: Makes the client, given the HTTP client that it is to use.
        through: The HTTP client of the user's that all requests are to pass through; None to
            connect to the server from here.
        without_proxy: A host that is reached without the environment's proxies.

    Attributes:
        client: The client.
        request: The HTTP request that was sent last; None before the first.
        headers: Those of the response to it, by their names in lower case; empty before it.
        is_closed: Whether it was cut off.
    """

    def __init__(
        self,
        make_client: Callable[[Any], openai.OpenAI],
        *,
        through: Any = None,
        without_proxy: str | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._is_borrowed = through is not None
        self.request: Any = None
        self.headers: Mapping[str, str] = {}
        self.is_closed = False
        self.client = make_client(self._open_http_client(through, without_proxy))
        # The client imports its resources when they are first asked for.
        _ = self.client.chat.completions, self.client.responses

    def close(self) -> None:
        """End the request in flight; the connection cannot be used again."""
        with self._lock:
            self.is_closed = True
            for opened in self._sockets:
                _shut_down(opened)

    def disown(self) -> None:
        """Close this process's copies of the sockets; the parent process keeps its own."""
        for opened in self._sockets:
            opened.close()

    def _open_http_client(self, through: Any, without_proxy: str | None) -> Any:
        library = find_http_library(through)
        # Redirects are the model's to judge: they would take prompt and headers elsewhere.
        return library.Client(
            follow_redirects=False,
            verify=_load_certificates(
                current_process(), library, *map(os.environ.get, CERTIFICATE_VARIABLES)
            ),
            mounts=None if without_proxy is None else {_match_host(without_proxy): None},
            transport=None if through is None else _make_transport(library, through),
            # What can be decompressed in bounded pieces.
            headers={"Accept-Encoding": "gzip"},
            event_hooks={
                "request": [self._trace],
                "response": [self._note_headers, _bound_body(library)],
            },
        )

    def _trace(self, request: Any) -> None:
        self.request, self.headers = request, {}
        timeouts = request.extensions["timeout"]
        timeouts["connect"] = min(timeouts["connect"], _LONGEST_CONNECT)
        if not self._is_borrowed:
            request.extensions["trace"] = self._note_socket

    def _note_headers(self, response: Any) -> None:
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        find = getattr(info.get("return_value"), "get_extra_info", None)
        if find is None:
            return
        opened: socket.socket = find("socket")
        with self._lock:
            if self.is_closed:
                _shut_down(opened)
            # A connection that was dropped by the server is followed by another.
            self._sockets = [s for s in self._sockets if s.fileno() >= 0] + [opened]


class ConnectionPool:
    """Idle connections of one process; a forked child begins with none.

    A child that used its parent's sockets would read replies to another process's prompts.

    Args:
        connect: Opens a connection.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._process = current_process()
        self._idle: list[Connection] = []

    def take(self) -> Connection:
        """A connection that nobody else uses."""
        if self._process != current_process():
            inherited, self._idle = self._idle, []
            self._process = current_process()
            for connection in inherited:
                connection.disown()
        try:
            # No lock, which another thread could hold at a fork: popping is atomic.
            return self._idle.pop()
        except IndexError:
            with LAZY_IMPORTS:
                return self._connect()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for a later call, unless it was cut off."""
        if not connection.is_closed:
            self._idle.append(connection)


def find_http_library(client: Any = None) -> Any:
    """The module of an HTTP client, by default of the one that the openai client uses.

    It is httpx or, from version 3 of the openai client on, httpx2.
    """
    import openai

    kind: type = openai.DefaultHttpxClient if client is None else type(client)
    roots = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return sys.modules[next(root for root in roots if root in ("httpx", "httpx2"))]


@functools.lru_cache(maxsize=4)
def _load_certificates(process: object, library: Any, *variables: str | None) -> ssl.SSLContext:
    """The trusted certificates, which take 20 ms to load, once for each of its arguments."""
    context: ssl.SSLContext = library.create_ssl_context()
    return context


def _match_host(host: str) -> str:
    return f"all://[{host}]" if ":" in host else f"all://{host}"


def _make_transport(library: Any, client: Any) -> Any:
    """A transport that sends through another HTTP client, with its proxies, hooks and login."""

    class Transport(library.BaseTransport):  # type: ignore[misc]
        def handle_request(self, request: Any) -> Any:
            return client.send(request, stream=True, follow_redirects=False)

    return Transport()


def _bound_body(library: Any) -> Callable[[Any], None]:
    """A hook that makes a response's body come decompressed, in bounded pieces."""

    class Body(library.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any, coding: str, limit: int | None) -> None:
            self._stream = stream
            self._coding = coding
            self._limit = limit

        def __iter__(self) -> Iterator[bytes]:
            left = self._limit
            for piece in _decompress(self._stream, self._coding):
                yield piece if left is None else piece[:left]
                if left is not None:
                    left -= len(piece)
                    if left <= 0:
                        return

        def close(self) -> None:
            self._stream.close()

    def bound(response: Any) -> None:
        coding = response.headers.pop("content-encoding", "identity").strip().lower()
        limit = None if response.status_code < 300 else _MAX_ERROR_BYTES
        response.stream = Body(response.stream, coding, limit)

    return bound


def _decompress(chunks: Iterable[bytes], coding: str) -> Iterator[bytes]:
    """The chunks' content, in pieces of bounded size whatever they expand to."""
    if coding in ("", "identity"):
        yield from chunks
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise ReplyError(f"the server compressed the reply as {coding[:20]!r}, unasked.")
    # 32: the header says whether it is gzip or zlib.
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for chunk in chunks:
            while chunk:
                yield decompressor.decompress(chunk, _PIECE)
                chunk = decompressor.unconsumed_tail
        yield decompressor.flush()
    except zlib.error as error:
        raise BrokenBodyError(f"the body is not {coding}: {error}") from None


def _shut_down(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # The method of the bare socket: TLS would first take its leave of the other side.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
