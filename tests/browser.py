"""A headless Chromium that looks at a dashboard of its own, as a person would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import shutil
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from waiting import accepts_connections
from waiting import wait_for


_ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # Chromium refuses to run as root with it.
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--window-size=1280,1600",
]
_SERVE = """
import sys
from optuna_llm.dashboard import run
run(sys.argv[1], port=int(sys.argv[2]), artifact_store=sys.argv[3] or None)
"""


@contextmanager
def open_browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """Chromium; a skip where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in [*_ARGUMENTS, f"--user-data-dir={profile}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


@contextmanager
def serve(storage: str, artifacts: str = "") -> Iterator[str]:
    """The dashboard, served by our own call in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVE, storage, str(port), artifacts], stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: server.poll() is not None or accepts_connections(port))
        assert server.poll() is None
        yield f"http://127.0.0.1:{port}/dashboard"
    finally:
        server.kill()
        server.wait()


class Page:
    """What is to be seen in a browser."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def open(self, url: str) -> None:
        self.browser.get(url)

    def find(self, selector: str) -> list[Any]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def wait_for(self, selector: str, count: int = 1, seconds: float = 60) -> list[Any]:
        """The elements, once there are so many."""
        wait = WebDriverWait(self.browser, seconds)
        return wait.until(lambda _: len(found := self.find(selector)) >= count and found)

    def wait_for_text(self, text: str, seconds: float = 60) -> str:
        """All that the page says, once this is part of it."""
        WebDriverWait(self.browser, seconds).until(lambda _: text in self.text)
        return self.text

    @property
    def text(self) -> str:
        return str(self.browser.execute_script("return document.body.innerText"))

    @property
    def excess_width(self) -> int:
        """How many pixels the page is wider than its window."""
        script = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        return int(self.browser.execute_script(script))

    def save(self, path: Path, height: int | None = None, top: str = "body") -> None:
        """A picture of the page: all of it, or from an element down to some height in pixels."""
        if height is None:
            full = self.browser.execute_script("return document.documentElement.scrollHeight")
            height = max(700, min(full, 4_000))
        self.browser.set_window_size(1_280, height + 140)  # What a window has around the page.
        time.sleep(0.7)  # Plots are drawn anew.
        first = min(self.find(top), key=lambda element: element.location["y"])
        # Below the bar that covers the top of each page.
        script = "arguments[0].style.scrollMarginTop = '80px'; arguments[0].scrollIntoView()"
        self.browser.execute_script(script, first)
        assert self.browser.save_screenshot(str(path))
