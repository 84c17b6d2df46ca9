"""What a study page does with texts that attack it: it shows them."""

from __future__ import annotations

from datetime import datetime
import json
from pathlib import Path

from browser import open_browser
from browser import Page
from browser import serve
import optuna
from page_studies import make_hostile_study
import pytest
from study_page import choose
from study_page import resize
from study_page import wait_for_trial
from test_dashboard import Beacon

from optuna_llm import Prices
from optuna_llm.dashboard import write_report
from optuna_llm.visualization import show


PRICES = Prices(1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "server", "notebook"])
def test_hostile_texts_are_shown_and_nothing_else(tmp_path: Path, kind: str) -> None:
    with open_browser(tmp_path / "profile") as browser:
        attack(Page(browser), tmp_path, kind)


def attack(page: Page, tmp_path: Path, kind: str) -> None:
    beacon = Beacon()
    resize(page, 1_400)
    if kind == "server":
        storage = f"sqlite:///{tmp_path}/hostile.db"
        study = make_hostile_study(beacon.url, storage)
        with serve(storage) as url:
            address = url.replace("/dashboard", f"/llm/studies/{study._study_id}")
            look_at_all(page, address)
    else:
        study = make_hostile_study(beacon.url)
        log = write_hostile_log(study, tmp_path)
        write_report(study, tmp_path / "report.html", log_file=log)
        if kind == "notebook":
            notebook = f"<!doctype html><body>{show(study)._repr_html_()}"
            (tmp_path / "report.html").write_text(notebook, "utf-8")
        look_at_all(page, (tmp_path / "report.html").as_uri(), is_framed=kind == "notebook")
    assert page.browser.get_log("browser") == []
    assert beacon.hits == []


def write_hostile_log(study: optuna.Study, folder: Path) -> Path:
    """A log in which the server, too, answered with attacks."""
    with (folder / "calls.jsonl").open("w") as log:
        for trial in study.trials:
            attack = trial.user_attrs["feedback"]
            told = {"time": datetime.now().astimezone().isoformat(), "trial": trial.number}
            messages = [{"role": attack, "content": attack}]
            call = {"messages": messages, "reply": attack, "model": attack, "outcome": attack}
            log.write(json.dumps(told | call) + "\n")
    return folder / "calls.jsonl"


def look_at_all(page: Page, address: str, is_framed: bool = False) -> None:
    """Go through all trials in all views, and hover over what can be hovered over."""
    page.open("about:blank")
    page.open(address)
    if is_framed:
        page.browser.switch_to.frame(page.wait_for("iframe")[0])
    page.wait_for(".trial[data-number]")
    for view in ("best", "proposers", "cases", "parameters", "lineage"):
        choose(page, "Picture", view)
    for summary in page.find(".talk > summary"):
        summary.click()
        page.wait_for(".call .said")
    for item in range(6):
        page.find(".trials button")[item].click()
        wait_for_trial(page, 5 - item)
        said = page.text
        assert said.count("<script>fetch(") > 5
        assert "\\u{202e}" in said
        for view in ("sides", "whole", "inline"):
            for button in page.find(f"button.{view}"):
                button.click()
    # One that cannot be seen may be in the text of an option.
    assert not page.browser.execute_script("return document.body.dataset.hacked")
    assert not page.find("main img, main iframe, main svg, header img, [onerror], [onmouseover]")
    assert page.browser.execute_script(
        "return document.querySelectorAll('script:not([type])').length <= 1"
    )
    page.browser.switch_to.default_content()
