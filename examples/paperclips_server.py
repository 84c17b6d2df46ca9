"""The paperclip factory: a local server that counts the clips it is asked to make."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from itertools import count
import threading
import time


SECONDS_PER_CLIP = 0.08


class Factory(ThreadingHTTPServer):
    """Makes one clip per POST request, all requests in parallel.

    Attributes:
        made: How many clips it has made.
        url: Its address.
    """

    daemon_threads = True
    request_queue_size = 1_000

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.made = 0
        self._numbers = count(1)

    def make_clip(self) -> None:
        """Spend the time that a clip takes, then count it."""
        time.sleep(SECONDS_PER_CLIP)
        self.made = max(self.made, next(self._numbers))


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Make one clip."""
        self.server.make_clip()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def open_factory() -> Iterator[Factory]:
    """A factory that runs until the end of the block."""
    with Factory() as factory:
        threading.Thread(target=factory.serve_forever, args=(0.05,), daemon=True).start()
        yield factory
        factory.shutdown()


if __name__ == "__main__":
    with open_factory() as factory:
        print(f"POST to {factory.url}; Ctrl+C ends it.")
        threading.Event().wait()
