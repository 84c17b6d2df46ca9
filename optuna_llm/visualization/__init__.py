"""A study in a notebook: the study page, and plots of sources, lineage, cost and cases.

.. code-block:: python

    from optuna_llm.visualization import show

    show(study)

The plots are named and called like those of ``optuna.visualization`` and return plotly figures
(``pip install "optuna-llm[plots]"``):

.. code-block:: python

    from optuna_llm.visualization import plot_lineage

    plot_lineage(study).show()
"""

from __future__ import annotations

from optuna_llm.visualization._plots import plot_cases
from optuna_llm.visualization._plots import plot_lineage
from optuna_llm.visualization._plots import plot_source_history
from optuna_llm.visualization._plots import plot_usage
from optuna_llm.visualization._show import show


__all__ = ["plot_cases", "plot_lineage", "plot_source_history", "plot_usage", "show"]
