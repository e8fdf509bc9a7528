"""All metrics of the gateway as one table: what docs/metrics.md says is made here, from the code.

python -m prfaas.observe.catalogue docs/metrics.md            # writes the tables into the page
python -m prfaas.observe.catalogue docs/metrics.md --check    # exit code 1 when they are out of date
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from prfaas.observe.definitions import Definition
from prfaas.observe.metrics import Metrics

LABELS: Mapping[str, str] = {
    "code": "why a tenant's request was refused: the error codes of the gateway, some twenty",
    "direction": "`send` or `receive`, as the engine sees it",
    "engine": "engines of the configuration",
    "kind": "`threshold`, `conversion`, `converted`, `given_up`, `note`",
    "knowledge": "`exact`, `partial`, `guessed`",
    "mode": "of the controller: `off`, `shadow`, `on`",
    "outcome": "of a request: `local`, `remote`, `recomputed`, `unknown`, `error`, `cancelled`; of a conversion: "
    "`converted`, `given_up`",
    "peer": "engines that the engine has had a session with, known by their certificates; the last 128 a direction",
    "placement": "as decided: `local` or `remote`",
    "priority": "classes of the configuration",
    "reason": "faults, as in [operations.md](operations.md#circuit-breakers); of a recompute also `unknown`",
    "role": "`prefill`, `decode`",
    "site": "sites of the configuration",
    "source": "sites of the configuration: where the link begins",
    "stage": "of a fault: `prefill`, `transfer`, `decode`, `stream`; of a request: the twelve stages of its timeline",
    "status": "HTTP statuses that an engine or the gateway answers",
    "target": "sites of the configuration: where the link ends",
    "tenant": "tenants of the configuration; empty where everybody may use the gateway, and for unknown keys",
    "version": "one, of this gateway",
}
"""Where the values of each label come from, and so how many there can be."""

_UNITS = (
    ("tokens_per_second", "tokens/s"),
    ("requests_per_second", "requests/s"),
    ("bytes_per_second", "bytes/s"),
    ("seconds", "seconds"),
    ("bytes", "bytes"),
    ("ratio", "ratio"),
    ("tokens", "tokens"),
)
BEGIN, END = "<!-- made by `make metrics-table` -->", "<!-- up to here -->"


def unit_of(name: str) -> str:
    """From the name's end; "1" for counts of things and for yes or no."""
    plain = name.removesuffix("_total")
    return next((unit for ending, unit in _UNITS if plain.endswith(ending)), "1")


def tables(definitions: Iterable[Definition]) -> str:
    """The metrics by name, then the labels that they have."""
    known = sorted(definitions, key=lambda each: each.name)
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {unit_of(each.name)} | {each.text} |"
        for each in known
    ]
    used = sorted({label for each in known for label in each.labels})
    head = ["| metric | type | labels | unit | meaning |", "|---|---|---|---|---|"]
    labels = ["", "| label | its values |", "|---|---|", *(f"| `{label}` | {LABELS[label]} |" for label in used)]
    return "\n".join([*head, *rows, *labels])


def page_with(page: str, made: str) -> str:
    """The page with the tables between its two marks. Raises ValueError when it lacks them."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?(\n{re.escape(END)})", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no part between {BEGIN} and {END}")
    return pattern.sub(lambda found: found[1] + made + found[2], page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    arguments = parser.parse_args()
    before = arguments.page.read_text(encoding="utf-8")
    after = page_with(before, tables(Metrics().definitions))
    if arguments.check:
        return int(before != after)
    arguments.page.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
