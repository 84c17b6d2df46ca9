"""Which images a call shows, and of which trial each is."""

from __future__ import annotations

from collections.abc import Sequence

from optuna_llm._images import MAX_IMAGES
from optuna_llm._prompt.request import Request
from optuna_llm._records import TrialRecord
from optuna_llm._study.snapshot import StudySnapshot


def choose_images(snapshot: StudySnapshot, request: Request) -> list[tuple[str, str]]:
    """Artifact ids of the images to show, each with what it shows; four at most.

    They are of the trial to start from and of the best; where there is no text, of the latest
    trial that has some and of the best.

    Args:
        snapshot: The study.
        request: What is asked for.
    """
    shown: dict[int, tuple[TrialRecord, list[str]]] = {}

    def add(record: TrialRecord | None, role: str) -> None:
        if record is not None and record.images:
            shown.setdefault(record.number, (record, []))[1].append(role)

    best = request.leaders[-1] if request.leaders else None
    role = "the best" if len(snapshot.directions) == 1 else "one of the best"
    if request.parent is not None:
        add(request.parent, "the one to start from")
        add(best, role)
    else:
        add(best, role)
        add(snapshot.latest_with_images, "the latest")
    records = [record for record, _ in shown.values()]
    return [
        (artifact_id, _caption(record, roles, index))
        for (record, roles), count in zip(shown.values(), _share(records), strict=True)
        for index, artifact_id in enumerate(record.images[:count])
    ]


def _share(records: Sequence[TrialRecord]) -> list[int]:
    """How many images of each of two trials are shown; what one does not need the other gets."""
    counts = [len(record.images) for record in records]
    return [min(n, max(MAX_IMAGES // 2, MAX_IMAGES - sum(counts) + n)) for n in counts]


def _caption(record: TrialRecord, roles: Sequence[str], index: int) -> str:
    several = f" ({index + 1} of {len(record.images)})" if len(record.images) > 1 else ""
    return f"trial {record.number}, {' and '.join(roles)}{several}"
