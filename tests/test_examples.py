from __future__ import annotations

from pathlib import Path
import runpy

import pytest


EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_quickstart_improves_visibly_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(EXAMPLES / "quickstart.py"))["main"]
    storage = f"sqlite:///{tmp_path}/quickstart.db"
    study = main(storage, 12)
    assert study.trials[0].value == pytest.approx(0.881, abs=0.001)
    assert len(main(storage, 13).trials) == 25
    assert study.best_value > 0.9
    printed = capsys.readouterr().out
    assert "accuracy 0.8810" in printed
    assert f"The best of 25 trials: accuracy {study.best_value:.4f}" in printed
    assert study.best_trial.user_attrs["code"] in printed
