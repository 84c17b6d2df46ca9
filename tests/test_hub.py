"""The package for OptunaHub's registry, loaded as its users load it."""

from __future__ import annotations

import functools
from pathlib import Path
import re
import runpy

import optuna
import pytest

import optuna_llm


optunahub = pytest.importorskip("optunahub", reason="optunahub is not installed")

pytestmark = pytest.mark.slow  # It loads clients of git and GitHub.

ROOT = Path(__file__).parents[1]
REGISTRY = ROOT / "hub/package"
PACKAGE = REGISTRY / "samplers/llm"
README = (PACKAGE / "README.md").read_text(encoding="utf-8")

load = functools.partial(optunahub.load_local_module, registry_root=str(REGISTRY))


def read_front_matter() -> dict[str, str]:
    block = re.match(r"---\n(.*?)\n---\n", README, re.DOTALL)
    assert block is not None
    return dict(line.split(": ", 1) for line in block[1].splitlines())


def test_the_sampler_of_the_package_runs_a_study() -> None:
    llm = load("samplers/llm")
    assert llm.LLMSampler is optuna_llm.LLMSampler
    study = optuna.create_study(sampler=llm.LLMSampler(model="offline", seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2, n_trials=3)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3


def test_its_readme_names_what_it_offers() -> None:
    apis = README.partition("## APIs\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^- `(\w+)", apis, re.MULTILINE)) == set(load("samplers/llm").__all__)


def test_the_code_of_its_readme_and_its_example_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(optunahub, "load_module", load)  # Not from GitHub.
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    runpy.run_path(str(PACKAGE / "example.py"))
    assert "'greeting': " in capsys.readouterr().out


def test_it_has_the_front_matter_that_the_registry_reads() -> None:
    front = read_front_matter()
    keys = ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert list(front) == keys
    assert re.match(r"\[sampler, .+\]$", front["tags"])
    assert re.match(r"\[\d+\.\d+\.\d+(, \d+\.\d+\.\d+)*\]$", front["optuna_versions"])
    assert ": " not in front["description"]
    assert front["license"] == "MIT License"
    assert (PACKAGE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
