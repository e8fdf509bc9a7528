"""docs/api.md has every route, header and status."""

import re
from pathlib import Path

import prfaas.gateway
from prfaas.gateway.openapi import ERRORS
from tests.gateway.fakes import Stand

PAGE = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text(encoding="utf-8")


async def test_every_route_is_on_the_page(running: Stand) -> None:
    """And no other: what is in the tables is what the application has."""
    async with running.client.get(f"{running.url}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    listed = set(re.findall(r"^\| `(GET|POST) (\S+)` \| (?!are not there)", PAGE, flags=re.MULTILINE))
    assert {(method, path.replace("{name:path}", "{name}")) for method, path in routes} == listed - {
        ("GET", "/v1/responses/{id}")
    }


def test_every_header_is_on_the_page() -> None:
    """Those that the gateway's code names."""
    folder = Path(prfaas.gateway.__file__ or "").parent
    named = {
        header
        for path in folder.rglob("*.py")
        for header in re.findall(r'"(x-(?:prfaas|ratelimit)-[a-z-]+)', path.read_text(encoding="utf-8"))
    }
    assert len(named) >= 10
    assert [header for header in sorted(named) if f"`{header.removesuffix('-')}" not in PAGE] == []


def test_every_status_is_on_the_page() -> None:
    """Of /openapi.json, and what operators may meet."""
    assert [status for status in (*ERRORS, 409) if f"\n| {status} | " not in PAGE] == []
