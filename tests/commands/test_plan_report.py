"""The report and its pictures: one file, nothing from elsewhere, names as text, the figures of the plan."""

import base64
import json
import re
import sys
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from PIL import Image

from prfaas import cli
from prfaas.commands.planning.pictures.draw import pictures
from prfaas.commands.planning.pictures.style import LIGHT, Picture, png, svg
from prfaas.commands.planning.plan_file import parse_plan_file
from prfaas.commands.planning.scenario import load_scenario
from prfaas.planner.study import study
from tests.commands import plans

Run = Callable[..., int]
EVIL = '<script>alert(1)</script> & "quotes" <b>'
VOID = {"meta", "source", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What is in a page: elements with their attributes, text, and whether tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def call(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["prfaas", "plan", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command wrote, once for all: drawing takes seconds. Its names have markup in them."""
    path = tmp_path_factory.mktemp("plan")
    file = plans.folder(path, title=EVIL)
    (path / "local.yaml").write_text(json.dumps({**plans.LOCAL, "engine": EVIL, "caveats": [EVIL]}))
    assert call(file, "--out", path / "out") == 0
    return path / "out"


def report(folder: Path) -> Page:
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return page


def svgs(page: Page) -> list[bytes]:
    images = sorted(page.all("img"), key=lambda each: each["class"], reverse=True)
    sources = [each["src"] for each in images]
    return [base64.b64decode(each.removeprefix("data:image/svg+xml;base64,"), validate=True) for each in sources]


def test_the_report_holds_all_it_needs(folder: Path) -> None:
    """No address of another file anywhere, no script; the policy in its head forbids both."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = report(folder)
    addresses = [
        value
        for _, attributes in page.elements
        for key, value in attributes.items()
        if key in ("src", "srcset", "href", "action", "data", "poster")
    ]
    assert addresses
    assert all(each.startswith("data:image/svg+xml;base64,") for each in addresses)
    assert not re.search(r"https?://|//[a-z]|@import|url\(", text)
    assert not page.all("script")
    assert "default-src 'none'" in next(each["content"] for each in page.all("meta") if "http-equiv" in each)


def test_the_report_says_the_plan(folder: Path) -> None:
    """Figures of plan.json, in the words of the terminal."""
    told = json.loads((folder / "plan.json").read_text())
    text = " ".join(report(folder).text.split())
    assert f"{told['plan']['threshold_tokens']:,} uncached tokens" in text
    assert f"{told['plan']['requests_s']:.3g} requests/s at most, where remote prefill binds" in text
    for said in ("1 : 1", "1 more remote engine", "all local", "all remote", "bandwidth_gbps: 1", "0.08 Gbit/s"):
        assert said in text


def test_the_report_can_be_read_without_eyes(folder: Path) -> None:
    """A language, one first heading and then second ones, an alternative for each picture, headers in tables."""
    page = report(folder)
    assert page.all("html") == [{"lang": "en"}]
    headings = [name for name, _ in page.elements if re.fullmatch(r"h\d", name)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    assert len(page.all("img")) == 10
    assert all(len(each["alt"]) > 40 for each in page.all("img"))
    assert {each["scope"] for each in page.all("th")} == {"col", "row"}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert {each["aria-describedby"] for each in page.all("table")} <= set(ids)


def test_names_are_text(folder: Path) -> None:
    """A title, a profile's name and its caveats with markup in them end up as they are, and nowhere as markup."""
    page = report(folder)
    assert not page.all("script")
    assert not page.all("b")
    assert page.text.count(EVIL) >= 3


def test_markup_in_names_leaves_the_terminal_alone(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What looks like a style is printed as it is."""
    assert run("plan", plans.folder(tmp_path, title="[bold]fleet[/nothing]")) == 0
    assert "[bold]fleet[/nothing]" in capsys.readouterr().out


def test_pictures_are_drawn(folder: Path) -> None:
    """Five PNGs on white, with lines and letters in several colours, and small."""
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {"utilisation", "threshold", "division", "first_token", "purchases"}
    for path in folder.glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[1] > 900
        assert tuple(pixels[0, 0]) == (255, 255, 255)
        colours, counts = np.unique(pixels.astype(np.int32) @ [65536, 256, 1], return_counts=True)
        assert len(colours) > 50
        assert counts.max() < 0.98 * counts.sum()
        assert path.stat().st_size < 200_000


def test_embedded_pictures_are_whole_in_both_themes(folder: Path) -> None:
    """Each parses as SVG, loads nothing, and the dark one has another ground than the light one."""
    found = svgs(report(folder))
    assert len(found) == 10
    for content in found:
        root = ElementTree.fromstring(content)
        assert root.tag.endswith("svg")
        links = [value for each in root.iter() for key, value in each.items() if key.endswith("href")]
        assert all(each.startswith(("#", "data:")) for each in links)
    assert all(b"#ffffff" in each for each in found[:5])
    assert all(b"#151a21" in each for each in found[5:])


def shown(path: Path, **sections: object) -> tuple[Picture, ...]:
    """A plan's pictures."""
    file = parse_plan_file(yaml.safe_load(plans.folder(path, **sections).read_text()))
    scenario = load_scenario(file, path)
    return pictures(scenario.question, study(scenario.question))


def drawn(path: Path, **sections: object) -> tuple[Picture, ...]:
    """The same, each drawn without a warning."""
    found = shown(path, **sections)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(len(png(each)) > 5000 for each in found)
    return found


def test_the_same_plan_is_the_same_picture(tmp_path: Path) -> None:
    """To the byte: it may be kept under version control."""
    one, other = shown(tmp_path), shown(tmp_path)
    assert svg(one[1], LIGHT) == svg(other[1], LIGHT)


@pytest.mark.parametrize(
    ("sections", "count"),
    [
        ({"link": {"bandwidth_gbps": 0}}, 4),
        ({"fleet": {"local": {"profile": "local.yaml", "engines": 2}}}, 4),
        ({"slo": {"token_ms": 20, "first_token_p90_s": 0.05}}, 5),
        ({"slo": {"token_ms": 20, "first_token_p90_s": 1.5}, "link": {"bandwidth_gbps": 0.016}}, 5),
        ({"workload": {"output_tokens": 5000, "trace": "trace.jsonl"}}, 5),
    ],
    ids=["no link", "no remote site", "objective out of reach", "objective rules out", "all remote"],
)
def test_every_kind_of_plan_has_its_pictures(tmp_path: Path, sections: dict[str, object], count: int) -> None:
    """Where nothing can go remote there is no threshold to draw; no figure in words that is not a number."""
    found = drawn(tmp_path, **sections)
    assert len(found) == count
    assert not any(re.search(r"\b(nan|inf)\b", each.caption + each.alt) for each in found)


def test_one_prompt_length_can_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace of one request, of one token: nothing between two ends of an axis."""
    monkeypatch.setattr(plans, "lines", lambda _: [b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n'])
    assert len(drawn(tmp_path)) == 5


def test_reasons_are_in_the_report(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why nothing goes remote; and other files of the folder stay."""
    monkeypatch.setattr("prfaas.commands.planning.folder.pictures", lambda *_: ())
    file = plans.folder(tmp_path, link={"bandwidth_gbps": 0})
    assert run("plan", file, "--out", tmp_path) == 0
    assert "all local: the remote site has no link" in report(tmp_path).text
    assert file.exists()
