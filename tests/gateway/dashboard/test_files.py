"""The page's files as they are served."""

import re

import pytest

from prfaas.gateway.dashboard import POLICY, read_files
from tests.gateway.fakes import Stand

MOST_BYTES = 300_000
FILES = read_files()


def test_all_of_it_is_small() -> None:
    """Page, style, script and icon together."""
    assert sum(len(body) for body, _, _ in FILES.values()) <= MOST_BYTES
    assert {"index.html", "style.css", "main.js", "icon.svg"} <= FILES.keys()


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    """No file names another host, but for the names of XML's vocabularies; and nothing makes markup of a text."""
    text = FILES[name][0].decode()
    assert re.findall(r"(?:https?:)?//(?!www\.w3\.org/)[a-z0-9-]+\.[a-z]{2,}", text) == []
    assert re.findall(r"\.innerHTML\s*=|insertAdjacentHTML|document\.write|eval\(|style=\"", text) == []


@pytest.mark.parametrize(("path", "kind"), [("/dashboard", "text/html"), ("/dashboard/main.js", "text/javascript")])
async def test_files_come_with_a_strict_policy(running: Stand, path: str, kind: str) -> None:
    """Nothing inline, nothing from elsewhere, in no frame; and a file that is known already is not sent again."""
    async with running.client.get(running.url + path) as answer:
        assert (answer.status, answer.content_type) == (200, kind)
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        known = {"if-none-match": answer.headers["etag"]}
    assert "unsafe" not in POLICY
    async with running.client.get(running.url + path, headers=known) as answer:
        assert (answer.status, await answer.read()) == (304, b"")


async def test_other_paths(running: Stand) -> None:
    """A slash too many leads to the page; a name that is none, or leads elsewhere, to nothing."""
    async with running.client.get(f"{running.url}/dashboard/") as answer:
        assert (answer.status, answer.url.path) == (200, "/dashboard")
    for name in ("__init__.py", "none.js", "..%2Fapp.py"):
        async with running.client.get(f"{running.url}/dashboard/{name}") as answer:
            assert answer.status == 404
