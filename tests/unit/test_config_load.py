"""Loading: defaults, and how files merge."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargehand.config.files import StandIn
from chargehand.config.load import ConfigError, Loaded, directories, load
from chargehand.config.plain import executors_of, from_builtins, to_builtins
from chargehand.config.settings import (
    ActionSettings,
    Duration,
    ExecutorAddress,
    HookSettings,
    Limits,
    LockSettings,
    LogPattern,
    Parameter,
    ProgramSettings,
    Rate,
    RedisSettings,
    RetrySettings,
    RolePatterns,
    Settings,
    Size,
    WorkerSettings,
)
from support.configs import refused, write_site

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_site, tmp_path)


# -- what is accepted -----------------------------------------------------------------------------


def test_an_empty_file_is_all_defaults(write: Write) -> None:
    found = load(write(""))
    assert found.settings.node.name == socket.gethostname()
    assert found.settings.redis.embedded
    assert found.settings.worker == [WorkerSettings(name="worker")]
    assert found.settings.executor == Settings().executor
    assert found.origins == {}


def test_a_url_is_enough(write: Write) -> None:
    found = load(write('[redis]\nurl = "redis://redis.example.com"\n'))
    assert not found.settings.redis.embedded
    assert found.settings.redis.url == "redis://redis.example.com"


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/etc/chargehand/chargehand.toml", ""),
        ("/etc/chargehand/blue.toml", "-blue"),
        ("/etc/chargehand/blue.toml20261124-7-x", ""),  # a copy that somebody has checked
        ("/srv/blue.toml", ""),
    ],
)
def test_a_further_instance_has_directories_of_its_own(file: str, own: str) -> None:
    found = directories(Path(file))
    assert found == {"state_dir": f"/var/lib/chargehand{own}", "runtime_dir": f"/run/chargehand{own}"}


def test_everything_at_once(write: Write) -> None:
    path = write(
        """
        [node]
        name = "node-a"
        [executor]
        name = "blue"
        [redis]
        url = "rediss://chargehand@redis.example.com:6380/2"
        password_file = "/etc/chargehand/redis.password"
        ca_file = "/etc/pki/ca.crt"
        cert_file = "/etc/chargehand/tls.crt"
        key_file = "/etc/chargehand/tls.key"
        timeout = "2s"
        [orchestrator]
        threads = 1
        lease = { ttl = "9s", renew = "1500ms" }
        [agent]
        stop_timeout = "1m"
        [[worker]]
        name = "hosts"
        queues = { remote_execution = 3, default = 1 }
        threads = 20
        processes = 2
        [actions]
        path = []
        modules = ["site_actions.patching"]
        [[child]]
        name = "mail"
        argv = ["postfix", "start-fg"]
        ready = { log = "daemon started" }
        role = { active = "entering active mode", passive = "entering passive mode" }
        after = ["hosts", "orchestrator", "exporter"]
        start_timeout = "1m"
        stop_timeout = "0s"
        stop_signal = "SIGINT"
        last_words = true
        directory = "/var/spool"
        memory_max = "1.5GiB"
        nice = 5
        user = "mail"
        group = "mail"
        env = { LANG = "C", CHARGEHAND_LOG = "debug" }
        limits = { nofile = 1024, core = "0B", stack = "8MiB" }
        [[child]]
        name = "exporter"
        argv = ["/usr/bin/redis_exporter"]
        ready = "notify"
        watchdog = "30s"
        [[action]]
        name = "disk-usage"
        argv = ["/usr/bin/df", "--output={what}", "{path}", "awk {}"]
        params.path = { pattern = "^/[a-z/]*$", default = "/" }
        params.what = { choices = ["pcent", "size"] }
        timeout = "30s"
        retry = { attempts = 3, max_backoff = "30s" }
        rescue = "revert"
        limit = 20
        rate = "10/s"
        reboots = true
        singleton = "reject"
        locks = ["disks", { name = "slots", most = 3 }, { name = "net", most = 0 }]
        hooks.paused = "alert"
        hooks.ended = { action = "alert", inputs = { channel = "mail" } }
        labels = ["disks"]
        env = { LANG = "C" }
        """
    )
    settings = load(path).settings
    assert settings.worker == [
        WorkerSettings(name="hosts", queues={"remote_execution": 3, "default": 1}, threads=20, processes=2)
    ]
    assert settings.orchestrator.lease.renew == Duration(1.5)
    assert settings.action == [
        ActionSettings(
            name="disk-usage",
            argv=["/usr/bin/df", "--output={what}", "{path}", "awk {}"],
            params={
                "path": Parameter(pattern="^/[a-z/]*$", default="/"),
                "what": Parameter(choices=["pcent", "size"]),
            },
            timeout=Duration(30),
            retry=RetrySettings(attempts=3, max_backoff=Duration(30)),
            rescue="revert",
            limit=20,
            rate=Rate("10/s"),
            reboots=True,
            singleton="reject",
            locks=["disks", LockSettings("slots", 3), LockSettings("net", 0)],
            hooks={"paused": "alert", "ended": HookSettings("alert", {"channel": "mail"})},
            labels=["disks"],
            env={"LANG": "C"},
        )
    ]
    mail, exporter = settings.child
    assert mail == ProgramSettings(
        name="mail",
        argv=["postfix", "start-fg"],
        ready=LogPattern("daemon started"),
        role=RolePatterns("entering active mode", "entering passive mode"),
        after=["hosts", "orchestrator", "exporter"],
        start_timeout=Duration(60),
        stop_timeout=Duration(0),
        stop_signal="SIGINT",
        last_words=True,
        directory="/var/spool",
        memory_max=Size(3 << 29),
        nice=5,
        user="mail",
        group="mail",
        env={"LANG": "C", "CHARGEHAND_LOG": "debug"},
        limits=Limits(nofile=1024, core=Size(0), stack=Size(8 << 20)),
    )
    assert (exporter.ready, exporter.watchdog) == ("notify", Duration(30))
    assert from_builtins(json.loads(json.dumps(to_builtins(settings)))) == settings


@given(
    ttl=st.integers(1_000_000, 10**9),
    attempts=st.integers(1, 1000),
    backoff=st.integers(0, 10**12),
    weights=st.dictionaries(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True), st.integers(1, 1000)),
)
def test_settings_travel_as_json(ttl: int, attempts: int, backoff: int, weights: dict[str, int]) -> None:
    data = to_builtins(Settings())
    data["node"]["name"] = "a"
    data["orchestrator"]["lease"]["ttl"] = f"{ttl / 1000}ms"
    data["worker"][0]["queues"] = weights
    retry = {"attempts": attempts, "backoff": f"{backoff / 1000}ms"}
    data["action"] = [{"name": "a", "argv": ["true"], "retry": retry, "timeout": None}]
    settings = from_builtins(data)
    assert from_builtins(json.loads(json.dumps(to_builtins(settings)))) == settings


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example.com:6379/0",
        "redis://[2001:db8::1]:6379",
        "redis://chargehand@redis",
        "rediss://redis/15",
        "unix:///run/redis/redis.sock",
        "unix:///run/redis.sock?db=3",
        "redis+sentinel://a:26379,b,10.0.0.3:26380/mymaster/2",
        "redis+sentinel://a",
        "rediss+sentinel://a,b:5/mymaster",
        "redis+cluster://a",
        "rediss+cluster://a:7000,b,10.0.0.3:7002",
    ],
)
def test_urls_that_do(write: Write, url: str) -> None:
    assert load(write(f'redis.url = "{url}"')).settings.redis.url == url


# -- merging --------------------------------------------------------------------------------------


def test_files_merge_in_name_order(write: Write) -> None:
    path = write(
        """
        [orchestrator]
        lease = { ttl = "6s", renew = "1s" }
        [actions]
        modules = ["one", "two"]
        [[worker]]
        name = "a"
        threads = 3
        queues = { x = 1, y = 2 }
        [[worker]]
        name = "b"
        [[action]]
        name = "gone"
        argv = ["true"]
        [[child]]
        name = "one"
        argv = ["one"]
        ready.log = "listening"
        role.active = "^active"
        env.A = "1"
        [[child]]
        name = "two"
        argv = ["two"]
        """,
        """
        orchestrator.lease.ttl = "8s"
        actions.modules = ["three"]
        worker = [{ name = "a", processes = 2, queues = { z = 1 } }, { name = "c" }]
        [[child]]
        name = "one"
        ready = { log = "ready" }
        role = { passive = "^passive" }
        env.B = "2"
        [[child]]
        name = "two"
        enabled = false
        """,
        """
        [[worker]]
        name = "a"
        threads = 7
        [[worker]]
        name = "b"
        enabled = false
        [[action]]
        name = "gone"
        enabled = false
        [[action]]
        name = "never-there"
        enabled = false
        """,
    )
    found = load(path)
    settings = found.settings
    assert settings.orchestrator.lease.ttl == Duration(8)
    assert settings.orchestrator.lease.renew == Duration(1)
    assert settings.actions.modules == ["three"]  # lists replace
    assert settings.worker == [
        WorkerSettings(name="a", threads=7, processes=2, queues={"z": 1}),
        WorkerSettings(name="c"),
    ]
    assert settings.action == []
    assert settings.child == [
        ProgramSettings(
            name="one",
            argv=["one"],
            ready=LogPattern("ready"),
            role=RolePatterns(active="^active", passive="^passive"),
            env={"A": "1", "B": "2"},
        )
    ]
    assert [file.name for file in found.files] == ["site.toml", "1.toml", "2.toml"]
    origins = {".".join(key): f"{file.name}:{line}" for key, (file, line) in found.origins.items()}
    assert origins["orchestrator.lease.ttl"] == "1.toml:2"
    assert origins["orchestrator.lease.renew"] == "site.toml:3"
    assert origins["worker.a.threads"] == "2.toml:4"
    assert origins["worker.a.processes"] == "1.toml:4"
    assert origins["child.one.ready"] == "1.toml:7"
    assert origins["child.one.role.active"] == "site.toml:19"
    assert origins["child.one.role.passive"] == "1.toml:8"
    assert "executor.name" not in origins


def test_executors_merge_by_name_and_are_on_the_redis_of_the_node_without_a_url(write: Write) -> None:
    found = load(
        write(
            "redis.url = 'redis://a'\n[[executors]]\nname = 'east'\n[[executors]]\nname = 'west'\nurl = 'redis://b'",
            "[[executors]]\nname = 'west'\ntimeout = '2s'\n[[executors]]\nname = 'east'\nenabled = false",
            "[[executors]]\nname = 'north'\nurl = 'rediss://c'\nca_file = '/ca'",
        )
    ).settings
    assert found.executors == [
        ExecutorAddress(name="west", url="redis://b", timeout=Duration(2)),
        ExecutorAddress(name="north", url="rediss://c", ca_file="/ca"),
    ]


def test_a_client_has_the_settings_of_each_executor() -> None:
    redis = RedisSettings(url="redis://a", username="u", min_replicas=1)
    known = [
        ExecutorAddress(name="east"),
        ExecutorAddress(name="west", url="rediss://b", ca_file="/ca", timeout=Duration(2)),
    ]
    found = executors_of(Settings(redis=redis, executors=known))
    assert {name: (one.executor.name, one.redis) for name, one in found.items()} == {
        "east": ("east", redis),
        "west": ("west", RedisSettings(url="rediss://b", ca_file="/ca", timeout=Duration(2))),
    }
    alone = Settings(redis=redis)
    assert executors_of(alone) == {"default": alone}


def test_the_nodes_own_executor_needs_no_url_beside_an_embedded_server(write: Write) -> None:
    assert load(write("[[executors]]\nname = 'default'")).settings.executors == [ExecutorAddress(name="default")]


@pytest.mark.parametrize(
    ("earlier", "later", "found"),
    [
        ('{ log = "a" }', '"notify"', "notify"),
        ('"notify"', '{ log = "b" }', LogPattern("b")),
        ('{ log = "a" }', '{ log = "b" }', LogPattern("b")),
    ],
)
def test_what_ready_is_is_one_value(write: Write, earlier: str, later: str, found: object) -> None:
    first = f'child = [{{ name = "a", argv = ["a"], ready = {earlier} }}]'
    (program,) = load(write(first, f'child = [{{ name = "a", ready = {later} }}]')).settings.child
    assert program.ready == found


def test_a_table_of_one_value_is_known_by_its_place(write: Write) -> None:
    """A parameter of an action may have any name: its keys merge."""
    first = "[[action]]\nname = 'a'\nargv = ['a', '{queues}']\nparams.queues.type = 'integer'"
    (action,) = load(write(first, "action = [{ name = 'a', params.queues.minimum = 1 }]")).settings.action
    assert action.params["queues"] == Parameter(type="integer", minimum=1)


def test_which_directory_belongs_to_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in ("conf.d", "site.d", "plain.d"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "x.toml").write_text(f'executor.name = "{directory}"')
        (tmp_path / directory / ".hidden.toml").write_text("an editor's lock")
        (tmp_path / directory / "x.toml.rpmsave").write_text("no TOML")
    for name, executor in (("chargehand.toml", "conf.d"), ("site.toml", "site.d"), ("plain", "plain.d")):
        (tmp_path / name).write_text("")
        assert load(tmp_path / name).settings.executor.name == executor
    monkeypatch.setenv("CHARGEHAND_CONFIG", str(tmp_path / "site.toml"))
    assert load().settings.executor.name == "site.d"
    assert load(tmp_path / "plain").settings.executor.name == "plain.d"


def test_only_the_default_file_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHARGEHAND_CONFIG", raising=False)
    monkeypatch.setattr("chargehand.config.files.DEFAULT", tmp_path / "chargehand.toml")
    assert load() == Loaded(load().settings, {}, [])
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text('node.name = "x"')
    assert load().settings.node.name == "x"
    assert refused(tmp_path / "other.toml") == ["other.toml: no such file (name a file that exists, or none at all)"]
    (tmp_path / "chargehand.toml").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="a link to a file that does not exist"):
        load()


@pytest.mark.parametrize(
    ("place", "text", "sound"),
    [
        ("chargehand.toml", '[redis]\nurl = "redis://other"\n', True),
        ("chargehand.toml", "", False),  # the drop-in's username needs the url that this loses
        ("conf.d/50-acl.toml", '[redis]\nusername = "somebody"\n', True),
        ("conf.d/50-acl.toml", "[redis]\nembedded = true\n", False),
        ("conf.d/60-new.toml", '[node]\nname = "n"\n', True),
        ("conf.d/60-new.toml", "[orchestrator]\nthreads = 2\n", False),
    ],
)
def test_a_file_is_checked_where_it_will_stand(tmp_path: Path, place: str, text: str, *, sound: bool) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "chargehand.toml").write_text('[redis]\nurl = "redis://one"\n')
    (tmp_path / "conf.d/50-acl.toml").write_text('[redis]\nusername = "chargehand"\n')
    new = tmp_path / f"{place}20261124-77-abc"
    new.write_text(text)
    stand_in = StandIn(new, tmp_path / place)
    if sound:
        assert new in load(stand_in=stand_in).files
        return
    with pytest.raises(ConfigError) as caught:
        load(stand_in=stand_in)
    assert any(problem.file in {new, tmp_path / "conf.d/50-acl.toml"} for problem in caught.value.problems)


def test_a_further_instances_file_is_checked_where_it_will_stand(tmp_path: Path) -> None:
    (tmp_path / "blue.d").mkdir()
    (tmp_path / "blue.toml").write_text('[node]\nname = "b"\n')
    (tmp_path / "x").write_text('[executor]\nname = "blue"\n')
    found = load(stand_in=StandIn(tmp_path / "x", tmp_path / "blue.d/10.toml"))
    assert (found.settings.node.name, found.settings.executor.name) == ("b", "blue")
