"""The parts of a Grafana dashboard, with no more than what is not Grafana's own default."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 39
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
#: The models that somebody has chosen.
MODEL = 'model=~"$model"'
#: What shows how often a call or a step took how long.
QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One question to Prometheus, and the name of what comes of it, such as `{{model}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One picture."""

    title: str
    #: Grafana's name of the kind of picture.
    kind: str = "timeseries"
    unit: str = "short"
    #: What it says, and what to think of it, for who sees it the first time.
    description: str = ""
    queries: Sequence[Query] = ()
    #: Of 24 columns.
    width: int = 8
    height: int = 8
    stacked: bool = False
    #: The greatest value that there can be.
    most: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self, panel_id: int, *, x: int, y: int) -> dict[str, Any]:
        """Give it as Grafana has it."""
        instant = self.kind in ("stat", "bargauge")
        defaults: dict[str, Any] = {"unit": self.unit, "min": 0}
        if self.most is not None:
            defaults["max"] = self.most
        if self.kind == "timeseries":
            defaults["custom"] = {
                "fillOpacity": 20 if self.stacked else 5,
                "showPoints": "never",
                "stacking": {"mode": "normal" if self.stacked else "none"},
            }
        return {
            "id": panel_id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "datasource": DATASOURCE,
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": self._options(),
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": DATASOURCE,
                    "expr": query.expr,
                    "legendFormat": query.legend or "__auto",
                    **({"instant": True, "range": False} if instant else {}),
                    **({"format": "heatmap"} if self.kind == "heatmap" else {}),
                }
                for index, query in enumerate(self.queries)
            ],
        }

    def _options(self) -> dict[str, Any]:
        match self.kind:
            case "timeseries":
                own: dict[str, Any] = {
                    "legend": {"displayMode": "list", "placement": "bottom"},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }
            case "bargauge":
                own = {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}}
            case "stat":
                own = {"graphMode": "none", "colorMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
            case "heatmap":
                # The buckets are there already; without this Grafana would make others of them.
                own = {"calculate": False, "yAxis": {"unit": self.unit}, "cellGap": 1}
            case _:
                own = {}
        return {**own, **self.options}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


def rate(metric: str, *, by: str, where: str = "", legend: str = "") -> Query:
    """Ask how often something happens, by a label, which names what comes of it."""
    return _by("rate", metric, by=by, where=where, window="$__rate_interval", legend=legend)


def increase(metric: str, *, by: str, where: str = "", legend: str = "") -> Query:
    """Ask how often something happened in the last hour, by a label, which names what comes of it."""
    return _by("increase", metric, by=by, where=where, window="1h", legend=legend)


def mean(metric: str, *, where: str) -> Query:
    """Ask for the mean of a histogram, by model."""
    above, below = (f"sum by (model) (rate({metric}_{part}{{{where}}}[$__rate_interval]))" for part in ("sum", "count"))
    return Query(expr=f"{above} / {below}", legend="{{model}}, on average")


def _by(function: str, metric: str, *, by: str, where: str, window: str, legend: str) -> Query:
    chosen = f"{{{where}}}" if where else ""
    named = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Query(expr=f"sum by ({by}) ({function}({metric}{chosen}[{window}]))", legend=legend or named)


def quantiles(metric: str, *, by: str = "", where: str = "") -> Sequence[Query]:
    """Ask for the quantiles of a histogram, of all together or by a label."""
    labels = ", ".join(filter(None, (by, "le")))
    name = f"{{{{{by}}}}} " if by else ""
    return [
        Query(
            expr=(
                f"histogram_quantile({quantile}, "
                f"sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"
            ),
            legend=f"{name}p{quantile * 100:g}",
        )
        for quantile in QUANTILES
    ]


def dashboard(uid: str, title: str, rows: Sequence[Row], *, description: str) -> dict[str, Any]:
    """Lay rows out from top to bottom, each from left to right."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        heading = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        panels.append({"id": len(panels) + 1, **heading, "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            panels.append(panel.to_json(len(panels) + 1, x=x, y=y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["easel"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {
                "type": "dashboards",
                "title": "Easel",
                "tags": ["easel"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                {
                    "name": "model",
                    "label": "Model",
                    "type": "query",
                    "datasource": DATASOURCE,
                    "query": "label_values(easel_live_workers, model)",
                    "refresh": 2,
                    "includeAll": True,
                    "allValue": ".*",
                    "multi": True,
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels,
    }
