"""Pictures of the page, of a fleet with some seconds of traffic behind it.

``python -m tests.gateway.dashboard.pictures FOLDER [SECONDS]``
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.async_api import Browser, expect

from tests.gateway.dashboard.browser import launched, opened
from tests.gateway.dashboard.fleet import Populated, populated

VIEWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1440, "height": 1000}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 1000}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
    "middle": {"color_scheme": "dark", "viewport": {"width": 900, "height": 1000}},
}
WANTED = "night-shift-0042"


async def main(folder: Path, seconds: float) -> None:
    """All views of one fleet, side by side so that each sees the same traffic."""
    async with populated(speed=1.0) as fleet, launched() as browser:
        await fleet.trouble()
        busy = asyncio.create_task(fleet.traffic(seconds + 30, every_s=0.35))
        await asyncio.gather(*(view(browser, fleet, folder / f"{name}.png", seconds, name) for name in VIEWS))
        busy.cancel()


async def view(browser: Browser, fleet: Populated, file: Path, seconds: float, name: str) -> None:
    """Look for a while, open a request, and take the whole page."""
    async with opened(browser, fleet.url, **VIEWS[name]) as seen:
        await expect(seen.page.locator("#pulse[data-state=live]")).to_be_visible()
        await asyncio.sleep(seconds)  # the sparklines are of what this page has seen
        request_id = f"{WANTED}-{name}"
        await fleet.chat(18_000, request_id=request_id)
        await seen.page.screenshot(path=file)
        reduce(file)
        row = seen.page.locator(f"tr[data-id='{request_id}']")
        await row.locator("button").click()
        await expect(seen.page.locator("#detail .time")).to_be_visible()
        await seen.page.wait_for_timeout(200)
        await seen.page.screenshot(path=file.with_stem(f"{name}-all"), full_page=True)
        await seen.page.evaluate("document.getElementById('requests').scrollIntoView()")
        await seen.page.screenshot(path=file.with_stem(f"{name}-request"))
        reduce(file.with_stem(f"{name}-request"))
        print(file, seen.errors)


def reduce(file: Path) -> None:
    """A page has few colours: with a palette the file is a third. Rare ones count: they are the states of engines."""
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(file, optimize=True)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(where, float(sys.argv[2]) if len(sys.argv) > 2 else 40.0))
