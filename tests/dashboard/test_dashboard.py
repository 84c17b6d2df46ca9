"""Studies in a browser, as a person sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import os
from pathlib import Path
import re
import runpy
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

from browser import open_browser
from browser import Page
from browser import serve
import optuna
from optuna.trial import TrialState
from provenance import told
import pytest
from test_notes import trial_note
from waiting import wait_for

from optuna_llm import get_texts
from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.dashboard import annotate
from optuna_llm.testing import ScriptedModel
from optuna_llm.testing import write_reply


pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
PLOTS = ("llm-sources", "llm-lineage", "llm-usage")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield Page(browser)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go."""
    return tmp_path_factory.mktemp("pictures")


def look_at_plots(page: Page) -> None:
    """All three plots are drawn and have points or lines."""
    for plot in PLOTS:
        # A selector would take the colon for its own.
        page.wait_for(
            f"[id='user-defined-plot:{plot}'] .main-svg .point, "
            f"[id='user-defined-plot:{plot}'] .main-svg .js-line"
        )


def test_a_finished_study_can_be_read_in_the_dashboard(
    page: Page, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/quickstart.db"
    monkeypatch.delenv("OPTUNA_LLM_MODEL", raising=False)
    # The pictures that the README shows.
    kept = TESTS / "pictures" if os.environ.get("UPDATE_PICTURES") else tmp_path
    study = runpy.run_path(str(TESTS.parent / "examples" / "quickstart.py"))["main"](storage)
    annotate(study)
    with serve(storage) as url:
        page.open(f"{url}/studies/{study._study_id}")
        look_at_plots(page)
        said = page.wait_for_text(f"Best Trial (number={study.best_trial.number})")
        assert f"{study.best_value:g}" in said
        titles = {title.text for title in page.find(".gtitle")}
        assert {"Values by source", "Lineage", "Best value by cost"} <= titles
        page.save(pictures / "study.png")
        page.save(kept / "plots.png", height=1_060, top="[id^='user-defined-plot']")

        page.open(f"{url}/studies/{study._study_id}/note")
        page.wait_for_text("complete")
        assert len({t.value_of_css_property("color") for t in page.wait_for(".token")}) > 2
        assert get_texts(study.best_trial)["code"].strip() in page.text
        complete = len(study.get_trials(states=[TrialState.COMPLETE]))
        assert f"{complete} complete" in page.text
        page.save(pictures / "note.png")

        improved = next(
            t for t in study.trials[5:] if "**, the best" in trial_note(study, t.number)
        )
        page.open(f"{url}/studies/{study._study_id}/trials?numbers={improved.number}")
        added = [line for line in page.wait_for(".inserted-sign.line") if line.text.strip()]
        gone = [line for line in page.find(".deleted-sign.line") if line.text.strip()]
        assert all(line.text.strip() in get_texts(improved)["code"] for line in added)
        parent = told(improved, "parent")
        assert all(line.text.strip() in get_texts(study.trials[parent])["code"] for line in gone)
        backgrounds = {
            line.value_of_css_property("background-color") for line in (added[0], gone[0])
        }
        assert len(backgrounds) == 2
        assert page.text.count("\nTrial ") >= 10
        assert f"from trial {parent}" in page.text
        assert " ".join(told(improved, "rationale").split()) in " ".join(page.text.split())
        page.save(pictures / "trial.png")
        page.save(kept / "trial.png", height=940)
        # As wide as its code, though the text is one long line to the dashboard.
        assert page.excess_width < 400


WORKER = """
import sys, time, optuna
from optuna_llm import LLMSampler, suggest_text
from optuna_llm.dashboard import DashboardNotes
def objective(trial):
    text = suggest_text(trial, "point", "[7.5, -4.0]")
    trial.set_user_attr("worker", sys.argv[2])
    time.sleep(0.5)
    return sum(float(x) ** 2 for x in text.strip("[] ").split(","))
study = optuna.load_study(
    study_name="s", storage=sys.argv[1], sampler=LLMSampler("Go to 0.", model="offline")
)
study.optimize(objective, callbacks=[DashboardNotes()], catch=Exception)
"""


@contextmanager
def work(storage: str, name: str) -> Iterator[None]:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, storage, name], stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        worker.kill()
        worker.wait()


def find_running(study: optuna.Study) -> int | None:
    """Number of a trial that runs, after the first ones."""
    running = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    return next((trial.number for trial in running if trial.number > 3), None)


def count_complete(page: Page) -> int:
    """How many trials are complete, as the note says."""
    found = re.search(r"(\d+) complete", page.text)
    return int(found[1]) if found else 0


