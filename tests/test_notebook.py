"""The notebook in docs/ runs, and prints what is stored in it.

With UPDATE_GOLDEN=1 what it prints is stored anew.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest


nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

pytestmark = [
    pytest.mark.slow,  # It starts a kernel.
    # A kernel on this machine is reached without encryption, as Jupyter does.
    pytest.mark.filterwarnings("ignore"),
]

NOTEBOOK = Path(__file__).parents[1] / "docs/tutorial.ipynb"


def read_printed(notebook: object) -> list[str]:
    """What each cell with code prints."""
    return [
        "".join(output["text"] for output in cell.outputs if output.get("name") == "stdout")
        for cell in notebook.cells  # type: ignore[attr-defined]
        if cell.cell_type == "code"
    ]


def test_the_notebook_prints_what_is_stored_in_it(tmp_path: Path) -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(stored)
    run = copy.deepcopy(stored)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        run, kernel_name="python3", timeout=300, resources=resources, record_timing=False
    )
    client.execute()
    if os.environ.get("UPDATE_GOLDEN"):
        for cell in stored.cells:
            if cell.cell_type == "code":
                done = next(other for other in run.cells if other.id == cell.id)
                cell.outputs = [o for o in done.outputs if o.get("name") == "stdout"]
        nbformat.write(stored, NOTEBOOK)
    assert read_printed(run) == read_printed(stored)
    assert sum(map(bool, read_printed(stored))) == 4


def test_only_what_cells_print_is_stored() -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    outputs = [o for cell in stored.cells if cell.cell_type == "code" for o in cell.outputs]
    assert {output.get("name") for output in outputs} == {"stdout"}
