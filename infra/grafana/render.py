"""Turns dashboards into the plain dictionaries that Grafana reads."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from infra.grafana.panels import Dashboard, Panel, Query, Section, Variable

DATASOURCE = {"type": "prometheus", "uid": "sluiceway-prometheus"}
"""Its uid is also in provisioning/datasources."""
SCHEMA_VERSION = 39
COLUMNS = 24
_TITLE_HEIGHT = 1

Json = dict[str, Any]


def make_dashboard(dashboard: Dashboard) -> Json:
    """Return the dashboard as Grafana provisions it; panels are numbered from 1."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["sluiceway"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards",
                "title": "Sluiceway",
                "tags": ["sluiceway"],
                "asDropdown": False,
                "includeVars": False,
                "keepTime": True,
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": [_make_variable(each) for each in dashboard.variables]},
        "panels": _lay_out(dashboard.sections),
    }


def _make_variable(variable: Variable) -> Json:
    query = f"label_values({variable.metric}, {variable.name})"
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.title,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "Values"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _lay_out(sections: Sequence[Section]) -> list[Json]:
    """Return the panels in lines of 24 columns: as many to a line as fit."""
    made: list[Json] = []
    top = 0
    for section in sections:
        made.append(_make_heading(section.title, len(made) + 1, top))
        top += _TITLE_HEIGHT
        left = line_height = 0
        for panel in section.panels:
            if left + panel.width > COLUMNS:
                top, left, line_height = top + line_height, 0, 0
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            made.append(_make_panel(panel, len(made) + 1, place))
            left += panel.width
            line_height = max(line_height, panel.height)
        top += line_height
    return made


def _make_heading(title: str, number: int, top: int) -> Json:
    return {
        "type": "row",
        "id": number,
        "title": title,
        "collapsed": False,
        "gridPos": {"h": _TITLE_HEIGHT, "w": COLUMNS, "x": 0, "y": top},
        "panels": [],
    }


def _make_panel(panel: Panel, number: int, place: Mapping[str, int]) -> Json:
    made: Json = {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": dict(place),
        "targets": [
            _make_target(panel, query, letter)
            for query, letter in zip(panel.queries, ascii_uppercase, strict=False)
        ],
        "fieldConfig": {"defaults": _make_defaults(panel), "overrides": _make_overrides(panel)},
        "options": _make_options(panel),
    }
    if panel.kind == "table":
        made["transformations"] = _make_transformations(panel)
    return made


def _make_target(panel: Panel, query: Query, letter: str) -> Json:
    asks_for_now = panel.kind != "timeseries"
    return {
        "refId": letter,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.name if panel.kind != "table" else "",
        "instant": asks_for_now,
        "range": not asks_for_now,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _make_defaults(panel: Panel) -> Json:
    defaults: Json = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [
                {"color": colour, "value": value if place else None}
                for place, (colour, value) in enumerate(panel.thresholds)
            ],
        },
        "mappings": _make_mappings(panel.mappings),
    }
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "bars" if panel.bars else "line",
            "fillOpacity": 60 if panel.bars else 10,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if len(panel.thresholds) > 1 else "off"},
        }
    return defaults


def _make_mappings(mappings: Mapping[str, str]) -> list[Json]:
    if not mappings:
        return []
    options = {
        value: {"text": text, "index": place}
        for place, (value, text) in enumerate(mappings.items())
    }
    return [{"type": "value", "options": options}]


def _make_overrides(panel: Panel) -> list[Json]:
    if panel.kind != "table":
        return []
    return [
        {
            "matcher": {"id": "byName", "options": query.name},
            "properties": [{"id": "unit", "value": query.unit}],
        }
        for query in panel.queries
        if query.unit
    ]


def _make_options(panel: Panel) -> Json:
    now = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "stat":
            return {
                "reduceOptions": now,
                "colorMode": "value",
                "graphMode": "none",
                "textMode": "auto",
                "justifyMode": "auto",
            }
        case "bargauge":
            return {"reduceOptions": now, "orientation": "horizontal", "displayMode": "basic"}
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}
        case "timeseries":
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }


def _make_transformations(panel: Panel) -> list[Json]:
    """Return what makes one line of the answers about the same labels, with our headings."""
    values = [f"Value #{letter}" for letter, _ in zip(ascii_uppercase, panel.queries, strict=False)]
    if len(values) == 1:
        values = ["Value"]
    names = {value: query.name for value, query in zip(values, panel.queries, strict=True)}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names}},
    ]
