"""The recipe for conda says what pyproject.toml says."""

from __future__ import annotations

from pathlib import Path
import re
import sys
from typing import Any

import yaml

import optuna_llm


if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest needs it there.


ROOT = Path(__file__).parents[1]


def read_project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_recipe() -> dict[str, Any]:
    recipe: dict[str, Any] = yaml.safe_load((ROOT / "recipe/recipe.yaml").read_text())
    return recipe


def normalize(requirements: list[str]) -> set[str]:
    return {re.sub(r"\s", "", requirement) for requirement in requirements}


def test_the_recipe_has_the_versions_and_requirements_of_the_project() -> None:
    recipe, project = read_recipe(), read_project()
    known = project["project"]
    assert recipe["context"]["version"] == optuna_llm.__version__
    assert f">={recipe['context']['python_min']}" == known["requires-python"]
    run = normalize(recipe["requirements"]["run"]) - {"python>=${{python_min}}"}
    assert run == normalize(known["dependencies"])
    assert normalize(project["build-system"]["requires"]) <= normalize(
        recipe["requirements"]["host"]
    )


def test_the_recipe_has_the_commands_and_licenses_of_the_project() -> None:
    recipe, known = read_recipe(), read_project()["project"]
    commands = [f"{name} = {function}" for name, function in known["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == commands
    assert recipe["about"]["license"] == known["license"]
    assert recipe["about"]["license_file"] == known["license-files"]
    assert recipe["about"]["summary"] == known["description"]
