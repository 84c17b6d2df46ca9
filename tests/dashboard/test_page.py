"""The study page in a browser, as a person uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import runpy
import threading
from typing import Any
from wsgiref.simple_server import make_server

from browser import open_browser
from browser import Page
from browser import serve
import optuna
from optuna.storages import get_storage
from optuna.trial import TrialState
from page_studies import make_front_study
from page_studies import make_large_study
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from study_page import choose
from study_page import FIND_PALE
from study_page import FIND_TRIAL
from study_page import list_shown
from study_page import open_page
from study_page import press
from study_page import resize
from study_page import shown_trial
from study_page import wait_for
from study_page import wait_for_list
from study_page import wait_for_trial
from test_dashboard import work

from optuna_llm import get_texts
from optuna_llm import Prices
from optuna_llm import suggest_text
from optuna_llm.dashboard import write_report
from optuna_llm.dashboard._pages import StudyPages
from optuna_llm.dashboard._server import _Handler
from optuna_llm.dashboard._server import _Server


pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
PRICES = Prices(prompt=1, completion=5, cached=0.1)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield Page(browser)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> optuna.Study:
    """The quickstart's study, made once."""
    storage = f"sqlite:///{tmp_path_factory.mktemp('study')}/quickstart.db"
    os.environ.pop("OPTUNA_LLM_MODEL", None)
    study = runpy.run_path(str(TESTS.parent / "examples" / "quickstart.py"))["main"](storage)
    assert isinstance(study, optuna.Study)
    return study


def test_the_quickstart_can_be_read(page: Page, quickstart: optuna.Study, tmp_path: Path) -> None:
    write_report(quickstart, tmp_path / "report.html", prices=PRICES)
    best = quickstart.best_trial
    for width, scheme in ((1_400, "light"), (1_400, "dark"), (390, "light")):
        resize(page, width, scheme=scheme)
        open_page(page, (tmp_path / "report.html").as_uri())
        assert shown_trial(page) == best.number
        said = page.text
        assert f"{best.value:.6g}" in said
        assert f"{len(quickstart.trials)}" in said
        assert "unknown" not in said
        assert page.browser.execute_script(FIND_PALE) == []
        assert page.excess_width <= 0
        assert page.browser.save_screenshot(str(tmp_path / f"page-{width}-{scheme}.png"))
        if os.environ.get("UPDATE_PICTURES") and (width, scheme) == (1_400, "light"):
            page.browser.save_screenshot(str(TESTS / "pictures" / "page.png"))
    assert page.browser.get_log("browser") == []


def test_the_best_text_is_compared_with_the_first(
    page: Page, quickstart: optuna.Study, tmp_path: Path
) -> None:
    write_report(quickstart, tmp_path / "report.html", prices=PRICES)
    resize(page, 1_400)
    open_page(page, (tmp_path / "report.html").as_uri())
    best = quickstart.best_trial
    wait_for_trial(page, best.number, 0)
    before, after = get_texts(quickstart.trials[0])["code"], get_texts(best)["code"]
    if before != after:
        marked = page.wait_for(".trial ins, .trial del, tr.added, tr.removed")
        assert marked
    page.find("button.whole")[0].click()
    script = "return [...document.querySelectorAll('.diff .code')].map(e => e.textContent)"
    assert page.browser.execute_script(script) == after.removesuffix("\n").split("\n")
    page.find("button.sides")[0].click()
    [table] = page.find("table.diff")
    assert "sides" in table.get_attribute("class") or before == after


