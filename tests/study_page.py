"""The study page in a browser: what a person does there, and what is to be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from browser import Page
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import WebDriverWait


FIND_TRIAL = """
// Where a click would choose a trial other than the one that is shown.
const canvas = document.querySelector("canvas.top"), box = canvas.getBoundingClientRect();
for (let y = 20; y < box.height - 70; y += 6) {
  for (let x = 70; x < box.width / 2; x += 6) {
    const [clientX, clientY] = [box.left + x, box.top + y];
    canvas.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY}));
    if (!canvas.classList.contains("hit")) continue;
    const number = Number(/Trial (\\d+)/.exec(document.querySelector(".tip").innerText)[1]);
    if (number !== arguments[0]) return [x - box.width / 2, y - box.height / 2, number];
  }
}
"""
FIND_PALE = """
// Words whose contrast to what is behind them is below that of WCAG AA.
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const color = parse(getComputedStyle(e).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const pale = [];
for (const element of document.querySelectorAll("body *")) {
  const words = [...element.childNodes].filter((n) => n.nodeType === 3 && n.data.trim());
  if (!words.length || !element.checkVisibility()) continue;
  const [a, b] = [parse(getComputedStyle(element).color), behind(element)].map(luminance);
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) pale.push([words[0].data, ratio]);
}
return pale;
"""


def resize(page: Page, width: int, height: int = 1_000, scheme: str = "light") -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def open_page(page: Page, address: str, hash_: str = "") -> None:
    """Open a study page anew, until it shows a trial."""
    page.open("about:blank")
    page.open(f"{address}{hash_}")
    page.wait_for(".trial[data-number]")


def wait_for_trial(page: Page, number: int, against: int | None = None) -> None:
    other = "" if against is None else f"[data-against='{against}']"
    page.wait_for(f".trial[data-number='{number}']{other}")


def shown_trial(page: Page) -> int:
    return int(page.find(".trial")[0].get_attribute("data-number"))


def press(page: Page, key: str) -> None:
    ActionChains(page.browser).send_keys(key).perform()


def list_shown(page: Page) -> list[int]:
    script = "return [...document.querySelectorAll('.trials button')].map(b => +b.dataset.number)"
    return list(page.browser.execute_script(script))


def wait_for_list(page: Page, numbers: list[int]) -> None:
    WebDriverWait(page.browser, 60).until(lambda _: list_shown(page) == numbers)


def choose(page: Page, label: str, value: str) -> None:
    [option] = page.find(f"select[aria-label='{label}'] option[value='{value}']")
    option.click()


def wait_for(page: Page, find: Callable[[], Any]) -> None:
    WebDriverWait(page.browser, 60).until(lambda _: find())
