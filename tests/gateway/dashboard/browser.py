"""A real Chromium, and what it sees of the page."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--force-color-profile=srgb")
"""For a browser of root in a container; it opens our own page alone."""
PATIENCE_MS = 60_000
"""A busy machine takes seconds to begin with."""


def chromium() -> str:
    """Where it is. Without one the test is skipped, or fails where ``PRFAAS_NEED_CHROMIUM`` says that there is one."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "no Chromium: apt-get install chromium"
        (pytest.fail if os.environ.get("PRFAAS_NEED_CHROMIUM") else pytest.skip)(reason)
    return str(found)


@dataclass
class Seen:
    """A page, with what went wrong on it and what it asked for."""

    page: Page
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    bytes: dict[str, int] = field(default_factory=dict)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith("data:"):
            self.hosts.add(urlsplit(request.url).netloc)

    def follow(self) -> "Seen":
        """Listen from now on."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._request)
        return self


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """One browser for many pages."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS, timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened_without_storage(profile: Path, url: str) -> AsyncIterator[Seen]:
    """The page in a browser that lets no site keep anything, as its settings can say; ``profile`` is empty."""
    (profile / "Default").mkdir()
    settings = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Default" / "Preferences").write_text(json.dumps(settings))
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch_persistent_context(
            str(profile), executable_path=chromium(), args=ARGUMENTS, timeout=PATIENCE_MS
        )
        async with _page_in(made, url) as seen:
            yield seen


@asynccontextmanager
async def opened(browser: Browser, url: str, **context: Any) -> AsyncIterator[Seen]:
    """The page at an address, in a context of its own."""
    made = await browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **context})
    async with _page_in(made, url) as seen:
        yield seen


@asynccontextmanager
async def _page_in(made: BrowserContext, url: str) -> AsyncIterator[Seen]:
    """The page in a context, which is closed afterwards."""
    made.set_default_timeout(PATIENCE_MS)
    try:
        seen = Seen(await made.new_page()).follow()
        await seen.page.goto(f"{url}/dashboard")
        yield seen
    finally:
        await made.close()
