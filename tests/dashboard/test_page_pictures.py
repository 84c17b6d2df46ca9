"""The pictures of the study page's chart, as a person looks at them and points at them."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import re
from typing import Any

from browser import open_browser
from browser import Page
import optuna
from page_studies import make_case_study
from page_studies import make_front_study
from page_studies import make_large_study
from page_studies import N_CASES
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from study_page import choose
from study_page import list_shown
from study_page import open_page
from study_page import resize
from study_page import shown_trial
from study_page import wait_for
from study_page import wait_for_list
from study_page import wait_for_trial
from test_page import serve_pages

from optuna_llm import Prices
from optuna_llm import report_case
from optuna_llm.dashboard import write_report


pytestmark = pytest.mark.slow

POINT_AT_ALL = """
// What the page says where the pointer is, all over the chart.
const canvas = document.querySelector("canvas.top"), box = canvas.getBoundingClientRect();
const told = new Map(), tip = document.querySelector(".tip");
for (let y = 2; y < box.height; y += arguments[0]) {
  for (let x = 2; x < box.width; x += arguments[0]) {
    const [clientX, clientY] = [box.left + x, box.top + y];
    canvas.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
    if (canvas.classList.contains("hit")) told.set(tip.textContent, [x, y]);
  }
}
return [...told];
"""
LOOK = "return document.querySelector('canvas').toDataURL()"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield Page(browser)


@pytest.fixture(scope="module")
def cases() -> optuna.Study:
    return make_case_study()


def show(page: Page, study: optuna.Study, folder: Path, hash_: str = "") -> str:
    write_report(study, folder / "report.html", prices=Prices(1, 5))
    resize(page, 1_400)
    address = (folder / "report.html").as_uri()
    open_page(page, address, hash_)
    return address


def point_at_all(page: Page, step: int) -> list[tuple[str, list[int]]]:
    told = page.browser.execute_script(POINT_AT_ALL, step)
    return [(words, place) for words, place in told]


def find_told(page: Page) -> set[int]:
    """Numbers of the trials that the chart has something to say of."""
    return {int(re.match(r"Trial (\d+)", words)[1]) for words, _ in point_at_all(page, 4)}


def offered(page: Page) -> list[str]:
    script = "return [...document.querySelector('[aria-label=Picture]').options].map(o => o.value)"
    return list(page.browser.execute_script(script))


def find_steps(trials: list[Any]) -> set[int]:
    """Numbers of the trials that were better than all before them."""
    found, best = set(), float("-inf")
    for trial in trials:
        if trial.value > best:
            best = trial.value
            found.add(trial.number)
    return found


def test_each_picture_is_drawn_and_has_an_address(
    page: Page, cases: optuna.Study, tmp_path: Path
) -> None:
    address = show(page, cases, tmp_path)
    assert offered(page) == ["lineage", "best", "proposers", "cases", "parameters"]
    wait_for(page, lambda: page.browser.execute_script(LOOK))
    pictures = [page.browser.execute_script(LOOK)]
    for view in offered(page)[1:]:
        choose(page, "Picture", view)
        wait_for(page, lambda: page.browser.execute_script(LOOK) not in pictures)
        assert page.browser.current_url == f"{address}#view={view}"
        for width, scheme in ((390, "dark"), (1_400, "light")):
            resize(page, width, scheme=scheme)
            assert page.excess_width <= 0
            page.browser.save_screenshot(str(tmp_path / f"{view}-{width}.png"))
        pictures.append(page.browser.execute_script(LOOK))
    assert len(set(pictures)) == 5
    # The address leads to the same picture, and a click keeps it.
    open_page(page, address, "#trial=7&view=cases")
    assert page.find("[aria-label=Picture]")[0].get_attribute("value") == "cases"
    page.find(".trials button")[0].click()
    wait_for_trial(page, 39)
    assert page.browser.current_url.endswith("#trial=39&view=cases")
    assert page.browser.get_log("browser") == []


def test_the_best_so_far_has_the_trials_that_were_better_than_all_before(
    page: Page, cases: optuna.Study, tmp_path: Path
) -> None:
    show(page, cases, tmp_path, "#view=best")
    assert find_told(page) == find_steps(cases.trials)
    choose(page, "Picture", "proposers")
    own: dict[str, list[Any]] = {}
    for trial in cases.trials:
        told = trial.user_attrs["llm:proposal"]
        own.setdefault(told.get("proposer", "initial"), []).append(trial)
    expected = set.union(*map(find_steps, own.values()))
    assert expected > find_steps(cases.trials)
    wait_for(page, lambda: find_told(page) == expected)
    axes = page.find("[aria-label='Horizontal axis'] option")
    assert [axis.get_attribute("value") for axis in axes] == ["trial", "cost", "tokens", "time"]


def test_a_cell_tells_of_a_trial_and_a_case(
    page: Page, cases: optuna.Study, tmp_path: Path
) -> None:
    show(page, cases, tmp_path, "#view=cases")
    wait_for(page, lambda: find_told(page) == set(range(40)))
    names = cases.user_attrs["llm:cases"]
    by_name = {name: int(number) for number, name in names.items()}
    seen = set()
    for words, _ in point_at_all(page, 5):
        number = int(re.match(r"Trial (\d+)", words)[1])
        found = re.search(r"((?:\w+) of invoice \d+): ([01])", words)
        assert found, words
        case = by_name[next(name for name in names.values() if found[1].endswith(name))]
        assert float(found[2]) == cases.trials[number].intermediate_values[case]
        seen.add((number, case))
    assert len(seen) == 40 * 24
    *_, (words, (x, y)) = [told for told in point_at_all(page, 5) if "Trial 12 " in told[0]]
    [canvas] = page.find("canvas.top")
    middle = [canvas.size["width"] / 2, canvas.size["height"] / 2]
    move = ActionChains(page.browser).move_to_element_with_offset
    move(canvas, x - middle[0], y - middle[1]).click().perform()
    wait_for_trial(page, 12)
    # The columns are the trials that the list shows, in its order.
    choose(page, "Show", "steps")
    wait_for(page, lambda: find_told(page) == find_steps(cases.trials))
    top = read_top_case(page)
    page.find("button[title^='Cases first']")[0].click()
    wait_for(page, lambda: read_top_case(page) != top)


def read_top_case(page: Page) -> str:
    return min(point_at_all(page, 5), key=lambda told: told[1][1])[0].partition("invoice ")[2]


def test_a_drag_along_an_axis_chooses_trials(
    page: Page, cases: optuna.Study, tmp_path: Path
) -> None:
    show(page, cases, tmp_path, "#view=parameters")
    assert find_told(page) == set(range(40))
    [canvas] = page.find("canvas.top")
    width, height = canvas.size["width"], canvas.size["height"]
    # The axis at the left, from above its upper end to its middle.
    drag = ActionChains(page.browser)
    drag.move_to_element_with_offset(canvas, 46 - width / 2, 40 - height / 2).click_and_hold()
    drag.move_by_offset(2, height // 2 - 40).release().perform()
    wait_for(page, lambda: 0 < len(list_shown(page)) < 40)
    chosen = set(list_shown(page))
    temperatures = {t.number: t.params["temperature"] for t in cases.trials}
    least = min(temperatures[number] for number in chosen)
    assert chosen == {number for number, t in temperatures.items() if t >= least}
    assert len(chosen) > 5
    [clear] = [b for b in page.find(".plot button") if b.text == "clear temperature"]
    clear.click()
    wait_for_list(page, list(range(39, -1, -1)))


def test_pictures_of_a_front_and_of_many_trials(page: Page, tmp_path: Path) -> None:
    study = make_front_study()
    show(page, study, tmp_path, "#view=parameters")
    assert offered(page) == ["lineage", "best", "parameters"]
    choose(page, "Picture", "best")
    choose(page, "Objective", "0")
    best, steps = float("-inf"), set()
    for trial in study.trials:
        if trial.system_attrs["constraints"][0] <= 0 and trial.values[0] > best:
            best = trial.values[0]
            steps.add(trial.number)
    wait_for(page, lambda: find_told(page) == steps)
    show(page, make_large_study(2_000, 500), tmp_path, "#view=best")
    assert find_told(page)
    choose(page, "Picture", "parameters")
    wait_for(page, lambda: len(find_told(page)) > 100)
    assert page.browser.get_log("browser") == []


def test_a_trial_that_ends_while_one_looks_joins_the_cases(page: Page, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = make_case_study(storage, 6)
    resize(page, 1_400)
    with serve_pages(storage, "") as address:
        open_page(page, address, "#view=cases&trial=2")
        wait_for(page, lambda: find_told(page) == set(range(6)))
        trial = study.ask()
        for case in range(N_CASES):
            report_case(trial, case, 1.0)
        study.tell(trial, 1.0)
        wait_for(page, lambda: find_told(page) == set(range(7)))
    assert shown_trial(page) == 2


def test_a_study_that_says_nothing_of_cases_has_no_picture_of_them(
    page: Page, tmp_path: Path
) -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), 3)
    show(page, study, tmp_path, "#view=cases&trial=1")
    wait_for_trial(page, 1)
    assert "cases" not in offered(page)
    assert page.find("[aria-label=Picture]")[0].get_attribute("value") == "lineage"
    for unknown in ("__proto__", "constructor", "else"):
        open_page(page, (tmp_path / "report.html").as_uri(), f"#trial=2&view={unknown}")
        wait_for_trial(page, 2)
    assert page.browser.get_log("browser") == []


def test_prompt_and_reply_are_shown_when_they_are_asked_for(
    page: Page, cases: optuna.Study, tmp_path: Path
) -> None:
    began = cases.trials[0].datetime_start
    assert began is not None
    messages = [{"role": "user", "content": "Be <b>brief</b>. " * 300}]
    with (log := tmp_path / "calls.jsonl").open("w") as file:
        for number in (3, 4):
            told = {"time": began.astimezone().isoformat(), "trial": number, "study": "support"}
            call = {**told, "messages": messages, "reply": f"The reply {number}."}
            file.write(json.dumps(call) + "\n")
    write_report(cases, tmp_path / "report.html", log_file=log)
    resize(page, 1_400)
    open_page(page, (tmp_path / "report.html").as_uri(), "#trial=3")
    assert "The reply 3." not in page.text
    page.find(".talk > summary")[0].click()
    page.wait_for_text("The reply 3.")
    assert "Be <b>brief</b>." not in page.text
    page.find(".call summary")[0].click()
    page.wait_for_text("Be <b>brief</b>. Be <b>brief</b>.")
    page.find(".trials button[data-number='4']")[0].click()
    page.wait_for_text("The reply 4.")
    page.find(".trials button[data-number='5']")[0].click()
    page.wait_for_text("has no call for this trial")
