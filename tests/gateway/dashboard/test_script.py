"""The pure parts of the page's script, called in a real browser."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.dashboard.browser import Seen, launched, opened
from tests.gateway.fakes import stand

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Seen]:
    async with launched() as browser, stand() as running, opened(browser, running.url) as seen:
        yield seen


async def call(page: Seen, module: str, expression: str) -> Any:
    """The value of an expression in which ``m`` is the module."""
    return await page.page.evaluate(f"import('/dashboard/{module}.js').then((m) => {expression})")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("m.seconds(null)", "–"),
        ("m.seconds(0)", "0 s"),
        ("m.seconds(0.00004)", "40 µs"),
        ("m.seconds(0.0042)", "4.2 ms"),
        ("m.seconds(0.0421)", "42 ms"),
        ("m.seconds(1.234)", "1.23 s"),
        ("m.seconds(83)", "1 min 23 s"),
        ("m.ago(90061)", "1 d 1 h"),
        ("m.bits(1.25e9)", "10.0 Gbit/s"),
        ("m.bits(0)", "0 bit/s"),
        ("m.bytes(123456789)", "123 MB"),
        ("m.bytes(999)", "999 B"),
        ("m.bytes(999.9)", "1.00 kB"),
        ("m.percent(0.004)", "<1 %"),
        ("m.percent(1)", "100 %"),
        ("m.tokens(1)", "1 token"),
        ("m.count(12345)", "12,345"),
        ("m.step(1, 4)", 0.5),
        ("m.step(0.9, 4)", 0.5),
    ],
)
async def test_figures(page: Seen, expression: str, said: object) -> None:
    """Each with its unit, three figures, no exponent."""
    assert await call(page, "format", expression) == said


STAGES = """[
  {stage: 'placement', begin_s: 0, end_s: 0.1, engine: ''},
  {stage: 'prefill', begin_s: 0.1, end_s: 1.1, engine: 'p'},
  {stage: 'transfer', begin_s: 0.6, end_s: 1.6, engine: 'd', source: 'p'},
  {stage: 'first token', begin_s: 1.6, end_s: 1.7, engine: 'd'},
  {stage: 'answer', begin_s: 1.7, end_s: 60, engine: 'd'}]"""


async def test_blame_is_what_a_stage_added(page: Seen) -> None:
    """Half of the transfer went on beside the prefill and cost nothing; the answer is not what one waits for."""
    told = f"m.blame({STAGES}).map((each) => [each.stage.stage, each.added_s.toFixed(2)])"
    blamed = await call(page, "timeline", told)
    assert blamed == [["prefill", "1.00"], ["transfer", "0.50"], ["placement", "0.10"], ["first token", "0.10"]]


async def test_a_long_answer_is_cut(page: Seen) -> None:
    """The picture is of what came before it."""
    assert await call(page, "timeline", f"m.horizon({STAGES}, 0)") == pytest.approx(1.7 * 1.25)


async def test_requests_are_merged_in_their_order(page: Seen) -> None:
    """A changed one stays in its place, new ones come first, the oldest go."""
    kept, told = "[{request_id: 'b', v: 1}, {request_id: 'a', v: 1}]", "[{request_id: 'c'}, {request_id: 'a', v: 2}]"
    merged = f"m.merged({kept}, {told}, 3).map((each) => each.request_id + (each.v ?? ''))"
    assert await call(page, "decisions", merged) == ["c", "b1", "a2"]


async def test_requests_of_one_id_stay_apart(page: Seen) -> None:
    """Clients may give several requests one id: what changes of one is not said of another."""
    kept = "[{request_id: 'a', arrived_unix_s: 2, v: 1}, {request_id: 'a', arrived_unix_s: 1, v: 1}]"
    told = "[{request_id: 'a', arrived_unix_s: 3, v: 1}, {request_id: 'a', arrived_unix_s: 1, v: 2}]"
    merged = f"m.merged({kept}, {told}).map((each) => [each.arrived_unix_s, each.v])"
    assert await call(page, "decisions", merged) == [[3, 1], [2, 1], [1, 2]]


async def test_backing_off_ends(page: Seen) -> None:
    """Twice as long after each failure, half a minute at most."""
    assert await call(page, "api", "[0, 1, 2, 3, 9].map(m.pauseAfter)") == [2, 4, 8, 16, 30]


async def test_what_is_remembered_is_bounded(page: Seen) -> None:
    """A link's history keeps its latest points alone."""
    look = "{gateway: {unix_s: at}, links: [{source: 'a', target: 'b', utilisation: 0.5}]}"
    kept = f"Array.from({{length: 400}}).reduce((known, _, at) => m.remember(known, {look}), new Map()).get('a → b')"
    assert await call(page, "history", f"[{kept}.length, {kept}.at(-1)[0]]") == [150, 399]


@pytest.mark.parametrize("width", [320, 620, 900, 1400])
@pytest.mark.parametrize("engines", [1, 7, 60])
async def test_nothing_on_the_map_overlaps(page: Seen, width: int, engines: int) -> None:
    """Boxes stay within the picture and apart, and every engine within its site."""
    status = f"""{{
      sites: [{{name: 'a', is_local: true}}, {{name: 'b'}}, {{name: 'c'}}],
      engines: Array.from({{length: {engines}}}).flatMap((_, at) => [{{site: 'a'}}, {{site: 'b'}}]),
      links: ['b', 'c'].map((source) => ({{source, target: 'a', bandwidth_bytes_s: 1e9}}))}}"""
    plan = await call(page, "layout", f"m.layout({status}, {width})")
    boxes = plan["sites"]
    assert len(plan["links"]) == 2
    for box in boxes:
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 0.5
        assert box["y"] >= -0.5
        assert box["y"] + box["height"] <= plan["height"] + 0.5
        for chip in box["chips"]:
            assert box["x"] <= chip["x"]
            assert chip["x"] + chip["width"] <= box["x"] + box["width"] + 0.5
            assert chip["y"] + chip["height"] <= box["y"] + box["height"]
    for one in boxes:
        for other in boxes:
            apart = one is other or any(
                one[at] + one[size] <= other[at] + 0.5 or other[at] + other[size] <= one[at] + 0.5
                for at, size in (("x", "width"), ("y", "height"))
            )
            assert apart
