"""When a request's first token is wanted, and that the placement minds it."""

from typing import Any

import pytest
from starlette.datastructures import Headers

from prfaas.config import parse_config
from prfaas.errors import ConfigError, RequestRejected
from prfaas.gateway.access.objective import MAX_OBJECTIVE_MS, OBJECTIVE_HEADER, given_objective_s, soonest
from prfaas.routing.figures import PrefillRate
from tests.gateway.access.test_access import ENV, ask, error_of, tenants
from tests.gateway.fakes import Stand, config_for, stand
from tests.gateway.test_remote import USED

CLASSES = [
    {"name": "interactive", "first_token_slo_s": 4},
    {"name": "batch"},
    {"name": "bulk", "first_token_slo_s": 60},
    {"name": "quick", "first_token_slo_s": 2.75},
]


def sections(**of_acme: Any) -> dict[str, Any]:
    access = {"cache_secret": {"env": "SECRET"}, "priorities": CLASSES}
    policy = {"threshold_tokens": 5, "slo_first_token_s": 30, "remote_timeout_s": 30}
    return {"access": access, "tenants": tenants(**of_acme), "policy": policy}


def with_speeds(running: Stand) -> Stand:
    """Two seconds here, three by way of the other site: only who may wait that long is sent there."""
    running.reports.default = USED
    running.services.view.set_rate("edge-0", PrefillRate(2.0, 0.0))
    running.services.view.set_rate("cloud-0", PrefillRate(3.0, 0.0))
    return running


async def placement(running: Stand, tenant: str = "acme", **headers: str) -> tuple[str, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with await ask(running, tenant, words=10, headers=named) as answer:
        assert answer.status == 200, await answer.text()
    decision = await running.ended()
    return decision.placement, "; ".join(decision.reasons)


@pytest.mark.parametrize(
    ("own_s", "priority", "objective_s"),
    [
        (None, "interactive", None),
        (2.5, "interactive", 2.5),
        (2.5, "bulk", 2.5),
        (100, "interactive", None),
        (100, "quick", 2.75),
        (None, "batch", None),
        (2.5, "batch", 2.5),
    ],
)
async def test_hedge_follows_class_and_tenant(own_s: float | None, priority: str, objective_s: float | None) -> None:
    """A remote prefill that would come too late for the sooner of both is not begun; the policy's is for the others."""
    async with stand(env=ENV, **sections(first_token_slo_s=own_s)) as running:
        where, reasons = await placement(with_speeds(running), x_prfaas_priority=priority)
    assert where == ("remote" if objective_s is None else "local")
    assert objective_s is None or f"too late for the objective of {objective_s:g} s" in reasons


async def test_header_asks_for_sooner_and_never_for_later() -> None:
    """One request that cannot wait stays; a tenant whose objective is short does not buy time with a header."""
    async with stand(env=ENV, **sections(first_token_slo_s=2.5)) as running:
        with_speeds(running)
        assert (await placement(running, "home"))[0] == "local"  # may not leave its site at all
        where, reasons = await placement(running, "acme", x_prfaas_first_token_slo_ms="60000")
        assert where == "local"
        assert "objective of 2.5 s" in reasons
        assert (await placement(running, "batch", x_prfaas_first_token_slo_ms="3500"))[0] == "remote"
        where, reasons = await placement(running, "batch", x_prfaas_first_token_slo_ms="2999")
        assert where == "local"
        assert "objective of 2.999 s" in reasons


async def test_objectives_need_no_tenants() -> None:
    """Where everybody may use the gateway, classes and header count all the same; without any nothing is hedged."""
    plain = {"threshold_tokens": 5, "remote_timeout_s": 30}
    async with stand(access={"priorities": CLASSES[1:3]}, policy=plain) as running:
        with_speeds(running)
        assert (await placement(running))[0] == "remote"
        assert (await placement(running, x_prfaas_first_token_slo_ms="2500"))[0] == "local"
    async with stand(access={"priorities": [{"name": "a", "first_token_slo_s": 2.5}]}, policy=plain) as running:
        assert (await placement(with_speeds(running)))[0] == "local"


async def test_wrong_header_is_a_400() -> None:
    async with stand() as running, await ask(running, headers={OBJECTIVE_HEADER: "soon"}) as answer:
        assert answer.status == 400
        error = await error_of(answer)
        assert (error["param"], error["code"]) == (OBJECTIVE_HEADER, "invalid_value")
        assert running.edge.calls == []


@pytest.mark.parametrize("given", ["", "0", "-1", "1.5", "1e3", " 7", "٣", str(MAX_OBJECTIVE_MS + 1), "9" * 5000])
def test_only_whole_milliseconds_within_a_day_are_taken(given: str) -> None:
    with pytest.raises(RequestRejected):
        given_objective_s(Headers({OBJECTIVE_HEADER: given}) if given.isascii() else headers(given))


def headers(*values: str) -> Headers:
    return Headers(raw=[(OBJECTIVE_HEADER.encode(), value.encode()) for value in values])


def test_header_once() -> None:
    assert given_objective_s(Headers({})) is None
    assert given_objective_s(headers("250")) == 0.25
    assert given_objective_s(headers(str(MAX_OBJECTIVE_MS))) == MAX_OBJECTIVE_MS / 1000
    with pytest.raises(RequestRejected):
        given_objective_s(headers("250", "250"))


def test_soonest_of_none_is_none() -> None:
    assert soonest(None, None) is None
    assert soonest(None, 3.0, 2.0) == 2.0


@pytest.mark.parametrize("value", [0, -1, 100_000])
def test_objective_is_a_time_of_at_most_a_day(value: float) -> None:
    tree = config_for("http://127.0.0.1:9", "http://127.0.0.2:9").model_dump(by_alias=True)
    tree["access"] = {"priorities": [{"name": "a", "first_token_slo_s": value}]}
    with pytest.raises(ConfigError, match=r"access\.priorities\.0\.first_token_slo_s"):
        parse_config(tree)
