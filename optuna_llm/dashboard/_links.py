"""Links from optuna-dashboard's notes to the study page.

They are added when a note is served, since they lead nowhere where the page is not served too.
"""

from __future__ import annotations

from typing import Any

from optuna_llm.dashboard._notes import add_paragraph
from optuna_llm.dashboard._notes import is_own


def link_pages(study: dict[str, Any], study_id: int) -> None:
    """Add links to a study as the dashboard's API returns it; notes by users stay as they are."""
    page = f"/llm/studies/{study_id}"
    _add(study["note"], f"[Study page]({page}): lineage, texts and their differences")
    for trial in (*study["trials"], *study["best_trials"]):
        number = trial["number"]
        _add(trial["note"], f"[Trial {number} on the study page]({page}#trial={number})")


def _add(note: dict[str, Any], link: str) -> None:
    if not note["body"]:
        note["body"] = link
    elif is_own(note["body"]):
        note["body"] = add_paragraph(note["body"], link)
