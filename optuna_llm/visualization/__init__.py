"""Figures of what only a study with a model has: sources, lineage, cost.

Named and called like those of ``optuna.visualization``, and made with plotly as they are
(``pip install "optuna-llm[plots]"``):

.. code-block:: python

    from optuna_llm.visualization import plot_lineage

    plot_lineage(study).show()
"""

from __future__ import annotations

from optuna_llm.visualization._figures import plot_lineage
from optuna_llm.visualization._figures import plot_source_history
from optuna_llm.visualization._figures import plot_usage


__all__ = ["plot_lineage", "plot_source_history", "plot_usage"]
