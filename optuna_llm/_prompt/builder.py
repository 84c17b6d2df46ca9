"""Records in words: the two messages that a model is asked with.

What never changes comes first (the system message), what only grows comes next (the history),
what changes with every call comes last: so a provider's prefix cache holds what it can.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from dataclasses import replace
import html
import threading

from optuna_llm._prompt.choice import choose_usual
from optuna_llm._prompt.choice import HistoryPolicy
from optuna_llm._prompt.page import INSIGHTS_REQUEST
from optuna_llm._prompt.page import Page
from optuna_llm._prompt.request import Request
from optuna_llm._prompt.second import measure_second
from optuna_llm._prompt.system import render_system
from optuna_llm._prompt.templates import DEFAULT_TEMPLATES
from optuna_llm._prompt.templates import LEAST_PROMPT_TOKENS
from optuna_llm._prompt.templates import Templates
from optuna_llm._prompt.transcript import Transcript
from optuna_llm._records import Message
from optuna_llm._study.snapshot import StudySnapshot


USUAL_PROMPT_TOKENS = 16_000

CHARACTERS_PER_TOKEN = 4
"""How tokens are counted: a rule of thumb, since tokenizers differ and need downloads."""

_HISTORY_SHARE = 11
"""What part of the prompt trials may take that are shown fully, beside whole texts."""

_LEAST_HISTORY = 6_000
"""How many characters it may take even if that is more, as far as there is room."""

_SECOND_SHARE = 4
"""What part of the prompt the second parent may take at most, or it gives way."""

_SPARE = 600
"""Characters that a bare request may take more later on: an aim, what was wrong with a reply."""

_FEW = 2
"""Below this number of finished trials that much is asked for, so that no later prompt fails."""

_TEXT_SHARE = 2
"""What part of the longest text it may take in any case."""

_CUT_SHARE = 3
"""To how many tenths of that it is cut: each cut costs what a provider has cached."""


@dataclass(frozen=True)
class Prompt:
    """What a call sends.

    Attributes:
        messages: The system message and the user message.
        asks_insights: Whether the model is asked for what the trials so far have taught.
        second_parent: Number of the trial that is to be taken over from, where there is room.
    """

    messages: tuple[Message, Message]
    asks_insights: bool = False
    second_parent: int | None = None

    @property
    def tokens(self) -> int:
        """What the texts take together, a token counted as 4 characters; images come on top."""
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
        max_tokens: Size of the two messages together, a token counted as 4 characters. None is
            16,000 and four times the longest text.
        insights: Whether the model is asked for what it has learned before the history is cut.
    """

    def __init__(
        self,
        templates: Templates = DEFAULT_TEMPLATES,
        choose: HistoryPolicy = choose_usual,
        max_tokens: int | None = None,
        *,
        insights: bool = True,
    ) -> None:
        self._templates = templates
        self._choose = choose
        self._max_tokens = max_tokens
        self._insights = insights
        self._transcript = Transcript()
        self._is_cut_due = False
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
            prompt = self._fill(snapshot, request, self._transcript)
            self._is_cut_due = prompt.asks_insights
            return prompt

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
        with self._lock:
            self._max_tokens = min(self._max_tokens or size, size)
            self._is_cut_due = True
        return self._max_tokens

    def _fill(self, snapshot: StudySnapshot, request: Request, transcript: Transcript) -> Prompt:
        system = render_system(request.problem, self._templates.system)
        longest = _find_longest(snapshot)
        size = self._max_tokens or USUAL_PROMPT_TOKENS + longest
        size *= CHARACTERS_PER_TOKEN
        room = size - len(system)
        page = Page(snapshot, request, transcript, self._templates, room)
        # What stands in full in the transcript need not stand in the request, but how much of the
        # transcript fits depends on the rest: so room is kept for the longest that it can be.
        reserved = len(page.fill("")) + len(INSIGHTS_REQUEST)
        if room < reserved or measure_second(request) > room // _SECOND_SHARE:
            page = replace(page, request=replace(request, second_parent=None))
            reserved = len(page.fill("")) + len(INSIGHTS_REQUEST)
        if room < reserved:
            page = replace(page, is_bare=True)
            reserved = len(page.fill(""))
        spare = _SPARE if len(snapshot.finished) < _FEW else 0
        if room < reserved + spare:
            reserved += spare
            raise ValueError(
                f"max_prompt_tokens={size // CHARACTERS_PER_TOKEN} is too small for this study: "
                f"its parameters take {len(system) // CHARACTERS_PER_TOKEN:,} tokens and the "
                f"request, with the text to start from, {reserved // CHARACTERS_PER_TOKEN:,}. "
                "Allow more."
            )
        usual = self._max_tokens or USUAL_PROMPT_TOKENS
        share = max(usual * CHARACTERS_PER_TOKEN // _HISTORY_SHARE, _LEAST_HISTORY)
        if self._max_tokens is None:
            # What is said of a long text is cheap beside the text.
            share = max(share, longest // _TEXT_SHARE)
        asks = self._grow(page, room - reserved - page.head_size, share) and not page.is_bare
        user = page.fill(str(transcript), asks_insights=asks)
        if len(user) > room:
            page = replace(page, is_bare=True)
            user, asks = page.fill(str(transcript)), False
        images = tuple(request.images)
        shown = None if page.is_bare else page.request.second_parent
        second = None if shown is None else shown.number
        return Prompt((Message("system", system), Message("user", user, images)), asks, second)

    def _grow(self, page: Page, limit: int, share: int) -> bool:
        """Bring the transcript up to date; returns whether the next prompt's will be cut.

        Args:
            page: The page that it is for.
            limit: How many characters it may take.
            share: How many of them it is to take, beside one whole text.
        """
        snapshot, transcript = page.snapshot, page.transcript
        transcript.append(snapshot.told, limit, page.render_block)
        text = str(transcript)
        # Two texts may stand there whole, one of them replaced, beside the changes to them.
        usual = min(limit, share + 2 * transcript.largest + transcript.lines_size)
        is_too_long = len(text) > min(limit, usual * 5 // 4)
        # There is no place for insights in a reply that is JSON.
        asks = self._insights and not page.request.problem.is_json
        if is_too_long or (len(text) > usual and (self._is_cut_due or not asks)):
            transcript.cut(
                snapshot.told,
                self._choose(snapshot.told, snapshot.directions),
                share * _CUT_SHARE // 10 + transcript.largest,
                limit,
                page.render_block,
                snapshot.insights,
            )
            return False
        return len(text) > usual


def _find_longest(snapshot: StudySnapshot) -> int:
    """Length of the longest text in characters."""
    initial = (len(text.initial or "") for text in snapshot.texts.values())
    return max([*snapshot.longest.values(), *initial], default=0)
