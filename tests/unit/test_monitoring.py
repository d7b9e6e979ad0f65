"""What Prometheus reads: its names and units, and that rules, dashboard and document name what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chargehand.console.metrics import METRICS, Asked, metrics_of
from chargehand.store.census import Census, Seen
from chargehand.store.membership import Member
from chargehand.store.stats import ActionStats, Minute, QueueStats, Stats
from support.documents import DOCS

NAME = re.compile(r"\bchargehand_[a-z0-9_]+")
ALERTS = (DOCS / "monitoring/alerts.yml").read_text(encoding="utf-8")


def member(incarnation: str, node: str, kind: str, *, age: float = 1.0, role: str = "") -> Seen:
    who = Member(kind, node, kind, 1, 1_000, "0", role=role, epoch=7, threads=5, busy=2, share=40, behind=1.5)
    return Seen(incarnation, who, age, age > 8)


CENSUS = Census(
    now_ms=60_000,
    executor="east",
    lease_token="7:a",
    lease_left=4.5,
    holder="node-a",
    holder_since_ms=2_000,
    inbox=3,
    pending=2,
    plans={"paused": 1, "running": 4},
    queues={"default": 9},
    members=[
        member("a", "node-a", "orchestrator", role="active"),
        member("b", "node-b", "orchestrator", role="passive"),
        member("c", "node-b", "worker", age=9.5),
        member("d", "node-b", "worker", age=0.5),  # the successor of the one above
        member("e", "node-c", "worker", age=20),
    ],
)
STATS = Stats(
    now_ms=60_000,
    minutes=[Minute(0, plans=6, bad=1, submitted=8, median_ms=250, p95_ms=1500), Minute(60_000, plans=99)],
    queues=[QueueStats("default", 9, 1, 5, 2, 1.0, 1.0)],
    actions=[ActionStats('pa"tch\n', 10, 2, 1)],
)


def exposed() -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Asked(metrics_of({"east": (CENSUS, STATS), "west": None}, node="node-a")))
    return generate_latest(registry).decode()


def series() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposed())
        for sample in family.samples
    }


def value(name: str, **labels: str) -> float | None:
    return series().get((name, frozenset(({"executor": "east"} | labels).items())))


def test_everything_that_status_knows_is_told() -> None:
    assert value("chargehand_up") == 1
    assert value("chargehand_lease_held") == 1
    assert value("chargehand_lease_epoch") == 7
    assert value("chargehand_lease_remaining_seconds") == 4.5
    assert value("chargehand_lease_held_since_timestamp_seconds") == 2
    assert value("chargehand_inbox_events") == 3
    assert value("chargehand_plans_pending") == 2
    assert value("chargehand_plans", state="paused") == 1
    assert value("chargehand_queue_waiting_steps", queue="default") == 9
    assert value("chargehand_queue_workers", queue="default") == 1
    assert value("chargehand_steps_finished_total", action='pa"tch\n') == 10
    assert {name for name, _ in series()} == {*METRICS, "chargehand_build_info"}


def test_the_active_orchestrator_and_those_that_could_take_over_are_told_apart() -> None:
    assert value("chargehand_orchestrator_active", node="node-a") == 1
    assert value("chargehand_orchestrator_active", node="node-b") == 0
    assert value("chargehand_orchestrator_busy_ratio", node="node-a") == 0.4
    assert value("chargehand_orchestrator_inbox_delay_seconds", node="node-a") == 1.5
    assert value("chargehand_orchestrator_busy_ratio", node="node-b") == 0


def test_of_one_that_was_replaced_the_one_that_is_heard_is_told() -> None:
    worker = {"child": "worker", "kind": "worker"}
    assert value("chargehand_member_heartbeat_age_seconds", node="node-b", **worker) == 0.5
    assert value("chargehand_member_heard", node="node-b", **worker) == 1
    assert value("chargehand_member_heard", node="node-c", **worker) == 0


def test_the_last_whole_minute_is_told_and_not_the_one_that_is_not_over() -> None:
    assert value("chargehand_minute_plans_succeeded") == 6
    assert value("chargehand_minute_plans_failed") == 1
    assert value("chargehand_minute_plan_duration_p95_seconds") == 1.5


def test_of_an_executor_that_does_not_answer_only_that_is_told() -> None:
    west = [(name, value) for (name, labels), value in series().items() if ("executor", "west") in labels]
    assert west == [("chargehand_up", 0)]


def test_names_say_their_unit_and_counters_that_they_are_counters() -> None:
    for name, (text, labels) in METRICS.items():
        assert re.fullmatch(r"chargehand(_[a-z0-9]+)+", name)
        assert text.endswith(".")
        assert "executor" not in labels
        assert not re.search(r"_(ms|milliseconds|percent|count)\b", name)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_metrics_and_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposed(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rules = ["promtool", "check", "rules", str(DOCS / "monitoring/alerts.yml")]
    done = subprocess.run(rules, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rules_dashboard_and_document_name_metrics_that_there_are() -> None:
    texts = {
        "alerts.yml": ALERTS,
        "dashboard.json": (DOCS / "monitoring/dashboard.json").read_text(encoding="utf-8"),
        "monitoring.md": (DOCS / "monitoring.md").read_text(encoding="utf-8"),
    }
    for file, text in texts.items():
        found = set(NAME.findall(text))
        assert len(found) > 5
        assert found <= METRICS.keys(), file


def test_the_document_has_every_alert_with_its_severity() -> None:
    rules = re.findall(r"- alert: (\w+)\n(?:.*\n)*?\s+severity: (\w+)", ALERTS)
    table = re.findall(r"^\| `(Chargehand\w+)` \| (\w+) \|", (DOCS / "monitoring.md").read_text("utf-8"), re.MULTILINE)
    assert rules == table


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((DOCS / "monitoring/dashboard.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert all("$executor" in target["expr"] for target in panel["targets"])
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
