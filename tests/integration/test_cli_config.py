"""`chargehand config` as a person meets it: the real command, its words and its exit codes."""

from __future__ import annotations

import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from chargehand.cli.modules import probe
from chargehand.config.load import load
from chargehand.config.plain import from_builtins, to_builtins
from chargehand.linux.capabilities import may_change_user
from support import commands
from support.commands import Done
from support.configs import write_site
from support.programs import until


def chargehand(*words: str | Path, **environment: str) -> Done:
    return commands.chargehand(*words, env={"CHARGEHAND_CONFIG": "", **environment})


def module(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.py").write_text(textwrap.dedent(text))


# -- check ----------------------------------------------------------------------------------------


def test_a_sound_configuration_is_one_line(tmp_path: Path) -> None:
    path = write_site(tmp_path, 'node.name = "node-a"\n[redis]\nurl = "redis://redis"\n[[worker]]\nname = "hosts"')
    for done in (
        chargehand("config", "check", "--file", path),
        chargehand("config", "check", "--config", path),
        chargehand("--config", path, "config", "check"),
        chargehand("config", "--config", path, "check"),
        chargehand("config", "check", CHARGEHAND_CONFIG=str(path)),
    ):
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            f"ok: {path}; node node-a, executor default, redis://redis; workers: hosts (1 x 5 threads)\n"
        )


def test_every_problem_is_a_line_and_the_exit_code_is_78(tmp_path: Path) -> None:
    path = write_site(
        tmp_path,
        "[orchestrator]\nthreads = 4\n[actions]\nmodule = []\n",
        "redis.url = 'redis://:hunter2@a'\nagent.stop_timeout = 5",
    )
    done = chargehand("config", "check", "--file", path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines() == [
        f"chargehand: {line}"
        for line in (
            (
                f"{tmp_path}/site.d/1.toml:1: redis.url: a password in the URL; expected password_file = PATH"
                " (a URL is shown in logs and status lines)"
            ),
            (
                f"{tmp_path}/site.d/1.toml:2: agent.stop_timeout: found 5 (an integer); expected a duration with its"
                ' unit, like "5s" (ms, s, m, h, d)'
            ),
            (
                f"{path}:2: orchestrator.threads: 4; expected 1 (an orchestrator decides in one thread; for more work"
                " add worker threads, or an executor)"
            ),
            f'{path}:4: actions.module: unknown key; expected "modules"',
        )
    ]
    assert "hunter2" not in done.stderr
    answer = json.loads(chargehand("config", "check", "--json", "--file", path).stdout)
    assert answer["ok"] is False
    first = answer["problems"][0]
    assert first["file"] == f"{tmp_path}/site.d/1.toml"
    assert (first["line"], first["key"], first["expected"]) == (1, "redis.url", "password_file = PATH")


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["check", "--file", "/nowhere/x.toml"], 78, "/nowhere/x.toml: no such file (name a file that exists"),
        (["check", "--config", "/nowhere/x.toml"], 78, "/nowhere/x.toml: no such file"),
        (["show", "--config", "/nowhere/x.toml"], 78, "/nowhere/x.toml: no such file"),
        (["check", "--file", "/"], 78, "/: Is a directory"),
        (["check", "--file"], 2, "--file"),
        (["check", "--file", ""], 2, "an empty path names no file"),
        (["check", "--config", ""], 2, "an empty path names no file"),
        (["init", ""], 2, "an empty path names no file"),
        (["check", "--strict"], 2, "--strict"),
        (["verify"], 2, "verify"),
        (["init", "/nowhere/x.toml"], 1, "cannot write /nowhere/x.toml: No such file or directory"),
        (["init", "a", "b"], 2, "b"),
    ],
)
def test_what_is_typed_wrongly_is_told_in_a_line(words: list[str], code: int, expected: str) -> None:
    done = chargehand("config", *words)
    assert done.returncode == code
    assert done.stderr.startswith("chargehand")
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize("program", ["agent", "orchestrator", "worker"])
def test_the_programs_refuse_the_same_configuration(tmp_path: Path, program: str) -> None:
    path = write_site(tmp_path, "orchestrator.threads = 4")
    for done in (chargehand(program, "--config", path), chargehand(program, CHARGEHAND_CONFIG=str(path))):
        assert done.returncode == 78
        assert done.stderr.startswith(f"chargehand: {path}:1: orchestrator.threads: 4; expected 1 (")


