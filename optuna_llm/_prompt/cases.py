"""What is told of cases: of one trial in a few lines, of all trials in a short table."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import math

from optuna_llm._quoting import one_line
from optuna_llm._records import CaseResult
from optuna_llm._records import TrialRecord
from optuna_llm._study.case_table import CaseTable
from optuna_llm._study.snapshot import StudySnapshot


_MAX_CHANGES = 6
_MAX_WORST = 3
_MAX_WORDS = 160
_MAX_NAME = 40
_MAX_UNSOLVED = 10
_MAX_HARD = 6
_FEW_TRIALS = 2
_LEAST_TRIALS = 4
"""Number of trials from which on a case that few have solved is worth telling."""


def describe_mean(record: TrialRecord) -> str:
    """The mean over the cases that a pruned trial was evaluated on, and how many these are."""
    mean = math.fsum(r.score for r in record.cases.values()) / len(record.cases)
    of = "" if record.n_cases is None else f" of {record.n_cases}"
    return f"after {len(record.cases)}{of} cases, their mean {mean:.7g}"


def describe_cases(
    record: TrialRecord, snapshot: StudySnapshot, *, with_worst: bool
) -> Iterator[str]:
    """What the cases of a trial tell, in a line, and the worst of them in a line each.

    Args:
        record: The trial.
        snapshot: The study.
        with_worst: Whether to show the worst cases too.
    """
    if not record.cases:
        return
    table = snapshot.cases
    gains = {case: table.gain(result.score) for case, result in record.cases.items()}
    said = [_count_full(record, table)]
    parent = snapshot.find(record.parent)
    changes: dict[int, float] = {}
    if parent is not None and parent is not record and parent.cases:
        changes = {
            case: gains[case] - table.gain(parent.cases[case].score)
            for case in gains.keys() & parent.cases.keys()
        }
        said += _describe_changes(changes, parent.number)
    if record.noise is not None:
        said.append(f"noise of the mean {record.noise:.2g} (standard deviation)")
    yield f"cases: {'; '.join(said)}"
    if with_worst:
        worst = _choose_worst(record, gains, changes, table)
        yield from _write_results(worst, record.cases, snapshot.case_names)


def _count_full(record: TrialRecord, table: CaseTable) -> str:
    scores = [result.score for result in record.cases.values()]
    if min(scores) == max(scores) and len(scores) > 1 and scores[0] != table.full:
        return f"each of {len(scores)} scores {scores[0]:.4g}"
    if table.full is None:
        return f"{len(scores)}, scores from {min(scores):.4g} to {max(scores):.4g}"
    return f"{scores.count(table.full)} of {len(scores)} at full score ({table.full:.4g})"


def _describe_changes(changes: Mapping[int, float], parent: int) -> Iterator[str]:
    better = {case: change for case, change in changes.items() if change > 0}
    worse = {case: change for case, change in changes.items() if change < 0}
    if not better and not worse:
        yield f"no case differs from trial {parent}"
        return
    yield f"better than trial {parent} in {_list_changes(better)}"
    yield f"worse in {_list_changes(worse)}"


def _list_changes(changes: Mapping[int, float]) -> str:
    """How many cases have changed, and those that have changed most."""
    if not changes:
        return "none"
    order = sorted(changes, key=lambda case: (-abs(changes[case]), case))[:_MAX_CHANGES]
    is_graded = len(set(changes.values())) > 1
    listed = [f"{c} ({changes[c]:+.2g})" if is_graded else str(c) for c in order]
    if len(changes) > len(listed):
        return f"{len(changes)} cases: {', '.join(listed)}, …"
    return f"case{'s' * (len(listed) > 1)} {', '.join(listed)}"


def _choose_worst(
    record: TrialRecord,
    gains: Mapping[int, float],
    changes: Mapping[int, float],
    table: CaseTable,
) -> list[int]:
    """The worst cases of a trial that are below full score.

    Of those as bad as others, the ones that got worse, then those that something is said of; the
    rest in turn from trial to trial, so that the history shows more than always the same.
    """
    full = table.full
    short = [case for case, r in record.cases.items() if full is None or r.score != full]
    first = record.number * _MAX_WORST
    turns = {case: (i - first) % max(1, len(short)) for i, case in enumerate(sorted(short))}
    return sorted(
        short,
        key=lambda c: (gains[c], changes.get(c, 0.0) >= 0, not record.cases[c].words, turns[c]),
    )[:_MAX_WORST]


def _write_results(
    cases: Sequence[int], results: Mapping[int, CaseResult], names: Mapping[int, str]
) -> Iterator[str]:
    for case in cases:
        words = one_line(results[case].words, _MAX_WORDS)
        yield f"- case {name_case(case, names)}: {results[case].score:.4g}" + (
            f"; {words}" if words else ""
        )


def name_case(case: int, names: Mapping[int, str]) -> str:
    """A case's number, and its name where it has one."""
    return f"{case} ({one_line(names[case], _MAX_NAME)})" if case in names else str(case)


