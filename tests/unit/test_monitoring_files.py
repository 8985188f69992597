"""The dashboard and the alerts ask for metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client import REGISTRY

from shared.runtime import metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/mdm.json").read_text())
ALERTS = (DEPLOY / "prometheus/alerts.yml").read_text()
ASKED = re.compile(r"\b(?:iot|mdm)_[a-z_]+")


def served() -> set[str]:
    """Return the names of all series that services serve, also of those that have no sample yet."""
    names = set(REGISTRY._names_to_collectors)
    assert metrics.DEVICES in REGISTRY._collector_to_names
    return names | {gauge._name for gauge in REGISTRY._collector_to_names if isinstance(gauge, metrics.Counts)}


def test_what_is_asked_for_is_served() -> None:
    asked = set(ASKED.findall(ALERTS))
    for panel in DASHBOARD["panels"]:
        asked |= set(ASKED.findall(panel["targets"][0]["expr"]))
    assert asked
    assert asked - served() == set()


def test_each_metric_of_ours_is_on_the_dashboard() -> None:
    shown = "".join(panel["targets"][0]["expr"] for panel in DASHBOARD["panels"])
    ours = {name for name in served() if re.fullmatch(r"(iot|mdm)_.*(_total|_count|_timestamp_seconds)", name)}
    assert {name for name in ours if name not in shown} == set()