def test_programs_are_counted(tmp_path: Path) -> None:
    program = "[[child]]\nname = '{0}'\nargv = ['{0}']\n"
    path = write_site(tmp_path, program.format("exporter"), program.format("mail"))
    done = chargehand("config", "check", "--file", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("; workers: worker (1 x 5 threads); programs: 2 (exporter, mail)\n")


# -- check: users ---------------------------------------------------------------------------------


@contextmanager
def answering(runtime_dir: Path, parameters: dict[str, object]) -> Iterator[list[dict[str, Any]]]:
    """An agent's socket on which this is the answer to all that is asked; what was asked is in the list."""
    asked: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(runtime_dir / "agent.sock"))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):  # the end of the test shuts it down
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        asked.append(json.loads(connection.recv(65536).rstrip(b"\0")))
                        connection.sendall(json.dumps({"parameters": parameters}).encode() + b"\0")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            (runtime_dir / "agent.sock").unlink()


def asking_for(tmp_path: Path, user: str) -> Path:
    return write_site(tmp_path, f"agent.runtime_dir = '{tmp_path}'\n[[worker]]\nname = 'hosts'\nuser = '{user}'\n")


OWN = pwd.getpwuid(os.geteuid()).pw_name
ANOTHER = next(user for user in pwd.getpwall() if user.pw_uid not in {0, os.geteuid()})


def test_users_are_checked_by_what_the_agent_may_do(tmp_path: Path) -> None:
    path = asking_for(tmp_path, OWN)
    rights = {"uid": ANOTHER.pw_uid, "gids": [ANOTHER.pw_gid], "may_change_user": False}
    with answering(tmp_path, rights) as asked:
        done = chargehand("config", "check", "--file", path)
        answer = json.loads(chargehand("config", "check", "--json", "--file", path).stdout)
    assert [one["method"] for one in asked] == ["io.chargehand.Agent.Status"] * 2
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        f'chargehand: {path}:4: worker "hosts": user: "{OWN}", and the agent runs as "{ANOTHER.pw_name}" and may not'
        f' change that; expected "{ANOTHER.pw_name}", or no user (the agent\'s unit runs without that right; privileged'
        " work has a unit of its own, chargehand-worker@hosts.service)\n"
    )
    assert (answer["problems"][0]["line"], answer["problems"][0]["key"]) == (4, "worker.hosts.user")
    with answering(tmp_path, rights | {"may_change_user": True}):
        done = chargehand("config", "check", "--file", path)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_agent_that_does_not_say_what_it_may_do_decides_nothing(tmp_path: Path) -> None:
    with answering(tmp_path, {"uid": "0"}):
        done = chargehand("config", "check", "--file", asking_for(tmp_path, OWN))
    assert done.returncode == 0
    assert "are checked by what this command itself may do" in done.stderr


def test_without_an_agent_users_are_checked_by_what_this_command_may_do(tmp_path: Path) -> None:
    done = chargehand("config", "check", "--file", asking_for(tmp_path, OWN))
    assert done.returncode == 0
    assert done.stderr == (
        "chargehand: note: no agent to ask runs here: user and group are checked by what this command itself may do\n"
    )
    done = chargehand("config", "check", "--file", asking_for(tmp_path, "no-such-name"))
    assert done.returncode == 78
    assert done.stderr.endswith(
        '/site.toml:4: worker "hosts": user: "no-such-name": no such user on this machine; expected the name of a user'
        " that exists\n"
    )


def test_nobody_is_asked_where_nothing_asks_for_a_user(tmp_path: Path) -> None:
    with answering(tmp_path, {}) as asked:
        assert chargehand("config", "check", "--file", write_site(tmp_path, f"agent.runtime_dir = '{tmp_path}'")).stdout
    assert asked == []


