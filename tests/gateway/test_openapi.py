"""What ``/openapi.json`` promises, held against a running gateway: by Schemathesis, with right and wrong requests."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from prfaas.gateway.api_request import PATHS
from tests.gateway.access.test_access import KEYS, guarded
from tests.gateway.stub_apis import answer_as_vllm

EXAMPLES = 20
"""For each route and mode: enough to meet every field and its absence, and some seconds in all."""
HEADERS = {"Authorization": f"Bearer {KEYS['acme']}"}
ROUTES = [*(("POST", path) for path in PATHS.values()), ("GET", "/v1/models"), ("GET", "/v1/models/{name}")]


@dataclass
class Served:
    """A gateway with tenants on a thread of its own, and its schema."""

    url: str
    schema: schemathesis.BaseSchema


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    urls: queue.Queue[str] = queue.Queue()
    stop = threading.Event()

    async def serve() -> None:
        async with guarded() as running:
            running.edge.script = answer_as_vllm
            urls.put(running.url)
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        url = urls.get(timeout=60)
        yield Served(url, schemathesis.openapi.from_url(f"{url}/openapi.json"))
    finally:
        stop.set()
        thread.join()


def test_every_api_is_described(served: Served) -> None:
    """Each route that takes a key is in the schema with its errors, and says that it needs one."""
    described = requests.get(f"{served.url}/openapi.json", timeout=60).json()
    for method, path in ROUTES:
        operation = described["paths"][path][method.lower()]
        assert operation["security"] == [{"bearer": []}, {"x-api-key": []}]
        assert "401" in operation["responses"]
    assert set(described["components"]["securitySchemes"]) == {"bearer", "x-api-key"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=str)
def test_gateway_keeps_what_it_promises(served: Served, method: str, path: str, mode: GenerationMode) -> None:
    """Right requests are answered, wrong ones refused: with the statuses and shapes of the schema."""
    operation = served.schema[path][method]

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(base_url=served.url, headers=HEADERS, excluded_checks=[negative_data_rejection])

    check()
