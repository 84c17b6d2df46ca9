"""Callbacks for ``study.optimize``: when to stop, what to show, and whom to wait for no longer."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import math
import sys
import threading
import time
from typing import Any
from typing import TextIO
from typing import TYPE_CHECKING

from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_llm._quoting import clean_text
from optuna_llm._quoting import diff_texts
from optuna_llm._quoting import shorten
from optuna_llm._study import attributes as stored
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.internals import find_trial_id
from optuna_llm._study.internals import read_constraints
from optuna_llm._study.internals import read_heartbeat_interval
from optuna_llm._study.internals import record_heartbeat
from optuna_llm._study.usage import price
from optuna_llm._study.usage import Prices
from optuna_llm._study.usage import read_costs


if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "ConsoleCallback",
    "FirstHeartbeatCallback",
    "MaxCostCallback",
    "MaxTokensCallback",
    "Prices",
    "TargetValueCallback",
]

_LONG_TEXT = 200
_MAX_SHOWN = 2_000
_PATIENCE = 3
"""After how many heartbeat intervals a trial may have died without a heartbeat."""


class TargetValueCallback:
    """Stop a study once a trial is good enough.

    .. code-block:: python

        study.optimize(objective, callbacks=[TargetValueCallback(0.99)])

    Args:
        value: The objective value that is good enough, in the study's direction.
    """

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the study if this trial has reached the value and is feasible."""
        if len(study.directions) > 1:
            raise ValueError("TargetValueCallback is for studies of one objective.")
        if trial.state != TrialState.COMPLETE or _is_infeasible(trial):
            return
        assert trial.value is not None
        is_up = study.direction == StudyDirection.MAXIMIZE
        if trial.value >= self._value if is_up else trial.value <= self._value:
            study.stop()


class MaxTokensCallback:
    """Stop a study once its models have used so many tokens, by all of its workers.

    A trial that runs now, and whose proposal is not in yet, counts as one of average cost.

    .. code-block:: python

        study.optimize(objective, callbacks=[MaxTokensCallback(1_000_000)])

    Args:
        n_tokens: Tokens sent and received, as the server counts them. A model that does not
            count is never stopped.
    """

    def __init__(self, n_tokens: int) -> None:
        if not n_tokens > 0:
            raise ValueError(f"n_tokens must be above 0: {n_tokens!r}.")
        self._n_tokens = n_tokens

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the study if the tokens are used up."""
        usages = [cost.usage for cost in read_costs(study)]
        spent = [usage.prompt_tokens + usage.completion_tokens for usage in usages]
        if sum(spent) + _in_flight(study, spent) >= self._n_tokens:
            study.stop()


class MaxCostCallback:
    """Stop a study once its models have cost so much, to all of its workers.

    A trial that runs now, and whose proposal is not in yet, counts as one of average cost.

    .. code-block:: python

        prices = Prices(prompt=1.25, cached=0.125, completion=10)
        study.optimize(objective, callbacks=[MaxCostCallback(5.0, prices)])

    Args:
        cost: The money, in the currency of the prices.
        prices: The model's prices, or those of several models by name. By
            default they are looked up by name in genai-prices, in US dollars.

    Raises:
        ImportError: If no prices are given and genai-prices is not installed.
    """

    def __init__(self, cost: float, prices: Prices | Mapping[str, Prices] | None = None) -> None:
        if not cost > 0:
            raise ValueError(f"cost must be above 0: {cost!r}.")
        if prices is None:
            import genai_prices  # noqa: F401 - so that its lack is told at once
        self._cost = cost
        self._prices = prices

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the study if the money is used up.

        Raises:
            ValueError: If the price of a model is not known.
        """
        spent = [price(c, self._prices) for c in read_costs(study)]
        if sum(spent) + _in_flight(study, spent) >= self._cost:
            study.stop()


