"""A connection to a server that can be hung up from another thread."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import socket
import threading
from typing import Any
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import openai


class Line:
    """A client for one call at a time.

    Neither the client nor its HTTP library can end a request that another thread waits in, and
    a socket that is closed meanwhile stays waited for: so the socket itself is shut down. The
    library tells of its sockets through its ``trace`` extension.

    Args:
        api_key: As the client takes it.
        base_url: Likewise.

    Attributes:
        client: The client.
        is_down: Whether it was hung up.
    """

    def __init__(self, api_key: str, base_url: str | None) -> None:
        import openai

        # From version 3 on the client speaks through another library.
        make = getattr(openai, "DefaultHttpx2Client", None) or openai.DefaultHttpxClient
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.is_down = False
        self.client: openai.OpenAI = openai.OpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,
            http_client=make(event_hooks={"request": [self._follow]}),
        )

    def hang_up(self) -> None:
        """End the request that is under way; the line cannot be used again."""
        with self._lock:
            self.is_down = True
            for opened in self._sockets:
                _shut_down(opened)

    def _follow(self, request: Any) -> None:
        request.extensions["trace"] = self._note

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        find = getattr(info.get("return_value"), "get_extra_info", None)
        if find is None:
            return
        opened: socket.socket = find("socket")
        with self._lock:
            if self.is_down:
                _shut_down(opened)
            # A connection that was dropped by the server is followed by another.
            self._sockets = [s for s in self._sockets if s.fileno() >= 0] + [opened]


def _shut_down(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # The method of the bare socket: TLS would first take its leave of the other side.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
