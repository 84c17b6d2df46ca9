"""The study page: first paint, clicks, the size of its file, and what its viewers cost the server.

For a study of 2,000 trials with texts of 5 kB on SQLite: seconds from the navigation to the drawn
page in Chromium, served (once before, then the median of 5) and as a file, beside the page of
optuna-dashboard for the same study until its first plot is drawn; milliseconds from a click on a
trial not seen before to its text with its difference, and those of CPU of the page's main thread
(median and largest of 20); the share of a core that the server takes for 20 pages that poll while
a trial ends every second; and the size of the file for 200 trials. Run it by hand:

    python tests/benchmarks/page.py
"""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from wsgiref.simple_server import make_server

import optuna
from optuna.storages import get_storage
from selenium.webdriver.support.ui import WebDriverWait

from optuna_llm import Prices
from optuna_llm.dashboard import write_report
from optuna_llm.dashboard._pages import StudyPages
from optuna_llm.dashboard._server import _Handler
from optuna_llm.dashboard._server import _Server


sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import open_browser
from browser import Page
from browser import serve
from page_studies import make_large_study


PRICES = Prices(1, 1)
N_CLICKS = 20
N_VIEWERS = 20
SECONDS = 20
AWAIT = """
const look = () => {
  if (!document.querySelector(selector)) requestAnimationFrame(look);
  else requestAnimationFrame(() => setTimeout(() => (window.shownAt = performance.now())));
};
look();
"""
CLICK = """
const [number, done] = arguments;
const shown = document.querySelector(".trial");
const began = performance.now();
new MutationObserver((_, observer) => {
  if (shown.dataset.number !== String(number)) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
}).observe(shown, {attributes: true});
location.hash = `#trial=${number}`;
"""
VIEW = """
import json, sys, threading, time
from urllib.request import urlopen
import optuna
url, storage, viewers, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
study = optuna.load_study(study_name="packing", storage=storage)
end = time.monotonic() + seconds
def view():
    version = ""
    while time.monotonic() < end:
        with urlopen(f"{url}/data?since={version}") as answer:
            if answer.status == 200:
                version = json.load(answer)["version"]
        time.sleep(2)
for _ in range(viewers):
    threading.Thread(target=view).start()
while time.monotonic() < end:
    study.tell(study.ask(), 1.0)
    time.sleep(1)
"""


def time_page(page: Page, address: str, selector: str) -> float:
    """Seconds from the navigation to the frame that shows the element."""
    page.open("about:blank")
    source = {"source": f"const selector = {json.dumps(selector)};{AWAIT}"}
    added = page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source)
    page.open(address)
    wait = WebDriverWait(page.browser, 60, poll_frequency=0.05)
    shown = wait.until(lambda browser: browser.execute_script("return window.shownAt"))
    page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    return float(shown) / 1_000


def repeat(measure: Callable[[], float], times: int = 5) -> tuple[float, float]:
    """The first measurement, and the median of those after it."""
    first = measure()
    return first, statistics.median(measure() for _ in range(times))


def time_clicks(page: Page, n_trials: int) -> str:
    """Milliseconds from a click to what it shows, and those of CPU of the page's main thread."""
    page.browser.set_script_timeout(60)
    page.browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    walls, spent = [], []
    for number in list(range(3, n_trials, n_trials // N_CLICKS))[:N_CLICKS]:
        before = read_cpu(page)
        walls.append(page.browser.execute_async_script(CLICK, number))
        spent.append(1_000 * (read_cpu(page) - before))
    return (
        f"{statistics.median(walls):6.0f} ms  (largest {max(walls):.0f} ms; "
        f"CPU {statistics.median(spent):.0f} ms, largest {max(spent):.0f} ms)"
    )


def read_cpu(page: Page) -> float:
    metrics = page.browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))


def measure_viewers(storage: str, study_id: int) -> float:
    """The share of a core that the server takes, this process being the server."""
    app = StudyPages(lambda *_: [], get_storage(storage), PRICES)
    with make_server("127.0.0.1", 0, app, _Server, _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/llm/studies/{study_id}"
        arguments = [sys.executable, "-W", "ignore", "-c", VIEW, url, storage]
        subprocess.run([*arguments, "1", "1"], check=True)  # What all viewers share.
        begun, spent = time.perf_counter(), time.process_time()
        subprocess.run([*arguments, str(N_VIEWERS), str(SECONDS)], check=True)
        share = (time.process_time() - spent) / (time.perf_counter() - begun)
        server.shutdown()
        thread.join()
    return share


def measure(folder: Path, n_trials: int) -> None:
    storage = f"sqlite:///{folder}/study.db"
    study = make_large_study(n_trials, storage=storage)
    write_report(study, folder / "report.html", prices=PRICES)
    shown = ".trial[data-number]"
    plotted = ".main-svg .scatterlayer .trace"
    with open_browser(folder / "profile") as browser, serve(storage) as url:
        page = Page(browser)
        address = url.replace("/dashboard", f"/llm/studies/{study._study_id}")
        first, warm = repeat(lambda: time_page(page, address, shown))
        clicks = time_clicks(page, n_trials)
        file = (folder / "report.html").as_uri()
        _, from_file = repeat(lambda: time_page(page, file, shown))
        file_clicks = time_clicks(page, n_trials)
        _, dashboard = repeat(lambda: time_page(page, f"{url}/studies/{study._study_id}", plotted))
    print(f"first paint, served     {warm:6.2f} s   ({first:.2f} s for the first visitor)")
    print(f"first paint, file       {from_file:6.2f} s")
    print(f"optuna-dashboard        {dashboard:6.2f} s   ratio {warm / dashboard:.2f}")
    print(f"click, served           {clicks}")
    print(f"click, file             {file_clicks}")
    print(f"server, {N_VIEWERS} viewers {100 * measure_viewers(storage, study._study_id):13.1f} %")


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        write_report(make_large_study(200), f"{folder}/small.html", prices=PRICES)
        size = Path(f"{folder}/small.html").stat().st_size
        print(f"file of 200 trials      {size / 1e6:6.2f} MB")
        measure(Path(folder), 2_000)


if __name__ == "__main__":
    main()