# -- what the agent reads -------------------------------------------------------------------------


def test_the_agents_reader_answers_in_json(tmp_path: Path) -> None:
    path = write_site(tmp_path, SITE)
    done = chargehand("read-config", path)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["files"] == [str(path)]
    assert from_builtins(answer["settings"]) == load(path).settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("orchestrator.threads = 4", "1: orchestrator.threads: 4; expected 1 ("),
        (
            "child = [{ name = 'x', argv = ['x'], group = 'no-such-name' }]",
            '1: child "x": group: "no-such-name": no such',
        ),
        ("a = ", "1: not TOML: "),
    ],
)
def test_the_agents_reader_says_what_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = write_site(tmp_path, text)
    done = chargehand("read-config", path)
    assert (done.returncode, done.stderr) == (78, "")
    (line,) = json.loads(done.stdout)["problems"]
    assert line.startswith(f"{path}:{expected}")


@pytest.mark.skipif(not may_change_user(), reason="only who may change the user can give that up")
def test_the_agents_reader_knows_what_it_may_not_do(tmp_path: Path) -> None:
    path = asking_for(tmp_path, ANOTHER.pw_name)
    assert "settings" in json.loads(chargehand("read-config", path).stdout)
    words = [
        "setpriv",
        "--bounding-set=-setuid",
        "--inh-caps=-setuid",
        sys.executable,
        "-m",
        "chargehand",
        "read-config",
    ]
    done = subprocess.run([*words, path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    (line,) = json.loads(done.stdout)["problems"]
    assert line.startswith(
        f'{path}:4: worker "hosts": user: "{ANOTHER.pw_name}", and the agent runs as "{OWN}" and may'
    )


# -- check: modules -------------------------------------------------------------------------------


def test_modules_that_cannot_be_imported_are_named_and_degrade(tmp_path: Path) -> None:
    module(tmp_path, "good", "print('noise')\nfrom chargehand import action\n@action\ndef df() -> None: ...\n")
    module(tmp_path, "needs", "import sys\n\nimport no_such_library\n")
    module(tmp_path, "broken", "def f(:\n")
    module(tmp_path, "leaves", "import sys\nsys.exit(3)\n")
    module(tmp_path, "dies", "import os\nos._exit(4)\n")
    module(tmp_path, "killed", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    names = ["good", "needs", "dies", "broken", "leaves", "killed", "absent"]
    path = write_site(
        tmp_path,
        f"actions = {{ path = ['{tmp_path}'], modules = {names} }}\n[[action]]\nname = 'df'\nargv = ['/usr/bin/df']\n",
    )
    done = chargehand("config", "check", "--file", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert sorted(done.stderr.splitlines()) == sorted(
        f"chargehand: {line}"
        for line in (
            (
                "cannot import module \"needs\": ModuleNotFoundError: No module named 'no_such_library'"
                f" ({tmp_path}/needs.py:3)"
            ),
            f'cannot import module "broken": SyntaxError: invalid syntax ({tmp_path}/broken.py:1)',
            'cannot import module "leaves": it exits with 3',
            'cannot import module "dies": its import ends the process (exit 4)',
            'cannot import module "killed": its import ends the process (signal SIGKILL)',
            "cannot import module \"absent\": ModuleNotFoundError: No module named 'absent'",
            'action "df" is declared in TOML and in a module; the module\'s is used',
            "the configuration is sound; workers start with it, degraded by this",
        )
    )
    answer = json.loads(chargehand("config", "check", "--json", "--file", path).stdout)
    assert answer["ok"] is False
    assert len(answer["imports"]) == 7


def test_a_hook_that_calls_no_action_is_named(tmp_path: Path) -> None:
    module(tmp_path, "pager", "from chargehand import action\n@action\ndef page(plan: str, state: str) -> None: ...\n")
    hooks = "[[action]]\nname = 'df'\nargv = ['df']\nhooks.paused = 'page'\nhooks.failed = 'paeg'\n"
    path = write_site(tmp_path, f"actions = {{ path = ['{tmp_path}'], modules = ['pager'] }}\n{hooks}")
    done = chargehand("config", "check", "--file", path)
    assert (done.returncode, done.stdout) == (1, "")
    expected = "an action of a module in actions.modules, or of an [[action]]"
    assert (
        done.stderr.splitlines()[0] == f'chargehand: {path}:6: action "df": hooks.failed: "paeg"; expected {expected}'
    )
    path.write_text(path.read_text().replace("paeg", "page"))
    assert chargehand("config", "check", "--file", path).returncode == 0


def test_a_site_module_never_replaces_one_of_ours(tmp_path: Path) -> None:
    """Nor is it passed over in silence: somebody wrote it to be imported."""
    module(tmp_path, "json", "raise RuntimeError('the wrong one')\n")
    errors = probe([str(tmp_path)], ["json"]).errors
    assert errors == {"json": f"{tmp_path}/json.py is hidden by {json.__file__}; give it another name"}


def test_a_module_that_hangs_is_named_and_so_are_the_untried(tmp_path: Path) -> None:
    module(tmp_path, "quick", "")
    module(tmp_path, "hangs", "import signal\nsignal.pause()\n")
    errors = probe([str(tmp_path)], ["quick", "hangs", "later"], limit=3.0).errors
    assert errors == {"hangs": "its import did not end within 3 s", "later": "not tried: hangs took all the time"}


def test_what_a_module_starts_neither_delays_the_check_nor_outlives_it(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    module(
        tmp_path,
        "starts",
        f"""
        import pathlib, subprocess, threading
        child = subprocess.Popen(["sleep", "600"])
        pathlib.Path({str(mark)!r}).write_text(str(child.pid))
        threading.Thread(target=threading.Event().wait).start()
        """,
    )
    assert probe([str(tmp_path)], ["starts"], limit=30.0).errors == {}
    until("what it started ends", lambda: _ended(int(mark.read_text())))


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # nobody has reaped it yet
    except FileNotFoundError:
        return True


def test_unreadable_files_are_a_note_not_an_error(tmp_path: Path) -> None:
    path = write_site(tmp_path, "[redis]\nurl = 'redis://a'\npassword_file = '/nowhere/password'\n")
    done = chargehand("config", "check", "--file", path)
    assert done.returncode == 0
    assert done.stderr == (
        "chargehand: note: redis.password_file: cannot read /nowhere/password: No such file or directory\n"
    )
    assert done.stdout.startswith("ok: ")


# -- show -----------------------------------------------------------------------------------------

SITE = """\
[redis]
url = "redis://chargehand@redis.example.com"
password_file = "/etc/chargehand/redis.password"
[orchestrator]
lease = { ttl = "8s" }
[[worker]]
name = "hosts"
queues = { "remote.execution" = 3, default = 1 }
[[action]]
name = "df"
argv = ["/usr/bin/df", "{path}", 'a "quoted" \\ one']
params.path = { default = "/", pattern = "^/.*$" }
env = { LANG = "C", API_TOKEN = "hunter2" }
[[child]]
name = "mail"
argv = ["postfix", "start-fg"]
ready = { log = "daemon started" }
limits.nofile = 1024
memory_max = "1536MiB"
env = { DB_PASSWORD = "hunter2" }
[[action]]
name = "tidy"
argv = ["/usr/bin/true"]
locks = ["disks", { name = "slots", most = 3 }]
labels = ["night"]
hooks.failed = "page"
hooks.ended = { action = "page", inputs = { "to.whom" = [{ name = "ada" }, "bob"], not = {} } }
"""


def test_show_says_where_each_value_comes_from(tmp_path: Path) -> None:
    path = write_site(tmp_path, SITE, 'worker = [{ name = "hosts", threads = 9 }]')
    done = chargehand("config", "show", "--config", path)
    assert (done.returncode, done.stderr) == (0, "")
    said = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert said >= {
        f'url = "redis://chargehand@redis.example.com" # {path}:2',
        f'password_file = "/etc/chargehand/redis.password" # {path}:3',
        f'lease.ttl = "8s" # {path}:5',
        'lease.renew = "1s" # default',
        f'queues."remote.execution" = 3 # {path}:8',
        f"threads = 9 # {tmp_path}/site.d/1.toml:1",
        f'env.API_TOKEN = "***" # {path}:13',
        f'ready.log = "daemon started" # {path}:17',
        f"limits.nofile = 1024 # {path}:18",
        f'memory_max = "1536MiB" # {path}:19',
        f'env.DB_PASSWORD = "***" # {path}:20',
        f'locks = ["disks", {{ name = "slots", most = 3 }}] # {path}:24',
        f'labels = ["night"] # {path}:25',
        f'hooks.failed = "page" # {path}:26',
        f'hooks.ended.inputs."to.whom" = [{{ name = "ada" }}, "bob"] # {path}:27',
        'stop_signal = "SIGTERM" # default',
        "limits = {} # default",
        "embedded = false # default",
    }
    assert any(line.startswith("name = ") and line.endswith(" # host name") for line in said)
    assert "hunter2" not in done.stdout
    # It is TOML, and loads as the same settings (but for what is masked).
    again = tmp_path / "again.toml"
    again.write_text(done.stdout.replace("***", "hunter2"))
    assert load(again).settings == load(path).settings


def test_show_as_json(tmp_path: Path) -> None:
    path = write_site(tmp_path, SITE)
    answer = json.loads(chargehand("config", "show", "--json", "--config", path).stdout)
    assert answer["files"] == [str(path)]
    assert answer["origins"]["redis.url"] == f"{path}:2"
    assert answer["settings"]["action"][0]["env"] == {"LANG": "C", "API_TOKEN": "***"}
    assert answer["origins"]["child.mail.ready"] == f"{path}:17"
    assert answer["settings"]["child"][0]["env"] == {"DB_PASSWORD": "***"}
    assert from_builtins(answer["settings"]).orchestrator == load(path).settings.orchestrator


# -- init -----------------------------------------------------------------------------------------


def test_init_writes_a_file_that_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "chargehand.toml"
    umask = os.umask(0o077)
    try:
        done = chargehand("config", "init", path)
    finally:
        os.umask(umask)
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    assert to_builtins(load(path).settings) == to_builtins(load(empty).settings)
    assert chargehand("config", "check", "--file", path).returncode == 0


def test_init_replaces_nothing_unasked(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text("mine = 1")
    done = chargehand("config", "init", path)
    assert (done.returncode, done.stderr) == (1, f"chargehand: {path} exists already: --force replaces it\n")
    assert path.read_text() == "mine = 1"
    assert chargehand("config", "init", "--force", path).returncode == 0
    assert tomllib.loads(path.read_text()).keys() == {
        "node",
        "executor",
        "redis",
        "agent",
        "orchestrator",
        "console",
        "retention",
        "actions",
    }
    assert [one.name for one in tmp_path.iterdir()] == ["site.toml"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_init_writes_where_the_configuration_is_looked_for(tmp_path: Path) -> None:
    assert chargehand("config", "init", CHARGEHAND_CONFIG=str(tmp_path / "a.toml")).returncode == 0
    assert chargehand("--config", tmp_path / "b.toml", "config", "init").returncode == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.toml", "b.toml"]


def test_a_unit_refuses_the_configuration_of_another(tmp_path: Path) -> None:
    """As chargehand@chargehand.service would read the default unit's: two agents for one state directory."""
    config = tmp_path / "a.toml"
    config.write_text("")
    done = chargehand("agent", "--config", config, RUNTIME_DIRECTORY="/run/chargehand-chargehand")
    assert done.returncode == 78
    assert "agent.runtime_dir: /run/chargehand, and this unit's is /run/chargehand-chargehand" in done.stderr


def test_check_of_a_file_where_it_will_stand(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/50.toml").write_text('[redis]\nusername = "x"\n')
    new = tmp_path / "new"
    new.write_text("[node]\n")
    place = tmp_path / "chargehand.toml"
    alone = chargehand("config", "check", "--file", new)
    assert alone.returncode == 0
    whole = chargehand("config", "check", "--file", new, "--as", place)
    assert whole.returncode == 78
    assert "redis.username" in whole.stderr
