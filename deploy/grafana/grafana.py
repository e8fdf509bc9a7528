"""Dashboards in Grafana's JSON model: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/"""

from collections.abc import Iterator
from typing import Any

from deploy.grafana.panel import Dashboard, Panel, Row

SCHEMA_VERSION = 39
"""Grafana 11's; later versions bring it up to theirs as they read it."""
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
"""The uid that provisioning gives it."""
COLUMNS = 24
HEIGHTS = {"stat": 4, "timeseries": 8, "state-timeline": 6}


def dashboard(of: Dashboard) -> dict[str, Any]:
    """One file for Grafana's provisioning."""
    return {
        "uid": of.uid,
        "title": of.title,
        "description": of.text,
        "tags": ["prfaas"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # the cursor is in all pictures at the same moment
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "refresh": "10s",
        "links": [
            {
                "type": "dashboards",
                "title": "prfaas",
                "tags": ["prfaas"],
                "asDropdown": False,
                "includeVars": False,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": []},
        "panels": list(_laid_out(of.rows)),
    }


def _laid_out(rows: Any) -> Iterator[dict[str, Any]]:
    """Rows under each other; in a row, panels from left to right and then in the next line."""
    number, top = 1, 0
    for row in rows:
        yield _row(row, number, top)
        number, top = number + 1, top + 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            height = HEIGHTS[panel.kind]
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": height})
            number, left, tallest = number + 1, left + panel.width, max(tallest, height)
        top += tallest


def _row(row: Row, number: int, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for at, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    limits = panel.limits or (("green", None),)
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "color": {"mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": [{"color": colour, "value": value} for colour, value in limits]},
        "mappings": [],
    }
    if panel.words:
        told = {value: {"text": word, "index": at} for at, (value, word) in enumerate(panel.words)}
        defaults["mappings"] = [{"type": "value", "options": told}]
    if panel.kind == "timeseries":
        defaults["min"] = 0
        stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
        fill = 40 if panel.is_stacked else 0
        defaults["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": fill, "stacking": stacking}
        defaults["custom"]["thresholdsStyle"] = {"mode": "line" if panel.limits else "off"}
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none", "textMode": "auto"}
    if panel.kind == "state-timeline":
        return {"mergeValues": True, "showValue": "never", "legend": {"displayMode": "list", "placement": "bottom"}}
    return {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
