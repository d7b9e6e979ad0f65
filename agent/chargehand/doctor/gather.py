"""Finding out what the checks look at: thin, and whatever cannot be asked is a fact as well."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from chargehand.config import plain
from chargehand.config.files import config_path, instance
from chargehand.config.secrets import Exposed, SecretError, usable
from chargehand.config.settings import RedisAddress, Settings
from chargehand.decoding import converter
from chargehand.doctor.facts import LONG_MS, Facts, FileFault, Silence, SocketFacts
from chargehand.health import NodeStatus
from chargehand.linux.units import show_unit
from chargehand.store.census import take_census
from chargehand.store.checkup import check_up
from chargehand.store.connection import Dialer, Full, Line, Refused, Unavailable
from chargehand.store.keys import Keys
from chargehand.store.load import read_load
from chargehand.store.rights import check_rights
from chargehand.store.server import examine_server, fault_of, hosts, sentinels
from chargehand.supervisor.asking import ControlError, NotAllowed, NotRunning, query
from chargehand.supervisor.control import socket_path
from chargehand.worker.trust import distrusted

__all__ = ["gather"]

_PATIENCE = 2.0  # seconds that the agent has for its answer
_HEARD_MS = 3_000  # an executor that has published nothing for so long gets no plans
_SECRETS = ("password_file", "sentinel_password_file", "key_file")
_FILES = (*_SECRETS, "ca_file", "cert_file")


def gather(
    settings: Settings | None, *, files: Iterable[Path] = (), refusals: Iterable[str] = (), socket: Path | None = None
) -> Facts:
    """`settings`: of this node; None: the configuration is refused, for `refusals`. `files`: of the configuration.

    `socket`: the agent's control socket, where the settings do not say it.
    """
    facts = Facts(
        node=settings.node.name if settings is not None else os.uname().nodename,
        now=time.time(),
        user=_user(os.geteuid()),
        root=os.geteuid() == 0,
        cores=len(os.sched_getaffinity(0)),
        settings=settings,
        refusals=list(refusals),
    )
    if settings is None:
        facts.closed = _closed(config_path(None)[0])
    else:
        socket = socket_path(settings.agent.runtime_dir)
        _ask_redis(facts, plain.reachable(settings))
        facts.files = list(_file_faults("redis", settings.redis))
        for one in settings.executors:
            facts.files += _file_faults(f"executors.{one.name}", one)
        groups = [group.name for group in settings.worker if group.unit]
        facts.privileged = {unit: show_unit(unit) for unit in (f"chargehand-worker@{name}.service" for name in groups)}
        if groups:
            facts.untrusted = distrusted(settings, files)
    if socket is not None:
        _ask_agent(facts, socket)
    name = instance(config_path(None)[0])
    facts.unit_name = f"chargehand@{name}.service" if name else "chargehand.service"
    facts.unit = show_unit(facts.unit_name)
    return facts


# -- Redis ----------------------------------------------------------------------------------------


def _ask_redis(facts: Facts, settings: Settings) -> None:
    facts.hosts = hosts(settings.redis)
    facts.sentinels = sentinels(settings.redis)
    for name, others in plain.executors_of(settings).items():
        if name != settings.executor.name:
            facts.others[name] = _trouble_of(others)
    try:
        line = Dialer(settings.redis, settings.executor.name).line()
    except (Unavailable, Refused, Full) as error:
        facts.fault, facts.fault_text = fault_of(error), str(error)
        return
    keys = Keys(settings.executor.name)
    try:
        facts.server = examine_server(line)
        with suppress(Refused):  # the trial names what is missing
            _ask_executor(facts, line, keys, settings)
    except Unavailable as error:
        facts.fault, facts.fault_text = fault_of(error), str(error)
    else:
        facts.rights = _missing_rights(line, keys)
    finally:
        line.close()


def _missing_rights(line: Line, keys: Keys) -> str:
    """The last thing that is asked on a line: a server that takes no writes now can be read all the same."""
    try:
        check_rights(line, keys)
    except (Refused, Unavailable) as error:
        return str(error)
    return ""


def _ask_executor(facts: Facts, line: Line, keys: Keys, settings: Settings) -> None:
    facts.census = census = take_census(line, keys, settings.executor.name)
    configured = {queue for group in settings.worker for queue in group.queues}
    configured |= {one.queue for one in settings.action}
    facts.checkup = check_up(line, keys, census, configured, long_ms=LONG_MS)


def _trouble_of(settings: Settings) -> str:
    """Why another executor of the configuration gets no plans from here; empty: it does."""
    try:
        line = Dialer(settings.redis, settings.executor.name).line()
    except (Unavailable, Refused, Full) as error:
        return f"Redis cannot be reached: {error}"
    try:
        found = read_load(line, Keys(settings.executor.name))
    except (Unavailable, Refused) as error:
        return str(error)
    finally:
        line.close()
    if found is None:
        return "its orchestrators have never said anything"
    age = found.now_ms - found.at_ms
    return "" if age <= _HEARD_MS else f"no orchestrator has been active for {age / 1000:.0f} s"


def _closed(path: Path) -> bool:
    try:
        path.read_bytes()
    except PermissionError:
        return True
    except OSError:
        pass
    return False


# -- this node ------------------------------------------------------------------------------------


def _ask_agent(facts: Facts, path: Path) -> None:
    try:
        facts.agent = converter(NodeStatus)(query(path, "Status", timeout=_PATIENCE, unit=facts.unit_name))
    except NotRunning as error:
        facts.silence = Silence("not-running", str(error))
    except NotAllowed as error:
        facts.silence = Silence("not-allowed", str(error))
    except (ControlError, msgspec.ValidationError) as error:
        facts.silence = Silence("no-answer", str(error))
    try:
        found = path.stat()
    except OSError:
        return  # not there, or in a directory that is closed to this user
    facts.socket = SocketFacts(str(path), stat.S_IMODE(found.st_mode), _user(found.st_uid), _group(found.st_gid))


def _file_faults(where: str, address: RedisAddress) -> Iterable[FileFault]:
    for name in _FILES:
        path: str | None = getattr(address, name)
        if path is None:
            continue
        try:
            usable(path, secret=name in _SECRETS)
        except Exposed as fault:
            yield FileFault(f"{where}.{name}", "exposed", str(fault))
        except SecretError as fault:
            absent = isinstance(fault.__cause__, FileNotFoundError)
            yield FileFault(f"{where}.{name}", "absent" if absent else "unreadable", str(fault))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"
