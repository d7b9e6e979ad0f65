"""A node's control group on the host: all its processes, whatever they do."""

from __future__ import annotations

from lab.host import cgroup_root, until

__all__ = ["NodeGroup"]


class NodeGroup:
    def __init__(self, name: str) -> None:
        root = cgroup_root()
        assert root is not None
        self.path = root / name
        self.path.mkdir(exist_ok=True)
        self._events = self.path / "cgroup.events"

    def entered_by(self, part: str, *argv: str) -> list[str]:
        """The command that runs `argv` in the group; "" as `part`: in itself, else in one below it."""
        path = self.path / part
        path.mkdir(exist_ok=True)
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(path), *argv]

    @classmethod
    def standing(cls, prefix: str) -> list[NodeGroup]:
        root = cgroup_root()
        return [] if root is None else [cls(path.name) for path in root.glob(f"{prefix}*") if path.is_dir()]

    def kill(self) -> None:
        """Everything at once, as when the power fails."""
        (self.path / "cgroup.kill").write_text("1", encoding="ascii")
        until(f"{self.path.name} empty", lambda: "populated 0" in self._events.read_text(encoding="ascii"))

    def freeze(self, *, frozen: bool) -> None:
        (self.path / "cgroup.freeze").write_text(str(int(frozen)), encoding="ascii")
        until("frozen", lambda: f"frozen {int(frozen)}" in self._events.read_text(encoding="ascii"))

    def remove(self) -> None:
        """It must be empty."""
        places = [self.path]
        # Beside groups of version 1, systemd-nspawn makes the same ones for systemd there.
        places.append(self.path.parent.parent / "systemd" / self.path.name)
        for place in places:
            if place.is_dir():
                below = sorted((path for path in place.rglob("*") if path.is_dir()), reverse=True)
                for path in [*below, place]:
                    path.rmdir()
