"""The study page as HTML: loading its data from a server, or with all of it inside.

Neither has anything of a study in its HTML. The page gets JSON, from a server or from Base64, and
puts it into text nodes only. Its policy allows its own script and style, and nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import hashlib
from pathlib import Path
import time
import zlib

from optuna_llm._page.data import PageData
from optuna_llm._page.rows import write_json


_ASSETS = Path(__file__).with_name("assets")
_CHUNK = 50
"""Trials whose texts are unpacked together."""

_CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:"
SERVED_POLICY = (
    f"{_CLOSED}; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the served page."""

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath "
    "d='M2 13 6 8l3 2 5-7' fill='none' stroke='%233b6fd4' stroke-width='2'/%3E%3C/svg%3E"
)


@functools.cache
def read_asset(name: str) -> str:
    """A bundled file of the front end."""
    return (_ASSETS / name).read_text("utf-8")


def write_served_page(root: str) -> str:
    """The page that loads its data from the server.

    Args:
        root: The path of the assets, relative to the page.
    """
    head = (
        f'<link rel="stylesheet" href="{root}/page.css">\n'
        f'<script defer src="{root}/page.js"></script>'
    )
    return _write(head, "")


def write_file(data: PageData, calls_of: Sequence[int] = ()) -> str:
    """The page with all of a study inside: one file that needs no network.

    The texts are packed in pieces, so that a large study shows its charts before they are read.

    Args:
        data: The study.
        calls_of: Numbers of the trials of which it contains the calls, if there is a log of them.

    Raises:
        OSError: If the log cannot be read.
    """
    script, style = read_asset("page.js"), read_asset("page.css")
    policy = (
        f"{_CLOSED}; connect-src 'none'; "
        f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    )
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>'
    )
    body = "\n".join([*_pack_study(data, calls_of), f"<script>{script}</script>"])
    return _write(head, body)


def _write(head: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<title>Study</title>\n<link rel="icon" href="{_ICON}">\n{head}\n</head>\n<body>\n'
        "<noscript>This page needs JavaScript to show the study that it contains.</noscript>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _pack_study(data: PageData, calls_of: Sequence[int]) -> Iterator[str]:
    """The study's data, in elements that are neither run nor shown."""
    changes = data.write_changes() or ""
    yield _pack("study", f'{{"written":{time.time():.0f},"data":{changes}}}')
    yield _pack("cases", data.write_cases())
    details = data.describe_trials()
    for i in range(0, len(details), _CHUNK):
        yield _pack("details", write_json(details[i : i + _CHUNK]))
    for number in calls_of:
        if calls := data.describe_calls(number):
            yield _pack("calls", write_json(calls), number)


def _pack(kind: str, text: str, number: int | None = None) -> str:
    packed = base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")
    of = "" if number is None else f' data-number="{number}"'
    return f'<script type="application/octet-stream" class="{kind}"{of}>{packed}</script>'


def _digest(asset: str) -> str:
    digest = base64.b64encode(hashlib.sha256(asset.encode("utf-8")).digest())
    return f"sha256-{digest.decode('ascii')}"
