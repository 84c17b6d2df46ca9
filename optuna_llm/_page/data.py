"""A study as its page shows it, kept up to date by reading what is new."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
import threading
import time
from typing import Any
from uuid import uuid4

from optuna import Study
from optuna.trial import FrozenTrial

from optuna_llm._page.calls import CallReader
from optuna_llm._page.rows import describe_cases
from optuna_llm._page.rows import describe_cost
from optuna_llm._page.rows import describe_trial
from optuna_llm._page.rows import encode
from optuna_llm._page.rows import find_log_params
from optuna_llm._page.rows import is_settled
from optuna_llm._page.rows import make_row
from optuna_llm._page.rows import matches
from optuna_llm._page.rows import write_json
from optuna_llm._records import TextParameter
from optuna_llm._study.cases import read_case_names
from optuna_llm._study.declarations import read_declared_texts
from optuna_llm._study.declarations import read_insights
from optuna_llm._study.declarations import read_marks
from optuna_llm._study.declarations import read_stop
from optuna_llm._study.declarations import read_task
from optuna_llm._study.declarations import read_unclaimed
from optuna_llm._study.facts import read_facts
from optuna_llm._study.history import name_objectives
from optuna_llm._study.ledger import TrialCost
from optuna_llm._study.usage import Prices


_MAX_WORDS = 20


class PageData:
    """The data of one study's page; thread-safe.

    Finished trials are read once. However many viewers ask, the storage is read at most once
    within ``max_age``.

    Args:
        study: The study.
        prices: The models' prices.
        max_age: For how many seconds what was read counts as current.
        log_file: Where the calls to the model were logged; None shows none.
    """

    def __init__(
        self,
        study: Study,
        prices: Prices | Mapping[str, Prices] | None = None,
        max_age: float = 0.0,
        log_file: Path | None = None,
    ) -> None:
        self._study = study
        self._calls = None if log_file is None else CallReader(log_file, study.study_name)
        self._prices = prices
        self._max_age = max_age
        self._objectives = name_objectives(study)
        self._epoch = uuid4().hex[:12]
        self._version = 0
        self._overview = ""
        self._rows: list[str] = []
        self._versions: list[int] = []
        self._settled: list[bool] = []
        self._log_params: set[str] = set()
        self._trials: Sequence[FrozenTrial] = ()
        self._texts: Mapping[str, TextParameter] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def write_changes(self, since: str = "") -> str | None:
        """The study and the rows that have changed, as JSON; None where nothing has.

        Args:
            since: The version that the page has, as a former answer named it; all rows are sent
                if it is not of this object.
        """
        with self._lock:
            self._refresh()
            known = self._read_version(since)
            if known == self._version:
                return None
            rows = [row for row, v in zip(self._rows, self._versions, strict=True) if v > known]
            return (
                f'{{"version":"{self._epoch}-{self._version}","whole":{str(not known).lower()},'
                f'"study":{self._overview},"trials":[{",".join(rows)}]}}'
            )

    def write_cases(self, since: str = "") -> str:
        """What trials have reached in each case, as JSON: of all that have changed, and have any.

        Args:
            since: As for :meth:`write_changes`.
        """
        with self._lock:
            self._refresh()
            known = self._read_version(since)
            changed = [
                trial
                for trial, version in zip(self._trials, self._versions, strict=True)
                if version > known
            ]
        described = [
            [trial.number, cases] for trial in changed if (cases := describe_cases(trial))
        ]
        return write_json({"trials": described})

    def describe_trials(self) -> list[dict[str, Any]]:
        """All of each trial, by number."""
        trials, texts = self._read()
        return [describe_trial(trial, texts) for trial in trials]

    def describe_trial(self, number: int) -> dict[str, Any]:
        """All of one trial.

        Raises:
            KeyError: If there is none of this number.
        """
        with self._lock:
            # A trial that has ended need not be read again: a click should not wait for that.
            if not (0 <= number < len(self._settled) and self._settled[number]):
                self._refresh()
            trials, texts = self._trials, list(self._texts)
        if not 0 <= number < len(trials):
            raise KeyError(number)
        return describe_trial(trials[number], texts)

    def describe_calls(self, number: int) -> list[dict[str, Any]]:
        """The calls to the model for one trial, where there is a log.

        Raises:
            KeyError: If there is no trial of this number, or no log.
            OSError: If the log cannot be read.
        """
        trials, _ = self._read()
        if self._calls is None or not 0 <= number < len(trials):
            raise KeyError(number)
        return self._calls.find(trials[number], trials[0].datetime_start)

    def search(self, query: str) -> list[int]:
        """Numbers of the trials that contain all words of a query in what was said of them."""
        trials, texts = self._read()
        words = query.lower().split()[:_MAX_WORDS]
        return [trial.number for trial in trials if matches(trial, words, texts)]

    def _read_version(self, version: str) -> int:
        """The number of a version that this object named; 0 if another one did."""
        epoch, _, number = version.partition("-")
        return int(number) if epoch == self._epoch and number.isdecimal() else 0

    def _read(self) -> tuple[Sequence[FrozenTrial], list[str]]:
        with self._lock:
            self._refresh()
            return self._trials, list(self._texts)

    def _refresh(self) -> None:
        """Read the study if what is known of it is too old; with the lock held."""
        if time.monotonic() - self._read_at < self._max_age:
            return
        trials = self._study.get_trials(deepcopy=False)
        attributes = self._study.user_attrs
        self._trials = trials
        self._texts = read_declared_texts(attributes)
        version = self._version + 1
        for trial in trials:
            number = trial.number
            if number < len(self._rows) and self._settled[number]:
                continue
            self._log_params |= find_log_params(trial)
            row = write_json(make_row(trial, trials, self._prices))
            if number == len(self._rows):
                self._rows.append("")
                self._versions.append(0)
                self._settled.append(False)
            self._settled[number] = is_settled(trial)
            if row != self._rows[number]:
                self._rows[number], self._versions[number] = row, version
                self._version = version
        overview = write_json(self._describe_study(attributes))
        if overview != self._overview:
            self._overview, self._version = overview, version
        self._read_at = time.monotonic()

    def _describe_study(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        unclaimed = [
            describe_cost([TrialCost(None, "unclaimed", "unclaimed", model, spent)], self._prices)
            for model, spent in read_unclaimed(attributes)
            if spent.calls
        ]
        facts = asdict(read_facts(attributes))
        return {
            "name": self._study.study_name,
            "task": read_task(attributes),
            "objectives": [
                {"name": name, "direction": direction.name.lower()}
                for name, direction in self._objectives
            ],
            "facts": {name: encode(value) for name, value in facts.items() if value is not None},
            "texts": {
                name: {"language": text.language, "description": text.description}
                for name, text in self._texts.items()
            },
            "log_params": sorted(self._log_params),
            "insights": read_insights(attributes),
            "cases": read_case_names(attributes),
            "marks": read_marks(attributes),
            "stop": read_stop(attributes),
            "unclaimed": unclaimed,
            "has_calls": self._calls is not None,
        }
