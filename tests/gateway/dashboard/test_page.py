"""The page in a real browser, in front of a gateway with engines, links and requests of every kind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Error, expect

from prfaas.gateway.operator_key import read_key
from tests.gateway.dashboard.browser import PATIENCE_MS, Seen, launched, opened, opened_without_storage
from tests.gateway.dashboard.fleet import Populated, populated

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
expect.set_options(timeout=PATIENCE_MS)
LIVE = "#pulse[data-state=live]"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet() -> AsyncIterator[Populated]:
    """With trouble, and with some requests behind it."""
    async with populated() as fleet:
        await asyncio.gather(*(fleet.chat(tokens) for tokens in (20, 400, 5_000, 20_000)))
        await fleet.trouble()
        yield fleet


async def live(seen: Seen) -> None:
    """The page shows what the gateway told."""
    await expect(seen.page.locator(LIVE)).to_be_visible()


async def test_it_shows_the_fleet_without_a_mistake(browser: Browser, fleet: Populated) -> None:
    """All engines and links are there in picture and words, nothing is on the console, and nobody else is asked."""
    async with opened(browser, fleet.url) as seen:
        await live(seen)
        for name in ("edge-a1", "cloud-p3", "annex-p1"):
            await expect(seen.page.locator("#map svg text", has_text=name)).to_be_visible()
            await expect(seen.page.locator("#engines th", has_text=name)).to_be_visible()
        words = await seen.page.locator("#map svg").get_attribute("aria-label")
        assert words is not None
        assert "Link annex → edge: broken" in words
        await expect(seen.page.locator("#engines tr", has_text="edge-b1")).to_contain_text("drained")
        await expect(seen.page.locator("#links .link", has_text="cloud → edge")).to_contain_text("of 10.0 Gbit/s")
        await expect(seen.page.locator("#control")).to_contain_text("t = 2,000")
        assert seen.errors == []
        assert seen.hosts == {fleet.url.removeprefix("http://")}


async def test_a_request_appears_and_opens_by_keyboard(browser: Browser, fleet: Populated) -> None:
    """A new request comes by itself; arrows lead to it, Enter opens its timeline, Escape leads back."""
    async with opened(browser, fleet.url) as seen:
        await live(seen)
        page = seen.page
        assert await fleet.chat(9_000, request_id="night-shift-1") == 200
        row = page.locator("#decisions tr", has_text="night-shift-1")
        await expect(row).to_contain_text("remote")
        await page.locator("#decisions button[tabindex='0']").focus()
        await page.keyboard.press("End")
        await page.keyboard.press("Home")
        assert await page.evaluate("document.activeElement.textContent") == "night-shift-1"
        await page.keyboard.press("Enter")
        detail = page.locator("#detail")
        for stage in ("Tokenise", "Prefill", "Transfer", "Inject", "First token", "Answer"):
            await expect(detail.locator("th", has_text=stage)).to_be_visible()
        await expect(detail.locator(".verdict")).to_contain_text("of the transfer went on beside the prefill")
        assert await page.evaluate("document.activeElement.id") == "detail-title"
        await page.keyboard.press("Escape")
        await expect(detail).to_be_hidden()
        assert await page.evaluate("document.activeElement.textContent") == "night-shift-1"
        assert seen.errors == []


async def test_requests_are_found(browser: Browser, fleet: Populated) -> None:
    """By outcome, by words, and by the id in the address; an id that nobody keeps is said to be unknown."""
    assert await fleet.chat(30, request_id="short-one") == 200
    async with opened(browser, fleet.url) as seen:
        await live(seen)
        page = seen.page
        await page.select_option("#outcome", "remote")
        await expect(page.locator("#decisions tbody tr", has_text="local")).to_have_count(0)
        await page.select_option("#outcome", "")
        await page.fill("#query", "short-one")
        await expect(page.locator("#decisions tbody tr")).to_have_count(1)
        await page.fill("#query", "never-seen")
        await expect(page.locator("#decisions")).to_contain_text("None of the kept requests fits")
        await page.keyboard.press("Enter")
        await expect(page.locator("#detail")).to_contain_text("No decision of this request is kept")
        await page.goto(f"{fleet.url}/dashboard#request=short-one")
        await page.reload()
        await expect(page.locator("#detail-title")).to_have_text("short-one")


async def test_what_changes_is_announced(browser: Browser, fleet: Populated) -> None:
    """Somebody who does not look hears that an engine comes back."""
    async with opened(browser, fleet.url) as seen:
        await live(seen)
        await fleet.drain("edge-b1", "undrain")
        await expect(seen.page.locator("#announce")).to_have_text("Engine edge-b1 is healthy.")
        await fleet.drain("edge-b1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
async def test_accessible(browser: Browser, fleet: Populated, scheme: Any, width: int) -> None:
    """axe finds nothing, with a request open, in light and dark, wide and narrow; and nothing is cut off sideways."""
    context = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}, "bypass_csp": True}
    async with opened(browser, fleet.url, **context) as seen:
        await live(seen)
        await seen.page.locator("#decisions tbody tr", has_text="remote").first.click()
        await expect(seen.page.locator("#detail .time")).to_be_visible()
        found = await Axe().run(seen.page)
        assert found.violations_count == 0, found.generate_report()
        across = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        assert len(set(await seen.page.evaluate(across))) == 1


async def test_themes(browser: Browser, fleet: Populated) -> None:
    """As the system has it until a button is pressed; and that is remembered."""
    async with opened(browser, fleet.url, color_scheme="dark") as seen:
        page, background = seen.page, "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(background)
        await page.click("#theme")
        light = await page.evaluate(background)
        assert dark != light
        await page.reload()
        assert await page.evaluate(background) == light


async def test_reduced_motion(browser: Browser, fleet: Populated) -> None:
    """Nothing moves for who does not want it."""
    async with opened(browser, fleet.url, reduced_motion="reduce") as seen:
        await live(seen)
        moving = "document.getAnimations().filter((each) => each.playState === 'running').length"
        assert await seen.page.evaluate(moving) == 0


async def test_it_says_when_the_gateway_is_away(browser: Browser, fleet: Populated) -> None:
    """What was shown stays, with a word on its age; when the gateway is there again the word goes."""
    async with opened(browser, fleet.url) as seen:
        await live(seen)
        await seen.page.route("**/prfaas/**", lambda route: route.abort())
        await expect(seen.page.locator("#notice")).to_contain_text("does not answer")
        await expect(seen.page.locator("#pulse")).to_have_attribute("data-state", "away")
        await expect(seen.page.locator("#engines th", has_text="edge-a1")).to_be_visible()
        await seen.page.unroute("**/prfaas/**")
        await seen.page.click("#notice button")
        await live(seen)
        await expect(seen.page.locator("#notice")).to_be_hidden()


async def test_a_hidden_or_paused_page_asks_for_nothing(browser: Browser, fleet: Populated) -> None:
    """Pause means no question, until it goes on."""
    async with opened(browser, fleet.url) as seen:
        await live(seen)
        await seen.page.click("#pause")
        asked: list[str] = []
        seen.page.on("request", lambda request: asked.append(request.url))
        await seen.page.wait_for_timeout(3_000)  # longer than the rhythm; a question would have been asked by then
        assert asked == []
        await seen.page.click("#pause")
        await live(seen)
        assert asked


async def test_the_operators_key(browser: Browser, tmp_path: Any) -> None:
    """Asked for where there is one, kept for the tab alone, never in an address; a wrong one is refused."""
    file = tmp_path / "operator.key"
    file.write_text("operators-key-0123456789abcdef0123456789\n")
    file.chmod(0o600)
    key = read_key(file).decode()
    gateway = {"site": "edge", "request_timeout_s": 60, "shutdown_grace_s": 1, "operator_key_file": str(file)}
    tenants = {"acme": {"keys": [{"env": "ACME"}], "shares_cache": True}}
    env = {"ACME": "key-of-acme-0123456789"}
    async with populated(env=env, gateway=gateway, tenants=tenants) as fleet, opened(browser, fleet.url) as seen:
        page = seen.page
        await expect(page.locator("#key-form")).to_be_visible()
        await page.fill("#key", "not-the-key")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-why")).to_contain_text("does not know this key")
        await page.fill("#key", key)
        await page.keyboard.press("Enter")
        await live(seen)
        assert key not in page.url
        assert await page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        await page.click("#forget")
        await expect(page.locator("#key-form")).to_be_visible()
        assert await page.evaluate("sessionStorage.length") == 0


async def test_a_browser_that_keeps_nothing(tmp_path: Path) -> None:
    """With storage blocked the page works, with its key and its theme, until it is closed."""
    file = tmp_path / "operator.key"
    file.write_text("operators-key-0123456789abcdef0123456789\n")
    file.chmod(0o600)
    gateway = {"site": "edge", "request_timeout_s": 60, "shutdown_grace_s": 1, "operator_key_file": str(file)}
    tenants = {"acme": {"keys": [{"env": "ACME"}], "shares_cache": True}}
    profile = tmp_path / "profile"
    profile.mkdir()
    async with (
        populated(env={"ACME": "key-of-acme-0123456789"}, gateway=gateway, tenants=tenants) as fleet,
        opened_without_storage(profile, fleet.url) as seen,
    ):
        page = seen.page
        with pytest.raises(Error, match="SecurityError"):
            await page.evaluate("sessionStorage.length")
        await page.fill("#key", read_key(file).decode())
        await page.keyboard.press("Enter")
        await live(seen)
        await expect(page.locator("#engines th", has_text="edge-a1")).to_be_visible()
        for name in ("light", "dark", "system"):
            await page.click("#theme")
            await expect(page.locator("#theme")).to_have_text(f"Theme: {name}")
        assert all("401" in each for each in seen.errors)  # the question before the key was known
        await page.click("#forget")
        await expect(page.locator("#key-form")).to_be_visible()


async def test_an_empty_gateway_says_what_to_do(browser: Browser) -> None:
    """No request, no link: each place says so, and what would fill it."""
    async with populated(links=[]) as fleet, opened(browser, fleet.url) as seen:
        await live(seen)
        await expect(seen.page.locator("#decisions")).to_contain_text("No request has come yet")
        await expect(seen.page.locator("#links")).to_contain_text("Add one under “links”")
        assert seen.errors == []