def render_case_table(snapshot: StudySnapshot, leaders: Sequence[TrialRecord], room: int) -> str:
    """Which cases no trial or only few have solved; as many lines as there is room for.

    Args:
        snapshot: The study.
        leaders: The best trials, best last.
        room: How many characters it may take.
    """
    table = snapshot.cases
    if not table.n_trials:
        return ""
    hard = list(_describe_hard(table, snapshot.case_names))
    lines = []
    if leaders and (best := leaders[-1]).cases:
        below = [case for case in table.cases if case in best.cases]
        if table.full is not None:
            below = [case for case in below if best.cases[case].score != table.full]
        title, count = f"The hardest of them in trial {best.number}:", _MAX_WORST
        if table.n_trials == 1:
            # Its block shows some already, and there is nothing else to show.
            gains = {case: table.gain(result.score) for case, result in best.cases.items()}
            shown = _choose_worst(best, gains, {}, table)
            below = [case for case in below if case not in shown]
            title, count = f"More of them in trial {best.number}:", 2 * _MAX_WORST
        told = list(_write_results(below[:count], best.cases, snapshot.case_names))
        if told:
            lines = [title, *told]
    about = f"# Cases that trials are evaluated on ({len(table.cases)})"
    kept: list[str] = []
    for line in [*hard, *lines]:
        if len(about) + sum(len(k) + 1 for k in kept) + len(line) + 5 > room:
            break
        kept.append(line)
    return "\n".join([about, "", *kept, "", ""]) if kept else ""


def _describe_hard(table: CaseTable, names: Mapping[int, str]) -> Iterator[str]:
    if table.full is None:
        if len(set(map(table.best, table.cases))) == 1:
            return  # As bad in all of them.
        said = [
            f"{name_case(c, names)} {table.best(c):.4g} (trial {table.find_best(c)[0]})"
            for c in table.cases[:_MAX_HARD]
        ]
        yield f"Lowest by the best score that any trial has there: {', '.join(said)}."
        return
    unsolved = [case for case in table.cases if not table.is_solved(case)]
    if unsolved:
        said = [name_case(case, names) for case in unsolved[:_MAX_UNSOLVED]]
        more = f" and {len(unsolved) - len(said)} more" if len(unsolved) > len(said) else ""
        yield f"At full score in none of {table.n_trials} trials: {', '.join(said)}{more}."
    elif table.n_trials > 1:
        yield "Each case is at full score in some trial."
    few = [
        case
        for case in table.cases
        if table.is_solved(case)
        and len(table.find_best(case)) <= _FEW_TRIALS
        and table.count(case) >= _LEAST_TRIALS
    ]
    if few:
        said = [
            f"{name_case(c, names)} (trial{'s' * (len(table.find_best(c)) > 1)} "
            f"{' and '.join(map(str, table.find_best(c)))})"
            for c in few[:_MAX_HARD]
        ]
        more = f" and {len(few) - len(said)} more" if len(few) > len(said) else ""
        yield f"At full score in a trial or two only: {', '.join(said)}{more}."
