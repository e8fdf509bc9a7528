"""The report: one HTML file with everything in it, for whoever decides about a fleet."""

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from prfaas import __version__
from prfaas.commands.planning import words
from prfaas.commands.planning.pictures.style import DARK, LIGHT, Picture, svg
from prfaas.commands.planning.scenario import Scenario
from prfaas.planner.study import Study


def report(scenario: Scenario, study: Study, pictures: tuple[Picture, ...], settings: str) -> str:
    """The file's text. It loads nothing and runs no script; dark where the reader's system is, light on paper.

    Args:
        settings: the input as it was checked, to be shown.
    """
    environment = Environment(
        loader=PackageLoader("prfaas.commands.planning", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plan = study.plan
    columns, rows = words.comparison(study)
    return environment.get_template("report.html.j2").render(
        title=scenario.file.title,
        version=__version__,
        verdict=words.verdict(study),
        tiles=_tiles(scenario, study),
        facts=_facts(scenario, study),
        reasons=plan.reasons,
        caveats=plan.caveats,
        stages=[(each, words.is_binding(each)) for each in plan.stages],
        columns=columns,
        rows=rows,
        options=words.options(study),
        pictures=[_embedded(each) for each in pictures],
        settings=settings,
    )


def _tiles(scenario: Scenario, study: Study) -> list[tuple[str, str, str]]:
    """The figures that people ask for first: what, how much, and a remark."""
    plan, found = study.plan, study.next_purchase
    gain = f"{found.gain_requests_s:+.3g} requests/s" if found else "several stages bind"
    return [
        ("most requests/s", f"{plan.requests_s:.3g}", words.binding(plan)),
        ("threshold t", words.threshold(plan), f"{plan.remote_share:.0%} of requests go remote"),
        ("local engines", f"{plan.prefill_engines} : {plan.decode_engines}", "prefill : decode"),
        ("link", *words.link_tile(scenario, study)),
        ("buy next", found.what if found else "no single thing", gain),
    ]


def _facts(scenario: Scenario, study: Study) -> list[tuple[str, str]]:
    facts = [
        ("Workload", words.workload(scenario)),
        ("Load", words.load(scenario, study)),
        ("Bandwidth", words.bandwidth(scenario, study)),
        ("Buy next", words.purchase(study)),
    ]
    return [(what, said) for what, said in facts if said]


def _embedded(picture: Picture) -> dict[str, Any]:
    """With both themes as data."""
    return {
        "name": picture.name,
        "title": picture.title,
        "caption": picture.caption,
        "alt": picture.alt,
        "light": _data(svg(picture, LIGHT)),
        "dark": _data(svg(picture, DARK)),
    }


def _data(content: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
