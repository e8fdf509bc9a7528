"""How soon the page at ``/dashboard`` is there: first contentful paint by the browser's own clock, and its bytes.

A real Chromium, with nothing cached, opens the page of a gateway in front of eight stub engines; everything, browser
included, shares one machine. ``live`` is when the first status and decisions are drawn. Beside it how long one
``/prfaas/status`` takes, client included.

    python -m benchmarks.dashboard [--rounds 21]
"""

import argparse
import asyncio
import statistics
import time
from typing import Any

from playwright.async_api import Browser

from benchmarks import report
from tests.gateway.dashboard.browser import launched
from tests.gateway.dashboard.fleet import Populated, populated

TIMES = """() => {
  const files = performance.getEntriesByType("resource").filter((each) => !each.name.includes("/prfaas/"));
  const page = performance.getEntriesByType("navigation")[0];
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const bytes = files.reduce((sum, each) => sum + each.transferSize, page.transferSize);
  return { paint_ms: paint.startTime, live_ms: performance.now(), bytes, files: files.length + 1 };
}"""


async def measure(rounds: int) -> dict[str, Any]:
    """Medians and worst cases."""
    async with populated() as fleet, launched() as browser:
        await asyncio.gather(*(fleet.chat(tokens) for tokens in (20, 400, 5_000, 20_000)))
        await look(browser, fleet)  # the browser's own start
        looks = [await look(browser, fleet) for _ in range(rounds)]
        status_ms = [await asked_ms(fleet) for _ in range(rounds)]
    return {
        "rounds": rounds,
        "first_paint_ms": round(statistics.median(each["paint_ms"] for each in looks)),
        "first_paint_worst_ms": round(max(each["paint_ms"] for each in looks)),
        "live_ms": round(statistics.median(each["live_ms"] for each in looks)),
        "bytes": looks[0]["bytes"],
        "files": looks[0]["files"],
        "status_ms": round(statistics.median(status_ms), 2),
    }


async def look(browser: Browser, fleet: Populated) -> dict[str, float]:
    """Open the page in a context of its own, which has nothing cached."""
    context = await browser.new_context(viewport={"width": 1440, "height": 1000})
    try:
        page = await context.new_page()
        await page.goto(f"{fleet.url}/dashboard")
        await page.wait_for_selector("#pulse[data-state=live]")
        times: dict[str, float] = await page.evaluate(TIMES)
        return times
    finally:
        await context.close()


async def asked_ms(fleet: Populated) -> float:
    """One status over HTTP, client included."""
    began = time.perf_counter()
    async with fleet.client.get(f"{fleet.url}/prfaas/status") as answer:
        await answer.read()
    return (time.perf_counter() - began) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    report.emit("dashboard", asyncio.run(measure(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
