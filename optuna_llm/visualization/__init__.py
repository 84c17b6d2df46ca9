"""Plots of what is particular to studies with a model: sources, lineage, cost, cases.

They are named and called like those of ``optuna.visualization`` and return plotly figures
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


__all__ = ["plot_cases", "plot_lineage", "plot_source_history", "plot_usage"]
