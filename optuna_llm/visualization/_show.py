"""The study page in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
import html
from math import inf

from optuna import Study

from optuna_llm._page.data import PageData
from optuna_llm._page.document import write_file
from optuna_llm._study.usage import Prices


class StudyPage:
    """The study page at one moment, which a notebook shows inline."""

    def __init__(self, page: str, height: int) -> None:
        self._page = page
        self._height = height

    def _repr_html_(self) -> str:
        # In a frame with an origin of its own, it has no access to the notebook.
        return (
            f'<iframe srcdoc="{html.escape(self._page)}" sandbox="allow-scripts allow-popups" '
            f'width="100%" height="{self._height}" frameborder="0"></iframe>'
        )


def show(
    study: Study,
    *,
    prices: Prices | Mapping[str, Prices] | None = None,
    height: int = 900,
) -> StudyPage:
    """Show the study page in a notebook: lineage, texts and their differences.

    .. code-block:: python

        show(study)  # The last line of a cell; display(show(study)) anywhere else.

    It is the page that :func:`optuna_llm.dashboard.write_report` writes, with all of the study as
    it is now. It needs neither plotly nor a network.

    Args:
        study: The study, finished or still running.
        prices: The model's prices, as for :func:`optuna_llm.usage`.
        height: Height of the page, in pixels.

    Raises:
        ValueError: If ``height`` is not positive.
    """
    if height < 1:
        raise ValueError(f"height must be 1 or more: {height!r}.")
    return StudyPage(write_file(PageData(study, prices, inf)), height)
