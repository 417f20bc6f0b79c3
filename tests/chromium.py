"""Headless Chromium, as a reader's browser: what it asked for, what it complained about, what it shows."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BROWSERS = ("chromium", "chromium-browser")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-dev-shm-usage",
)  # fmt: skip
_PATIENCE_S = 120
"""A guard against hanging for ever, not an expectation."""


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.driver.get("about:blank")
        self.requests()  # those of the page it began with are no page's of ours

    def open(self, page: Path) -> None:
        """Open a page from disk and wait until every chart that is not folded away is drawn."""
        self.driver.get(page.as_uri())
        self.wait("return !document.querySelector('.chart') || performance.getEntriesByName('drawn').length")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> Any:
        """Wait until JavaScript returns something true, and return that."""
        return WebDriverWait(self.driver, _PATIENCE_S).until(lambda _driver: self.run(script))

    def emulate(self, *, width: int, height: int = 900, dark: bool = False, media: str = "") -> None:
        """Be a screen of this size, and of this taste."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})

    def complaints(self) -> list[str]:
        """Return what the console holds: errors, warnings, and whatever else was logged."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """Return every address that was asked for."""
        log = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))  # type: ignore[no-untyped-call]
        return [e["params"]["request"]["url"] for e in log if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self, file: Path) -> None:
        """Keep a picture of the whole page."""
        found = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
        )
        file.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start a browser with a fresh profile, without any request of its own.

    Raises:
        FileNotFoundError: it is not installed; names the remedy.
    """
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    driven_by = shutil.which("chromedriver")
    if browser is None or driven_by is None:
        raise FileNotFoundError("Chromium or its driver is not installed: ./bootstrap.sh test")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driven_by))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
