"""Studies in a browser: the study page, notes and plots for optuna-dashboard, and a server.

.. code-block:: python

    from optuna_llm.dashboard import DashboardNotes, run

    study.optimize(objective, n_trials=100, callbacks=[DashboardNotes()])
    run("sqlite:///study.db")  # http://127.0.0.1:8080
"""

from __future__ import annotations

from optuna_llm.dashboard._annotate import annotate
from optuna_llm.dashboard._callback import DashboardNotes
from optuna_llm.dashboard._report import write_report
from optuna_llm.dashboard._server import run


__all__ = ["DashboardNotes", "annotate", "run", "write_report"]
