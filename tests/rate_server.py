"""An OpenAI-compatible server that enforces a limit of tokens, over real HTTP."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import json
import random
import threading
import time
from typing import Any
from typing import Literal


CHARACTERS_PER_TOKEN = 3.2
"""Not the four that a client may guess."""


class Bucket:
    """Tokens that refill at an even pace."""

    def __init__(self, limit: float, minute: float) -> None:
        self._limit, self._minute = limit, minute
        self._left, self._at = limit, time.monotonic()

    def take(self, tokens: float) -> bool:
        now = time.monotonic()
        refilled = self._left + self._limit * (now - self._at) / self._minute
        self._left, self._at = min(self._limit, refilled), now
        if tokens > self._left:
            return False
        self._left -= tokens
        return True

    def tell(self) -> tuple[float, float]:
        """Tokens left, and seconds until it is full."""
        left = max(0.0, self._left)
        return left, self._minute * (self._limit - left) / self._limit


class SlidingWindow:
    """So many tokens in any minute."""

    def __init__(self, limit: float, minute: float) -> None:
        self._limit, self._minute = limit, minute
        self._taken: deque[tuple[float, float]] = deque()

    def _count(self, now: float) -> float:
        while self._taken and self._taken[0][0] <= now - self._minute:
            self._taken.popleft()
        return sum(tokens for _, tokens in self._taken)

    def take(self, tokens: float) -> bool:
        now = time.monotonic()
        if self._count(now) + tokens > self._limit:
            return False
        self._taken.append((now, tokens))
        return True

    def tell(self) -> tuple[float, float]:
        """Tokens left, and seconds until all of them are there."""
        now = time.monotonic()
        left = self._limit - self._count(now)
        return left, self._taken[-1][0] + self._minute - now if self._taken else 0.0


class RateServer(ThreadingHTTPServer):
    """Answers each request after a while, unless its tokens are above the limit.

    Args:
        limit: Tokens in a minute.
        minute: Seconds that its minute has.
        kind: How it enforces the limit.
        answer: Makes a reply of a prompt.
        seconds: How long an answer takes.
        reply_tokens: Tokens of a reply, on average; they are known to the server when it begins.
        tells: Whether its headers tell what is left.

    Attributes:
        n_answered: Requests that were answered.
        n_refused: Those refused.
        admitted: When each of those answered came, and its tokens.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        limit: float,
        minute: float,
        kind: Literal["bucket", "window"] = "bucket",
        *,
        answer: Callable[[str], str] = lambda prompt: "Good day.",
        seconds: float = 0.0,
        reply_tokens: int = 50,
        tells: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.limit = limit
        self.rule = (Bucket if kind == "bucket" else SlidingWindow)(limit, minute)
        self.answer, self.seconds, self.reply_tokens = answer, seconds, reply_tokens
        self.tells = tells
        self.n_answered = self.n_refused = 0
        self.admitted: list[tuple[float, int]] = []
        self.lock = threading.Lock()

    def admit(self, sent: int, received: int) -> tuple[bool, dict[str, str]]:
        """Whether a request is let in, and the headers of the response."""
        with self.lock:
            is_in = self.rule.take(sent + received)
            self.n_answered += is_in
            self.n_refused += not is_in
            if is_in:
                self.admitted.append((time.monotonic(), sent + received))
            left, seconds = self.rule.tell()
        if not self.tells:
            return is_in, {}
        return is_in, {
            "x-ratelimit-limit-tokens": f"{self.limit:.0f}",
            "x-ratelimit-remaining-tokens": f"{left:.0f}",
            "x-ratelimit-reset-tokens": f"{seconds * 1000:.0f}ms",
        }

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: RateServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = "".join(message["content"] for message in body["messages"])
        sent = int(len(prompt) / CHARACTERS_PER_TOKEN)
        received = random.randint(1, 2 * self.server.reply_tokens - 1)
        is_in, headers = self.server.admit(sent, received)
        if not is_in:
            self.respond(429, {"error": {"message": "Rate limit reached."}}, headers)
            return
        time.sleep(self.server.seconds * random.uniform(0.5, 1.5))
        message = {"role": "assistant", "content": self.server.answer(prompt)}
        usage = {"prompt_tokens": sent, "completion_tokens": received}
        choices = [{"message": message, "finish_reason": "stop"}]
        self.respond(200, {"model": "m", "choices": choices, "usage": usage}, headers)

    def respond(self, status: int, body: object, headers: dict[str, str]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serve_rate(limit: float, minute: float, *args: Any, **kwargs: Any) -> Iterator[RateServer]:
    with RateServer(limit, minute, *args, **kwargs) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
