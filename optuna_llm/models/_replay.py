"""Exchanges with a model, recorded once and answered again from the record."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from optuna_llm._errors import ModelSetupError
from optuna_llm._lines import append_line
from optuna_llm._logging import get_logger
from optuna_llm._records import Completion
from optuna_llm._records import Message
from optuna_llm._records import Usage
from optuna_llm.models._chat import takes_images
from optuna_llm.models._chat import takes_schema
from optuna_llm.models._resolve import ModelLike
from optuna_llm.models._resolve import resolve_model


_logger = get_logger(__name__)


class ReplayModel:
    """A model that answers messages it has answered before from a file, to the letter.

    So a study can be run again for free: with the same seeds and the same objective it asks the
    same. What the record holds of a reply's cost is what it cost the first time.

    .. code-block:: python

        sampler = LLMSampler(model=ReplayModel("replies.jsonl", "gpt-…"), seed=0)  # records
        sampler = LLMSampler(model=ReplayModel("replies.jsonl"), seed=0)  # replays only

    Args:
        path: A file of JSON lines, one an exchange, made if it is not there. Many threads and
            processes of one machine may share it.
        model: What answers messages that are not in the file, as for :class:`LLMSampler`. None
            replays only.

    Raises:
        ValueError: If there is nothing to replay: no file and no model.
    """

    # Whatever the recorded model takes: the same messages have to be asked with each time.
    takes_images = True

    def __init__(self, path: str | os.PathLike[str], model: ModelLike = None) -> None:
        self._path = Path(path)
        self._model = None if model is None else resolve_model(model)
        self._has_failed = False
        if self._model is None and not self._path.exists():
            raise ValueError(f"{str(path)!r} does not exist: name a model to record from.")

    @property
    def accepts_schema(self) -> bool:
        """Whether the model takes a JSON schema; the record holds what became of it."""
        return self._model is None or takes_schema(self._model)

    def complete(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None = None
    ) -> Completion:
        """The recorded reply to these messages; if there is none, the model's, recorded.

        Raises:
            ModelSetupError: If there is none, and no model to ask.
        """
        told = json.dumps([message.to_log() for message in messages])
        key = hashlib.sha256(told.encode()).hexdigest()
        recorded = self._read(key)
        if recorded is None and self._model is None:
            raise ModelSetupError(
                f"{self._path.name} holds no reply to these messages: what they are made of has "
                "changed since they were recorded. Name a model to record them anew."
            )
        if recorded is None:
            assert self._model is not None
            if not takes_images(self._model):
                messages = [message.limit_images(0) for message in messages]
            # The messages tell of the schema: it need not be a part of the key.
            arguments = {} if schema is None else {"schema": schema}
            completion = self._model.complete(messages, **arguments)
            recorded = self._record(key, told, completion)
        return recorded

    def _record(self, key: str, told: str, completion: Completion) -> Completion:
        """The reply on record from now on; one that was paid for is never lost to a full disk."""
        fields = json.dumps(dataclasses.asdict(completion))
        try:
            append_line(self._path, f'{_begin(key)}"messages": {told}, "completion": {fields}}}')
            # If another process was faster, its reply is the one on record.
            return self._read(key) or completion
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _logger.warning("Replies cannot be recorded in %s: %s", self._path, error)
            return completion

    def _read(self, key: str) -> Completion | None:
        """The first reply on record, or None."""
        if not self._path.exists():
            return None
        begin = _begin(key).encode()
        with self._path.open("rb") as lines:
            for line in lines:
                if line.startswith(begin):
                    # A process that died while it wrote may have left half a line.
                    with contextlib.suppress(ValueError):
                        fields = json.loads(line)["completion"]
                        return Completion(**fields | {"usage": Usage(**fields["usage"])})
        return None


def _begin(key: str) -> str:
    """What the line of an exchange begins with, so that it is found without parsing others."""
    return f'{{"key": "{key}", '
