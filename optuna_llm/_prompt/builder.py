"""Records in words: the two messages that a model is asked with.

What never changes comes first (the system message), what only grows comes next (the history),
what changes with every call comes last: so a provider's prefix cache holds what it can.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
import html
import threading

from optuna_llm._prompt.choice import choose_usual
from optuna_llm._prompt.choice import HistoryPolicy
from optuna_llm._prompt.page import HISTORY_TITLE
from optuna_llm._prompt.page import Page
from optuna_llm._prompt.request import Request
from optuna_llm._prompt.system import DEFAULT_TEMPLATES
from optuna_llm._prompt.system import render_system
from optuna_llm._prompt.system import Templates
from optuna_llm._prompt.transcript import Transcript
from optuna_llm._records import Message
from optuna_llm._study.snapshot import StudySnapshot


LEAST_PROMPT_TOKENS = 500

CHARACTERS_PER_TOKEN = 4
"""How tokens are counted: a rule of thumb, since tokenizers differ and need downloads."""

_HISTORY_SHARE = 5
"""What part of the prompt's room the history may take, beside one whole text: a fifth."""


@dataclass(frozen=True)
class Prompt:
    """What a call sends.

    Attributes:
        messages: The system message and the user message.
    """

    messages: tuple[Message, Message]

    @property
    def tokens(self) -> int:
        """What the messages take together, a token counted as 4 characters."""
        return sum(len(message.content) for message in self.messages) // CHARACTERS_PER_TOKEN

    def __str__(self) -> str:
        return "\n".join(f"--- {m.role}\n{m.content}" for m in self.messages)

    def _repr_html_(self) -> str:
        style = "white-space: pre-wrap; text-align: left"
        return "\n".join(
            f'<b>{m.role}</b>\n<pre style="{style}">{html.escape(m.content)}</pre>'
            for m in self.messages
        )


class PromptBuilder:
    """Builds the prompts of one study, each of which begins with the one before; thread-safe.

    Args:
        templates: What the messages are made of.
        choose: Ranks finished trials by how useful they are to show, where not all of them fit.
        max_tokens: Size of the two messages together, a token counted as 4 characters.
    """

    def __init__(
        self,
        templates: Templates = DEFAULT_TEMPLATES,
        choose: HistoryPolicy = choose_usual,
        max_tokens: int = 16_000,
    ) -> None:
        self._templates = templates
        self._choose = choose
        self._max_tokens = max_tokens
        self._transcript = Transcript()
        self._lock = threading.Lock()

    def build(self, snapshot: StudySnapshot, request: Request) -> Prompt:
        """The messages that ask for a trial's values.

        Args:
            snapshot: The study.
            request: What is asked for.

        Raises:
            ValueError: If not even the parameters and the request fit.
        """
        with self._lock:
            return self._fill(snapshot, request, self._transcript)

    def preview(self, snapshot: StudySnapshot, request: Request) -> Prompt:
        """The same as :meth:`build`, without a trace in later prompts."""
        with self._lock:
            transcript = copy.copy(self._transcript)
        return self._fill(snapshot, request, transcript)

    def halve(self, prompt: Prompt) -> int | None:
        """Allow later prompts half the size of one that was too long for the model.

        Returns:
            The new size in tokens; None if there is hardly anything left to cut.
        """
        size = prompt.tokens // 2
        if size < LEAST_PROMPT_TOKENS:
            return None
        self._max_tokens = min(self._max_tokens, size)
        return self._max_tokens

    def _fill(self, snapshot: StudySnapshot, request: Request, transcript: Transcript) -> Prompt:
        system = render_system(request.problem, self._templates.system)
        room = self._max_tokens * CHARACTERS_PER_TOKEN - len(system)
        page = Page(snapshot, request, transcript, self._templates, room)
        # What stands in full in the transcript need not stand in the request, but how much of the
        # transcript fits depends on the rest: so room is kept for the longest that it can be.
        reserved = len(page.fill("")) + len(HISTORY_TITLE)
        if room < reserved:
            raise ValueError(
                f"max_prompt_tokens={self._max_tokens} is too small for this study: its "
                f"parameters take {len(system) // CHARACTERS_PER_TOKEN:,} tokens and the request "
                f"{reserved // CHARACTERS_PER_TOKEN:,}. Allow more."
            )
        transcript.update(
            snapshot.finished,
            lambda: self._choose(snapshot.finished, snapshot.directions),
            room - reserved,
            self._max_tokens * CHARACTERS_PER_TOKEN // _HISTORY_SHARE,
            page.render_block,
        )
        user = page.fill(str(transcript))
        return Prompt((Message("system", system), Message("user", user)))