def test_a_click_in_the_chart_opens_a_trial_and_the_address_leads_back_to_it(
    page: Page, tmp_path: Path
) -> None:
    study = make_large_study(40)
    write_report(study, tmp_path / "report.html", prices=PRICES)
    address = (tmp_path / "report.html").as_uri()
    resize(page, 1_400)
    open_page(page, address)
    x, y, number = page.browser.execute_script(FIND_TRIAL, shown_trial(page))
    [canvas] = page.find("canvas.top")
    ActionChains(page.browser).move_to_element_with_offset(canvas, x, y).click().perform()
    wait_for_trial(page, number)
    link = page.browser.current_url
    assert link.endswith(f"#trial={number}")
    page.browser.back()
    wait_for_trial(page, study.best_trial.number)
    open_page(page, address, f"#trial={number}&against=1")
    wait_for_trial(page, number, 1)
    # By the field that asks for any other trial.
    page.find("select[aria-label='Compare with'] option[value='?']")[0].click()
    page.find(".compare input")[0].send_keys("3" + Keys.ENTER)
    wait_for_trial(page, number, 3)
    assert page.browser.current_url.endswith(f"#trial={number}&against=3")
    page.open("about:blank")
    page.open(f"{address}#trial=4000&against=<b>")
    page.wait_for_text("There is no trial 4000.")


def test_keys_and_filters_lead_through_the_trials(page: Page, tmp_path: Path) -> None:
    study = make_large_study(60)
    write_report(study, tmp_path / "report.html", prices=PRICES)
    resize(page, 1_400)
    open_page(page, (tmp_path / "report.html").as_uri(), "#trial=30")
    for key, number in (("j", 29), ("j", 28), ("k", 29)):
        press(page, key)
        wait_for_trial(page, number)
    failed = [t.number for t in study.trials if t.state == TrialState.FAIL]
    choose(page, "Show", "failed")
    wait_for_list(page, failed[::-1])
    choose(page, "Show", "all")
    choose(page, "Order", "best")
    wait_for(page, lambda: list_shown(page)[0] == study.best_trial.number)
    choose(page, "Order", "oldest")
    press(page, "/")
    press(page, "UNUSED hull'")
    word = [t.number for t in study.trials if "'hull'" in t.user_attrs["feedback"]]
    rationale = [t.number for t in study.trials if told(t, "unused")]
    wait_for_list(page, [n for n in word if n in rationale])
    [query] = page.find("input[type=search]")
    query.clear()
    query.send_keys("#17")
    wait_for_list(page, [17])
    press(page, Keys.ESCAPE)
    press(page, "d")
    wait_for(page, lambda: page.find("button.sides[aria-pressed=true]"))
    query.clear()
    query.send_keys(" ")
    base = [t.number for t in study.trials if t.user_attrs["llm:proposal"]["source"] != "model"]
    [legend] = [b for b in page.find(".legend button") if b.text.startswith("model")]
    legend.click()
    wait_for_list(page, base)


