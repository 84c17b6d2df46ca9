"""What was said with the model for a trial, from a log of calls or a record of replies."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
import json
import os
from pathlib import Path
import re
import threading
from typing import Any
from typing import BinaryIO

from optuna.trial import FrozenTrial

from optuna_llm._secrets import find_named_secrets
from optuna_llm._secrets import make_redactor
from optuna_llm._study import attributes as stored


# A log's line begins so; a record of replies knows no trials.
_LOGGED = re.compile(
    rb'\{"time": "([^"]{10,40})", "trial": (\d{1,9}), (?:"study": ("(?:[^"\\]|\\.)*"), )?'
)
_PLAIN = re.compile(r"[\w ,.;:()+*/=-]{16,120}", re.ASCII)
_MAX_CANDIDATES = 20
_MAX_CALLS = 50
_TOLERANCE = 60.0
"""Seconds by which the clocks of two machines may differ."""


@dataclass(frozen=True)
class _Line:
    """Where a call stands in the file, and what its beginning says of it."""

    offset: int
    length: int
    trial: int | None = None
    study: str | None = None
    time: float | None = None


class CallReader:
    """Finds calls in a file of ``log_file`` or of a ``ReplayModel``; thread-safe.

    Lines are read when they are asked for; of a file that grows, what is new is found then.
    Values of environment variables that are named like secrets are masked.

    Args:
        path: The file; where there is none yet, it holds no calls.
        study: The study's name: a file can hold calls of several.
    """

    def __init__(self, path: Path, study: str) -> None:
        self._path = path
        self._study = study
        self._lines: list[_Line] = []
        self._end = 0
        self._redactor = make_redactor(tuple(find_named_secrets(os.environ)))
        self._lock = threading.Lock()

    def find(self, trial: FrozenTrial, began: datetime | None) -> list[dict[str, Any]]:
        """The calls for a trial, as the page gets them; in the order of the file.

        Replies that were made ahead, and those on record, are known by the model's rationale.

        Args:
            trial: The trial.
            began: When the first trial of its study began.

        Raises:
            OSError: If the file cannot be read.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            with self._lock:
                self._read_index(file)
                lines = list(self._lines)
            own = [line for line in lines if self._is_of(line, trial, began)]
            calls = [call for line in own[-_MAX_CALLS:] if (call := _read_call(file, line))]
            rationale = stored.read_provenance(trial).rationale
            pieces = _find_pieces(rationale)
            if pieces and not any(_holds(call, pieces) for call in calls):
                others = [line for line in lines if self._may_be_of(line, trial, began)]
                calls += _search(file, others, pieces)
        return [self._describe(call) for call in calls]

    def _read_index(self, file: BinaryIO) -> None:
        """Find the lines that were added since, or all if the file is another one."""
        size = file.seek(0, os.SEEK_END)
        if size < self._end:
            self._lines, self._end = [], 0
        file.seek(self._end)
        for line in file:
            if not line.endswith(b"\n"):
                break  # It is being written.
            self._lines.append(_describe_line(self._end, line))
            self._end += len(line)

    def _is_of(self, line: _Line, trial: FrozenTrial, began: datetime | None) -> bool:
        return line.trial == trial.number and self._may_be_of(line, trial, began)

    def _may_be_of(self, line: _Line, trial: FrozenTrial, began: datetime | None) -> bool:
        """Whether a call is of this study, and was made before the trial ended."""
        if line.study is not None and line.study != self._study:
            return False
        if line.time is None:
            return True
        end = trial.datetime_complete
        return (end is None or line.time <= end.timestamp() + _TOLERANCE) and (
            began is None or line.time >= began.timestamp() - _TOLERANCE
        )

    def _describe(self, call: Mapping[str, Any]) -> dict[str, Any]:
        mask = self._redactor.redact_reply
        return {
            "time": call.get("time") if isinstance(call.get("time"), str) else None,
            "model": mask(_text(call.get("model"))),
            "messages": [[m[0], mask(m[1])] for m in _read_messages(call)],
            "reply": mask(_read_reply(call)),
            "outcome": mask(_text(call.get("outcome"))),
        }


def _describe_line(offset: int, line: bytes) -> _Line:
    found = _LOGGED.match(line[:2_000])
    if not found:
        return _Line(offset, len(line))
    try:
        time = datetime.fromisoformat(found[1].decode("ascii")).timestamp()
        study = None if found[3] is None else json.loads(found[3])
    except (OverflowError, ValueError):
        return _Line(offset, len(line))
    return _Line(offset, len(line), int(found[2]), study, time)


def _search(file: BinaryIO, lines: list[_Line], pieces: list[str]) -> Iterator[dict[str, Any]]:
    """The first call whose reply contains a rationale."""
    needle = max(pieces, key=len).encode("ascii")
    tried = 0
    for line in lines:
        file.seek(line.offset)
        if needle not in file.read(line.length):
            continue
        # Prompts repeat what earlier replies said, so a reply is the first line that has it.
        call = _read_call(file, line)
        if call is not None and _holds(call, pieces):
            yield call
            return
        tried += 1
        if tried >= _MAX_CANDIDATES:
            return


def _read_call(file: BinaryIO, line: _Line) -> dict[str, Any] | None:
    file.seek(line.offset)
    try:
        call = json.loads(file.read(line.length))
    except (RecursionError, ValueError):
        return None
    return call if isinstance(call, dict) else None


def _find_pieces(rationale: str) -> list[str]:
    """The pieces of a rationale that are spelled alike however it is quoted."""
    return [piece.strip() for piece in _PLAIN.findall(rationale)]


def _holds(call: Mapping[str, Any], pieces: list[str]) -> bool:
    reply = _read_reply(call)
    return all(piece in reply for piece in pieces)


def _read_messages(call: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    messages = call.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict):
            yield _text(message.get("role")), _text(message.get("content"))


def _read_reply(call: Mapping[str, Any]) -> str:
    """The reply, as a log or a record has it."""
    completion = call.get("completion")
    held = completion.get("text") if isinstance(completion, dict) else call.get("reply")
    return _text(held)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
