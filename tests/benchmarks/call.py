"""What a healthy call costs beside the bare openai client, to a server on this machine.

Prints milliseconds per call, median. Run by hand:

    python tests/benchmarks/call.py
"""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import json
import statistics
import threading
import time

import openai

from optuna_llm import Message
from optuna_llm import OpenAIModel


REPEATS = 500
MESSAGES = (Message("system", "s" * 2_000), Message("user", "u" * 20_000))
REPLY = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "reply " * 500},
            }
        ],
        "usage": {"prompt_tokens": 5_500, "completion_tokens": 500, "total_tokens": 6_000},
    }
).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without waiting for more to send: that is what would be measured.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(REPLY)))
        self.end_headers()
        self.wfile.write(REPLY)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


def time_call(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1_000


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        client = openai.OpenAI(api_key="x", base_url=url)
        model = OpenAIModel("m", base_url=url)
        messages = [vars(message) for message in MESSAGES]

        def call_bare() -> object:
            return client.chat.completions.create(model="m", messages=messages)

        def call_ours() -> object:
            return model.complete(MESSAGES)

        # In turn, so that what else the machine does meets both alike.
        pairs = [(time_call(call_bare), time_call(call_ours)) for _ in range(REPEATS)]
        server.shutdown()
    bare, ours = (statistics.median(times) for times in zip(*pairs[20:], strict=True))
    print(f"bare client {bare:.2f} ms, OpenAIModel {ours:.2f} ms: {ours - bare:+.2f} ms")


if __name__ == "__main__":
    main()