@contextmanager
def serve_pages(storage: str, token: str) -> Iterator[str]:
    """The study pages alone, with a token that is known."""
    app = StudyPages(lambda *_: [], get_storage(storage), PRICES, token)
    with make_server("127.0.0.1", 0, app, _Server, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/llm/studies/1"
        finally:
            server.shutdown()
            thread.join()


def test_a_person_can_steer_a_study_from_its_page(page: Page, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = make_large_study(5, 500, storage)
    resize(page, 1_400)
    with serve_pages(storage, "secret") as address:
        open_page(page, address, "#trial=2")
        page.find(".steer summary")[0].click()
        [key] = page.find(".steer .token")
        key.send_keys("guess")
        page.find("button.enqueue")[0].click()
        page.wait_for_text("The token is not the one that the server printed")
        assert len(study.trials) == 5
        key.clear()
        key.send_keys("secret")
        page.find(".steer textarea")[0].send_keys("    return None  # as Ada says")
        page.find("button.enqueue")[0].click()
        page.wait_for_text("Enqueued as trial 5")
        wait_for_list(page, [5, 4, 3, 2, 1, 0])
        trial = study.ask()
        said = suggest_text(trial, "code", "")
        assert said == get_texts(study.trials[2])["code"] + "    return None  # as Ada says"
        assert trial.suggest_float("cooling", 0, 1) == study.trials[2].params["cooling"]
        page.find("button.mark")[0].click()
        page.wait_for_text("Trial 2 is marked.")
        choose(page, "Show", "marked")
        wait_for_list(page, [2])


def told(trial: Any, word: str) -> bool:
    return word in trial.user_attrs["llm:proposal"].get("rationale", "")


def test_the_chart_has_other_axes_and_zooms(page: Page, tmp_path: Path) -> None:
    study = make_large_study(60)
    write_report(study, tmp_path / "report.html", prices=PRICES)
    resize(page, 1_400)
    open_page(page, (tmp_path / "report.html").as_uri())
    look = "return document.querySelector('canvas').toDataURL()"
    pictures = {page.browser.execute_script(look)}
    for axis in ("cost", "tokens", "time", "param:cooling", "trial"):
        choose(page, "Horizontal axis", axis)
        if axis != "trial":
            wait_for(page, lambda: page.browser.execute_script(look) not in pictures)
            pictures.add(page.browser.execute_script(look))
    for words in ("Zoom in", "Zoom in"):
        page.find(f"button[aria-label='{words}']")[0].click()
        wait_for(page, lambda: page.browser.execute_script(look) not in pictures)
        pictures.add(page.browser.execute_script(look))


def test_new_trials_of_two_workers_appear_without_a_reload(page: Page, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/running.db"
    study = optuna.create_study(study_name="s", storage=storage)
    resize(page, 1_400)
    with serve(storage) as url:
        address = url.replace("/dashboard", f"/llm/studies/{study._study_id}")
        page.open(address)
        page.wait_for_text("No trial has begun yet.")
        page.browser.execute_script("window.stayed = true")
        with work(storage, "a"), work(storage, "b"):
            wait_for(page, lambda: len(list_shown(page)) >= 6)
            page.wait_for_text("2 running")
            shown = len(list_shown(page))
            wait_for(page, lambda: len(list_shown(page)) > shown)
            page.wait_for(".trial ins, .trial tr.added")
            page.browser.save_screenshot(str(tmp_path / "running.png"))
        assert page.browser.execute_script("return window.stayed")
        assert page.text.count("live") == 1
    page.wait_for_text("no answer from the server")


def test_two_thousand_trials_stay_at_hand(page: Page, tmp_path: Path) -> None:
    study = make_large_study(2_000)
    write_report(study, tmp_path / "report.html", prices=PRICES)
    resize(page, 1_400)
    open_page(page, (tmp_path / "report.html").as_uri())
    assert shown_trial(page) == study.best_trial.number
    assert len(list_shown(page)) <= 200
    page.browser.execute_script("location.hash = '#trial=700'")
    wait_for_trial(page, 700)
    assert 700 in list_shown(page)
    press(page, "j")
    wait_for_trial(page, 699)


def test_a_front_and_what_violates_constraints_are_shown(page: Page, tmp_path: Path) -> None:
    study = make_front_study()
    write_report(study, tmp_path / "report.html")
    resize(page, 1_400)
    open_page(page, (tmp_path / "report.html").as_uri())
    best = {trial.number for trial in study.best_trials}
    assert f"{len(best)} trials" in page.text
    assert shown_trial(page) in best
    infeasible = [t.number for t in study.trials if t.system_attrs["constraints"][0] > 0]
    choose(page, "Show", "infeasible")
    wait_for_list(page, infeasible[::-1])
    page.find(".trials button")[0].click()
    wait_for_trial(page, infeasible[-1])
    assert "Infeasible. Constraints" in page.text
    # Dominance as the page reckons it is that of Optuna.
    choose(page, "Show", "steps")
    front = "return [...document.querySelectorAll('.value.step')].map(e => e.textContent).length"
    choose(page, "Show", "all")
    assert page.browser.execute_script(front) == len(best)
    page.browser.save_screenshot(str(tmp_path / "front.png"))