def test_a_study_can_be_watched_while_two_workers_run(
    page: Page, pictures: Path, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/running.db"
    study = optuna.create_study(study_name="s", storage=storage)
    with work(storage, "a"), work(storage, "b"), serve(storage) as url:
        number = wait_for(lambda: find_running(study))
        page.open(f"{url}/studies/{study._study_id}/trials?numbers={number}")
        page.wait_for_text("Running")
        wait_for(lambda: "diff" in trial_note(study, number))
        # An open page reads what is new of a trial until it has ended, and its note comes after.
        page.browser.refresh()
        page.wait_for(".inserted-sign.line")
        assert f"from trial {told(study.trials[number], 'parent')}" in page.text
        page.save(pictures / "running-trial.png")

        page.open(f"{url}/studies/{study._study_id}")
        look_at_plots(page)
        page.save(pictures / "running-study.png")

        page.open(f"{url}/studies/{study._study_id}/note")
        page.wait_for_text("2 running")
        complete = count_complete(page)
        # The study's own note and the plots do change while one looks.
        wait_for(lambda: count_complete(page) > complete)
    trials = study.get_trials(states=[TrialState.COMPLETE])
    noted = {t.user_attrs["worker"] for t in trials if trial_note(study, t.number)}
    assert noted == {"a", "b"}


class Beacon:
    """A server that remembers what it was asked for."""

    def __init__(self) -> None:
        hits: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hits.append(self.path)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.hits = hits
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


CHOICE = "c](javascript:0)"


def make_hostile(url: str) -> str:
    return f"""<script>fetch("{url}/script"); document.title = "taken"</script>
<img src="{url}/img" onerror="document.title='taken'">
![image]({url}/image) ![image][ref] <iframe src="{url}/frame"></iframe>
[click](javascript:document.title='taken') <a href="{url}/a">a</a>
<{url}/auto> {url}/bare www.example.com someone@example.com
[ref]: {url}/ref
```
~~~
````
</pre></code></div>
# A heading | of | mine
$\\href{{javascript:alert(1)}}{{x}}$ &lt;b&gt; \\` `
{"x" * 500_000}
[//]: # (end)"""


def test_hostile_texts_are_shown_verbatim_and_send_no_request(
    page: Page, pictures: Path, tmp_path: Path
) -> None:
    beacon = Beacon()
    hostile = make_hostile(beacon.url)
    replies = [
        write_reply({CHOICE: "b"}, {"code": f"{hostile}\n{i}"}, f"{i}{hostile[:900]}")
        for i in range(3)
    ]
    sampler = LLMSampler(hostile[:2_000], model=ScriptedModel(replies))
    storage = f"sqlite:///{tmp_path}/hostile.db"
    name = hostile[:200].replace("\n", " ")
    study = optuna.create_study(study_name=name, storage=storage, sampler=sampler)
    study.set_metric_names([hostile[:400]])

    def objective(trial: optuna.Trial) -> float:
        suggest_text(trial, "code", hostile, language="<b>", description=hostile[:2_000])
        trial.suggest_categorical(CHOICE, [hostile[:300], "b"])
        report_feedback(trial, hostile)
        return -trial.number

    study.optimize(objective, 4)
    annotate(study)
    with serve(storage) as url:
        for where, picture in (("/note", "hostile-note"), ("/trials?numbers=3", "hostile-trial")):
            page.open(f"{url}/studies/{study._study_id}{where}")
            page.wait_for_text("<script>fetch")
            # The note, without the dashboard's own words around it.
            code = page.wait_for("pre, [class*=language-]")
            note = code[0].find_element("xpath", "./ancestor::*[h2 or blockquote][1]")
            assert not note.find_elements("css selector", "img, script, iframe, h1")
            links = [
                link.get_attribute("href") for link in note.find_elements("css selector", "a")
            ]
            own = urljoin(url, "/llm/studies/")
            assert all(link.startswith(own) for link in links if link)
            assert "![image]" in note.text
            assert "the middle is left out" in note.text
            page.save(pictures / f"{picture}.png")
        page.open(f"{url}/studies/{study._study_id}")
        look_at_plots(page)
        page.save(pictures / "hostile-study.png")
        assert page.browser.title != "taken"
    refused = [entry["message"] for entry in page.browser.get_log("browser")]
    assert not [message for message in refused if beacon.url in message]
    assert beacon.hits == []


def test_artifacts_are_served_from_a_directory(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    (tmp_path / "plot.txt").write_text("*\n**\n")
    (tmp_path / "artifacts").mkdir()
    store = optuna.artifacts.FileSystemArtifactStore(tmp_path / "artifacts")
    artifact = optuna.artifacts.upload_artifact(
        study_or_trial=study, file_path=str(tmp_path / "plot.txt"), artifact_store=store
    )
    with serve(f"sqlite:///{tmp_path}/study.db", str(tmp_path / "artifacts")) as url:
        server = url.removesuffix("/dashboard")
        with urlopen(f"{server}/artifacts/{study._study_id}/{artifact}") as answer:
            assert answer.read() == b"*\n**\n"
