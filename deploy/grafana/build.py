"""Writes the dashboards: python -m deploy.grafana.build (make dashboards)."""

import json
from collections.abc import Mapping
from pathlib import Path

from deploy.grafana.contents import cache, engines, link, overview, requests
from deploy.grafana.grafana import dashboard

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = (overview.DASHBOARD, requests.DASHBOARD, link.DASHBOARD, cache.DASHBOARD, engines.DASHBOARD)


def files() -> Mapping[str, str]:
    """Name and contents of each file; the same every time."""
    return {f"{each.uid}.json": json.dumps(dashboard(each), indent=1) + "\n" for each in DASHBOARDS}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
