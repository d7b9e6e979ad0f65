"""A master that its sentinels and replicas cannot reach any more, while some nodes still can: two masters at once.

The old master is reached directly by the nodes beside it; the sentinels, the replicas and the other nodes go through
a wire, which is cut. So the sentinels make another master, and the old one knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import chargehand.client
from chargehand.client import Client
from chargehand.config.load import load
from chargehand.plan.life import PlanState
from chargehand.registry import load_actions
from chargehand.store.connection import Unconfirmed
from chargehand.store.keys import Keys
from support.faults import chains, counted_once, lines_of
from support.programs import Program, until, write_config
from support.sentinels import Group, follows, leads
from support.server import Server, free_port
from support.wire import Wire

KEYS = Keys("default")
Cut = Callable[[Wire], None]


class Split:
    """The old side and the new one, before they are parted."""

    def __init__(self, place: Path) -> None:
        self._place = place
        port = free_port()
        self.wire = Wire(port)
        self.group = Group(place / "group", replicas=2, master_port=port, known_as=self.wire.port)
        self.programs: list[Program] = []

    @property
    def old(self) -> Server:
        return self.group.first

    def config(self, node: str, min_replicas: int, *, old: bool) -> Path:
        path = write_config(self._place, self.old.url if old else self.group.url, node=node)
        path.write_text(path.read_text().replace("[redis]", f"[redis]\nmin_replicas = {min_replicas}"))
        return path

    def client(self, min_replicas: int, *, old: bool) -> Client:
        settings = load(self.config("client-old" if old else "client-new", min_replicas, old=old)).settings
        return Client(settings, load_actions(settings).actions)

    def start(self, kind: str, min_replicas: int, *, old: bool) -> Program:
        config = self.config("node-old" if old else "node-new", min_replicas, old=old)
        self.programs.append(Program(self._place, config, kind).ready())
        return self.programs[-1]

    def stop(self) -> None:
        for program in self.programs:
            program.stop()
        self.wire.close()
        self.group.stop()


@pytest.fixture
def split(place: Path) -> Iterator[Split]:
    made = Split(place)
    yield made
    made.stop()


@pytest.mark.parametrize("cut", [Wire.cut, Wire.silence], ids=["cut", "silent"])
def test_the_old_side_acknowledges_nothing_and_its_leader_steps_down(
    split: Split, place: Path, monkeypatch: pytest.MonkeyPatch, cut: Cut
) -> None:
    old = split.start("orchestrator", 1, old=True)
    old.role("active")
    new = split.start("orchestrator", 1, old=False)
    new.role("passive")
    split.start("worker", 1, old=False)
    with split.client(1, old=True) as old_client, split.client(1, old=False) as new_client:
        plans = chains(new_client, place / "before", 3, 40, seconds=0.05)
        plans += chains(old_client, place / "beside", 3, 2)
        until("they are under way", lambda: len(lines_of(place / "before")) > 3)
        cut(split.wire)
        monkeypatch.setattr(chargehand.client, "_PERSIST", 1.0)
        lost = old_client.plan("lost")
        lost.add("nothing")
        with pytest.raises(Unconfirmed, match=r"0 of 1 replicas have plan .*: a failover would lose it"):
            old_client.submit(lost, key="lost")
        lost_id = chargehand.client.plan_id("default", "lost")
        assert split.old.line().call("EXISTS", KEYS.plan(lost_id)) == 1, "it stands there, and is not acknowledged"
        old.role("waiting")
        assert old.fields["X_CHARGEHAND_REDIS"].endswith("0 of 1 replicas")
        assert "deposed: epoch 1: not renewed in time: 0 of 1 replicas" in old.log.read_text()

        master = split.group.until_master_is_another()
        new.role("active")
        assert leads(split.old), "it knows nothing of the other"
        assert old.fields["X_CHARGEHAND_ROLE"] == "waiting"
        with pytest.raises(Unconfirmed):
            old_client.submit(lost, key="lost")
        monkeypatch.setattr(chargehand.client, "_PERSIST", 30.0)
        plans += chains(new_client, place / "after", 3, 5)
        for plan in plans:
            assert new_client.wait(plan, 60) is PlanState.SUCCEEDED, "all that was acknowledged, on either side"
        counted_once(master.line(), KEYS, plans)

        split.wire.mend()
        until("the old master follows the new one", lambda: follows(split.old), timeout=60)
        old.until("says so", lambda fields: "read only replica" in fields["X_CHARGEHAND_REDIS"])
        assert split.old.line().call("EXISTS", KEYS.plan(lost_id)) == 0
        assert new_client.read(lost_id) is None
    assert all(program.running for program in split.programs)


def test_without_min_replicas_both_sides_go_on(split: Split, place: Path) -> None:
    """What the test above is about: here two lead, and what the old side acknowledged is lost."""
    old = split.start("orchestrator", 0, old=True)
    old.role("active")
    new = split.start("orchestrator", 0, old=False)
    new.role("passive")
    split.wire.silence()
    split.group.until_master_is_another()
    new.role("active")
    with split.client(0, old=True) as old_client:
        plan = old_client.plan("lost")
        plan.add("nothing")
        name = old_client.submit(plan)
        until("it is accepted there", lambda: split.old.line().call("EXISTS", KEYS.states(name)) == 1)
        old.role("active")
        split.wire.mend()
        until("the old master follows the new one", lambda: follows(split.old), timeout=60)
        assert split.old.line().call("EXISTS", KEYS.plan(name)) == 0
    old.role("waiting")
