"""Grafana's JSON of a dashboard."""

from typing import Any

from panels import DATASOURCE, JOB, SCHEMA_VERSION, SCOPE, WIDTH, Dashboard, Panel, Row

TAG = "autoreply"
ROW_HEIGHT = 1


def thresholds(panel: Panel) -> dict[str, Any]:
    """The steps of a panel as Grafana writes them."""
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in panel.steps]}


def target(number: int, expr: str, legend: str, panel: Panel) -> dict[str, Any]:
    """One query of a panel."""
    kind = {"instant": True, "range": False} if panel.instant else {"instant": False, "range": True}
    more = {"format": "table"} if panel.kind == "table" else {}
    ref = chr(ord("A") + number)
    return {"refId": ref, "datasource": DATASOURCE, "editorMode": "code", "expr": expr, "legendFormat": legend or "__auto", **kind, **more}


def json_of_panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    """A panel with its id and its place."""
    curves = panel.kind == "timeseries"
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "color": {"mode": "palette-classic" if curves else "thresholds"},
                "thresholds": thresholds(panel),
                **panel.defaults,
            },
            "overrides": panel.overrides,
        },
        "options": panel.options,
        "targets": [target(place, query.expr, query.legend, panel) for place, query in enumerate(panel.queries)],
    }
    if panel.transformations:
        made["transformations"] = panel.transformations
    if panel.more:
        url = f"/d/{panel.more}?${{__url_time_range}}&${{__all_variables}}"
        made["links"] = [{"title": "More about this", "url": url, "type": "link", "icon": "dashboard", "tooltip": "",
                          "tags": [], "asDropdown": False, "targetBlank": False, "includeVars": False, "keepTime": False}]  # fmt: skip
    return made


def laid_out(rows: list[Row]) -> list[dict[str, Any]]:
    """Every row's heading and panels, from left to right and downwards; ids in that order."""
    made: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        made.append({"id": len(made) + 1, "type": "row", "title": row.title, "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": ROW_HEIGHT}})  # fmt: skip
        top += ROW_HEIGHT
        left, height = 0, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, height = top + height, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            made.append(json_of_panel(panel, len(made) + 1, place))
            left, height = left + panel.width, max(height, panel.height)
        top += height
    return made


def variable(name: str, label: str, query: str, everything: str) -> dict[str, Any]:
    """A choice at the top of the dashboard."""
    return {
        "type": "query", "name": name, "label": label, "datasource": DATASOURCE, "definition": query,
        "query": {"qryType": 1, "query": query, "refId": f"Variable-{name}"}, "refresh": 2, "sort": 1, "hide": 0, "multi": True,
        "includeAll": True, "allValue": everything, "regex": "", "skipUrlSync": False, "options": [],
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def variables() -> list[dict[str, Any]]:
    """Which Prometheus, which role, which process."""
    source = {
        "type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "regex": "", "refresh": 1, "hide": 0,
        "multi": False, "includeAll": False, "skipUrlSync": False, "options": [],
        "current": {"selected": True, "text": "Prometheus", "value": "prometheus"},
    }  # fmt: skip
    return [
        source,
        variable("job", "Role", "label_values(autoreply_build_info, job)", "autoreply-.*"),
        variable("instance", "Process", f"label_values(autoreply_build_info{{{JOB}}}, instance)", ".*"),
    ]


def annotation(name: str, colour: str, expr: str, title: str, text: str, tags: str, at_value: bool) -> dict[str, Any]:
    """Vertical lines where something happened."""
    return {
        "name": name, "enable": True, "hide": False, "iconColor": colour, "datasource": DATASOURCE, "expr": expr, "step": "15s",
        "titleFormat": title, "textFormat": text, "tagKeys": tags, "useValueForTime": "on" if at_value else False,
    }  # fmt: skip


def all_annotations() -> list[dict[str, Any]]:
    """Grafana's own, starts of processes, versions that are new to a process, and alerts."""
    own = {
        "builtIn": 1, "name": "Annotations & Alerts", "type": "dashboard", "enable": True, "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)", "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    }  # fmt: skip
    starts = f"autoreply_build_info{{{SCOPE}}} * on (job, instance) group_left () (process_start_time_seconds{{{SCOPE}}} * 1000)"
    # A version that this job did not run an hour ago, while it ran another one.
    fresh = (
        f"count by (job, version) (autoreply_build_info{{{JOB}}}) unless on (job, version) autoreply_build_info{{{JOB}}} offset 1h"
        f" and on (job) autoreply_build_info{{{JOB}}} offset 1h"
    )
    firing = 'ALERTS{alertname=~"Autoreply.*",alertstate="firing"}'
    return [
        own,
        annotation("Starts", "blue", starts, "{{job}} started", "{{instance}}, version {{version}}", "job,instance", True),
        annotation("New versions", "purple", fresh, "Version {{version}}", "new for {{job}}", "job,version", False),
        annotation("Alerts", "red", firing, "{{alertname}}", "{{severity}} of {{job}}", "alertname,severity", False),
    ]


def json_of(dashboard: Dashboard) -> dict[str, Any]:
    """The whole file."""
    link = {"title": "autoreply", "type": "dashboards", "icon": "external link", "tooltip": "", "url": "", "tags": [TAG],
            "asDropdown": False, "targetBlank": False, "includeVars": True, "keepTime": True}  # fmt: skip
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "timezone": "browser",
        "weekStart": "",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m"]},
        "links": [link],
        "templating": {"list": variables()},
        "annotations": {"list": all_annotations()},
        "panels": laid_out(dashboard.rows),
    }