def _in_flight(study: Study, spent: Sequence[float]) -> float:
    """What the trials may cost whose proposals are not in yet, at the average of the others."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    waiting = [t for t in running if stored.read_source(t) is None]
    return len(waiting) * sum(spent) / len(spent) if spent else 0.0


def _is_infeasible(trial: FrozenTrial) -> bool:
    return any(value > 0 for value in read_constraints(trial).values())


class FirstHeartbeatCallback:
    """Have trials failed that died before their first heartbeat; by default they run forever.

    Optuna fails a running trial whose heartbeats have ended, and with
    ``RetryHeartbeatStaleTrialCallback`` does it again. A worker that is killed within
    milliseconds of its trial's beginning leaves one that never had a heartbeat. This records
    one for each trial that has been seen running for three heartbeat intervals, once in each
    process that uses it: to a trial that is alive it makes no difference.

    .. code-block:: python

        storage = RDBStorage(url, heartbeat_interval=60)
        study = optuna.load_study(study_name="s", storage=storage, sampler=LLMSampler())
        study.optimize(objective, callbacks=[FirstHeartbeatCallback()])

    Not for studies that some use with ``study.ask()``: such trials have no heartbeats while
    they are alive, and would be failed.
    """

    def __init__(self) -> None:
        self._next_look = -math.inf
        self._seen_since: dict[int, float] = {}

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Look at what else is running, at most once in a heartbeat interval.

        Raises:
            ValueError: If the study's storage has no heartbeats.
        """
        interval = read_heartbeat_interval(study)
        if interval is None:
            raise ValueError(
                "FirstHeartbeatCallback needs a storage with heartbeats: "
                "RDBStorage(url, heartbeat_interval=60)."
            )
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + interval
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        seen = map(find_trial_id, running)
        since = {trial_id: self._seen_since.get(trial_id, now) for trial_id in seen}
        due = [i for i, begun in since.items() if now - begun >= _PATIENCE * interval]
        # Once each: one whose heartbeats have ended is not to be kept from being failed.
        self._seen_since = since | dict.fromkeys(due, math.inf)
        for trial_id in due:
            record_heartbeat(study, trial_id)


class ConsoleCallback:
    """Show each trial as it ends: the model's words, the texts, the value.

    On a terminal in color, texts highlighted and long ones as what they change in their parent,
    where rich is installed (``pip install "optuna-llm[rich]"``); elsewhere as plain text.

    Args:
        file: Where to write; standard output by default.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_file": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Show one trial."""
        with self._lock:
            file = self._file or sys.stdout
            console = _make_console(file) if file.isatty() else None
            for style, lexer, text in _describe(study, trial):
                text = clean_text(text)
                if console is None:
                    file.write(text + "\n")
                else:
                    _show(console, style, lexer, text)
            file.write("\n")
            file.flush()


def _describe(study: Study, trial: FrozenTrial) -> list[tuple[str, str | None, str]]:
    """What is to be said of a trial, in order: style, language and text of each part."""
    provenance = stored.read_provenance(trial)
    source = provenance.source
    parts: list[tuple[str, str | None, str]] = [
        ("bold", None, f"trial {trial.number}" + (f" ({source})" if source else ""))
    ]
    if provenance.rationale:
        parts.append(("yellow", None, provenance.rationale))
    if trial.params:
        numbers = ", ".join(f"{name} = {value}" for name, value in trial.params.items())
        parts.append(("blue", None, numbers))
    texts = stored.read_texts(trial)
    declared = read_declared_texts(study.user_attrs) if texts else {}
    former = _read_parent_texts(study, provenance.parent) if texts else {}
    for name, text in texts.items():
        parameter = declared.get(name)
        language = parameter.language if parameter else None
        parts.append(("blue", *_shorten_text(name, text, former.get(name), language)))
    if feedback := stored.read_feedback(trial):
        style = "red" if trial.state == TrialState.FAIL else ""
        parts.append((style, None, shorten(feedback, _MAX_SHOWN)))
    parts.append(_describe_outcome(trial))
    return parts


def _read_parent_texts(study: Study, number: int | None) -> dict[str, str]:
    trials = study.get_trials(deepcopy=False) if number is not None else []
    parents = [trial for trial in trials if trial.number == number]
    return stored.read_texts(parents[0]) if parents else {}


def _shorten_text(
    name: str, text: str, former: str | None, language: str | None
) -> tuple[str | None, str]:
    """A text as it is shown, and the language it is in: a long one as a diff if it can be."""
    if former is not None and len(text) > _LONG_TEXT:
        diff = diff_texts(former, text)
        if not diff:
            return None, f"{name}: unchanged"
        if len(diff) < len(text):
            return "diff", shorten(diff, _MAX_SHOWN)
    return language, shorten(text, _MAX_SHOWN)


def _describe_outcome(trial: FrozenTrial) -> tuple[str, str | None, str]:
    if trial.state == TrialState.COMPLETE:
        return "green", None, "value: " + ", ".join(f"{value:.10g}" for value in trial.values)
    words = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}.get(trial.state, "")
    error = stored.read_provenance(trial).error
    return "red", None, f"{words}: {error}" if error else words


def _make_console(file: TextIO) -> Console | None:
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=file)


def _show(console: Console, style: str, lexer: str | None, text: str) -> None:
    from rich.syntax import Syntax
    from rich.text import Text

    # As Text, not as a string: what stands in brackets is no markup.
    shown = Syntax(text, lexer, background_color="default") if lexer else Text(text, style)
    console.print(shown)
