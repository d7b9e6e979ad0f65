"""Every refusal, in the words that a person reads: file, line, key, what was found, what would do."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from chargehand.config.load import ConfigError, load
from support.configs import refused, write_site

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return partial(write_site, tmp_path)


def test_all_problems_are_told_at_once_each_with_its_line(write: Write) -> None:
    lines = refused(
        write(
            """\
            [redis]
            url = "http://redis"
            tiemout = "1s"
            [orchestrator]
            threads = 2
            [[worker]]
            name = "hosts"
            threads = "five"
            queue = ["a"]
            [[worker]]
            name = "other"
            queues = []
            [orchestra]
            """,
            'agent.stop_timeout = 25\nnode.name = "-"',
        )
    )
    assert lines == [
        (
            'site.d/1.toml:1: agent.stop_timeout: found 25 (an integer); expected a duration with its unit, like "5s"'
            " (ms, s, m, h, d)"
        ),
        (
            "site.d/1.toml:2: node.name: found \"-\" (a string); expected a name of letters, digits, '.', '_' and '-',"
            " at most 63"
        ),
        (
            'site.toml:2: redis.url: scheme "http"; expected one of redis://, rediss://, unix://, redis+sentinel://, '
            "rediss+sentinel://, redis+cluster://, rediss+cluster://"
        ),
        'site.toml:3: redis.tiemout: unknown key; expected "timeout"',
        (
            "site.toml:5: orchestrator.threads: 2; expected 1 (an orchestrator decides in one thread; for more work add"
            " worker threads, or an executor)"
        ),
        'site.toml:8: worker "hosts": threads: found "five" (a string); expected an integer from 1 to 500',
        'site.toml:9: worker "hosts": queue: unknown key; expected "queues"',
        'site.toml:12: worker "other": queues: none; expected at least one queue',
        'site.toml:13: orchestra: unknown key; expected "orchestrator"',
    ]


ONE_PROBLEM = {
    # types
    "worker = 5": "1: worker: found 5 (an integer); expected [[worker]] above the keys of each, in double brackets",
    "[worker]\nname = 'a'": "1: worker: found a table of 1; expected [[worker]]",
    "worker = ['a']": "1: worker: found a list of 1; expected [[worker]]",
    "[[worker]]\nthreads = 1": "1: worker: no name; expected a name for each worker, as a string",
    "[[worker]]\nname = 7": "2: worker: found 7 (an integer) as name; expected a name for each worker",
    "redis = 'redis://a'": '1: redis: found "redis://a" (a string); expected a table of url, username,',
    "[redis]\ntimeout = 1": "2: redis.timeout: found 1 (an integer); expected a duration with its unit",
    "[redis]\ntimeout = '1'": '2: redis.timeout: found "1" (a string); expected a duration',
    "[redis]\ntimeout = '1 fortnight'": '2: redis.timeout: found "1 fortnight" (a string); expected a duration',
    "[redis]\nembedded = 1": "2: redis.embedded: found 1 (an integer); expected true or false",
    "[orchestrator]\nenabled = 'yes'": '2: orchestrator.enabled: found "yes" (a string); expected true or false',
    "[orchestrator]\nlease = '5s'": '2: orchestrator.lease: found "5s" (a string); expected a table of ttl, renew',
    "[orchestrator]\nmax_inbox = 5": "2: orchestrator.max_inbox: found 5 (an integer); expected an integer of at",
    "[orchestrator]\nmax_inbox = true": "2: orchestrator.max_inbox: found true (a boolean)",
    "[actions]\nmodules = 'a'": '2: actions.modules: found "a" (a string); expected a list (a string each)',
    "[actions]\nmodules = ['a', 3]": "2: actions.modules: found 3 (an integer) in the list; expected a list",
    "[executor]\nname = 2020-01-01": "2: executor.name: found 2020-01-01 (a date or time)",
    '[executor]\nname = "a\\n"': '2: executor.name: found "a\\n" (a string); expected a name of',
    "[executor]\nname = 'a{b'": '2: executor.name: found "a{b" (a string)',
    "[[worker]]\nname = 'a'\nthreads = 0": '3: worker "a": threads: found 0 (an integer); expected an integer from 1',
    "[[worker]]\nname = 'a'\nthreads = 2.0": '3: worker "a": threads: found 2.0 (a number)',
    "[[worker]]\nname = 'a'\nqueues = ['@n']": '3: worker "a": queues: found "@n" (a string) in the list; expect',
    "[[worker]]\nname = 'a'\nqueues = { b = 0 }": '3: worker "a": queues: found a table of 1; expected a list (a',
    "[[worker]]\nname = 'a/b'": '2: worker "a/b": name: found "a/b" (a string); expected a name',
    # keys that are not known
    "[[program]]\nname = 'exporter'": "1: program: unknown key; expected one of action, actions, agent, child",
    "[[worker]]\nname = 'a'\nqueue = ['a']": '3: worker "a": queue: unknown key; expected "queues"',
    "[[worker]]\nname = 'a'\nlimits.nofiles = 20": '3: worker "a": limits.nofiles: unknown key; expected "nofile"',
    "[[worker]]\nname = 'a'\nlimits.files = 20": '3: worker "a": limits.files: unknown key; expected "nofile"',
    "[redis]\npassword = 'hunter2'": "2: redis.password: unknown key (put the password into a file of its own",
    "[redis]\nhost = 'a'": "2: redis.host: unknown key (host, port and database are in redis.url",
    # names
    "[[worker]]\nname = 'a'\n[[worker]]\nname = 'a'": '3: worker "a": a second worker of this name in this file'
    " (the first: line 1); expected names that differ (a later file may name one again, to change it)",
    "[[action]]\nname = 'a'\nargv = ['x']\n[[action]]\nname = 'a'": '4: action "a": a second action of this name',
    "[[action]]\nname = 'a'": '1: action "a": argv: is missing; expected a list (a string each) with at least 1',
    # the lease
    "orchestrator.lease.ttl = '900ms'": "1: orchestrator.lease.ttl: 900ms; expected at least 1s",
    "orchestrator.lease.renew = '2s'": "1: orchestrator.lease.renew: 2s with ttl 5s; expected at most a third of the"
    " ttl (1.666s) (one lost renewal must not cost the lease)",
    "orchestrator.lease.renew = '0s'": "1: orchestrator.lease.renew: 0s; expected at least 10ms",
    "redis.timeout = '3s'": "1: redis.timeout: 3s with lease renew 1s, ttl 5s; expected less than 0.8 ttl - renew (3s)"
    " (a renewal without an answer must be noticed while the lease still holds)",
    "redis.timeout = '0s'": "1: redis.timeout: 0s; expected at least 10ms",
    # the agent
    "agent.ready_timeout = '90s'": "1: agent.ready_timeout: 90s; expected from 100ms to 80s (systemd gives",
    "agent.stop_timeout = '1d'": "1: agent.stop_timeout: 1d; expected at most 1h",
    "agent.shutdown_timeout = '61m'": "1: agent.shutdown_timeout: 61m; expected at most 1h",
    "agent.state_dir = 'state'": '1: agent.state_dir: found "state" (a string); expected an absolute path',
    "actions.path = ['actions']": '1: actions.path: found "actions" (a string); expected an absolute path',
    "actions.modules = ['a/b.py']": '1: actions.modules: found "a/b.py" (a string); expected the name of a module',
    "[orchestrator]\nenabled = false\n[[worker]]\nname = 'worker'\nenabled = false": "3: worker: no worker, and the",
    "[[worker]]\nname = 'a'\nqueues = ['b', 'b']": '3: worker "a": queues: "b" twice; expected each queue once',
    # what children have in common
    "orchestrator.memory_max = '1MiB'": "1: orchestrator.memory_max: 1MiB; expected at least 16MiB (no ceiling: leave",
    "orchestrator.memory_max = 5": "1: orchestrator.memory_max: found 5 (an integer); expected a size with its unit",
    "orchestrator.nice = 20": "1: orchestrator.nice: found 20 (an integer); expected an integer from -20 to 19",
    "orchestrator.env.LISTEN_FDS = '3'": "1: orchestrator.env.LISTEN_FDS: a name that the agent sets itself; expected "
    "another (each child has a socket",
    "orchestrator.env.TOKEN = 5": "1: orchestrator.env.TOKEN: found an integer (not shown); expected a string",
    "orchestrator.limits = 5": "1: orchestrator.limits: found 5 (an integer); expected a table of nofile, nproc, core,",
    "orchestrator.limits.core = 0": "1: orchestrator.limits.core: found 0 (an integer); expected a size with its unit",
    "[[worker]]\nname = 'a'\nstart_timeout = '99ms'": '3: worker "a": start_timeout: 99ms; expected at least 100ms',
    "[[worker]]\nname = 'a'\nmemory_max = '15MiB'": '3: worker "a": memory_max: 15MiB; expected at least 16MiB',
    "[[worker]]\nname = 'a'\nuser = 0": '3: worker "a": user: found 0 (an integer); expected a string',
    "[[worker]]\nname = 'a'\nenv.CHARGEHAND_NODE = 'b'": '3: worker "a": env.CHARGEHAND_NODE: a name that the agent',
    "[[worker]]\nname = 'a'\nenv.CHARGEHAND_LOG = 'x'": '3: worker "a": env.CHARGEHAND_LOG: no level of logging; ex',
    "[[worker]]\nname = 'a'\nenv.'' = 'b'": '3: worker "a": env.: a name or value that no environment can hold',
    # names that meet
    "[[worker]]\nname = 'orchestrator'": '2: worker "orchestrator": name: "orchestrator" is the orchestrator\'s name',
    "[[worker]]\nname = 'agent'": '2: worker "agent": name: "agent" is the agent\'s own name',
    "[[worker]]\nname = 'a'\nprocesses = 2\n[[worker]]\nname = 'a-1'": '5: worker "a-1": name: "a-1" is the name of a '
    'process of worker group "a"; expected a name that meets no other child\'s',
    "[[worker]]\nname = 'a-2'\n[[worker]]\nname = 'a'\nprocesses = 3": '4: worker "a": name: its process "a-2" is the n'
    "ame of a worker group",
    # the connection
    "redis.url = 'redis://a'\nredis.embedded = true": "2: redis.embedded: true beside a url; expected one of the two",
    "redis.embedded = false": "1: redis.embedded: false without a url; expected a url, or embedded = true",
    "redis.url = 'redis.example.com'": "1: redis.url: no scheme; expected one of redis://, rediss://, unix://, r",
    "redis.url = 'http://a'": '1: redis.url: scheme "http"; expected one of redis://',
    "redis.url = 'redis://'": "1: redis.url: no host; expected redis://HOST:PORT/DB",
    "redis.url = 'redis://a:70000'": "1: redis.url: a host or port that cannot be read",
    "redis.url = 'redis://a:0'": "1: redis.url: port 0",
    "redis.url = 'redis://[::1'": "1: redis.url: a host or port that cannot be read",
    "redis.url = 'redis://a/b'": '1: redis.url: "/b" after the host',
    "redis.url = 'redis://a?ssl_cert_reqs=none'": '1: redis.url: "?ssl_cert_reqs=" in the URL; expected no options',
    "redis.url = 'unix://run/redis.sock'": '1: redis.url: "run" where the path begins; expected unix:///PATH',
    "redis.url = 'unix://'": "1: redis.url: no path",
    "redis.url = 'redis+sentinel://a,,b'": "1: redis.url: no sentinel",
    "redis.url = 'redis+sentinel://[::1]:1'": '1: redis.url: "[::1]:1" as a sentinel',
    "redis.url = 'redis+cluster://a,,b'": "1: redis.url: no node",
    "redis.url = 'rediss+cluster://a:b'": '1: redis.url: "a:b" as a node; expected HOST:PORT of each, with commas',
    "redis.url = 'redis+cluster://a,b/0'": '1: redis.url: "/0" after the nodes; expected redis+cluster://HOST:PORT,HOS',
    "redis.url = 'redis+cluster://a?db=1'": '1: redis.url: "?db=" in the URL; expected no options in it',
    "redis.url = 'redis+cluster://u@a'": "1: redis.url: a user name in the URL; expected it in redis.username alone",
    "redis.url = 'redis+cluster://a'\nredis.ca_file = '/ca'": "2: redis.ca_file: set, with a url of redis+cluster://",
    "redis.url = 'rediss+cluster://a'\nredis.sentinel_username = 'b'": "2: redis.sentinel_username: set, with a url",
    "redis.min_replicas = 1": "1: redis.min_replicas: set, with no url; expected it with a url only",
    "redis.url = 'redis://a'\nredis.min_replicas = 11": "2: redis.min_replicas: found 11 (an integer); expected an int",
    "redis.url = 'redis://a'\nredis.password_file = '$HOME/x'": "2: redis.password_file: found a string (not shown)",
    "redis.url = 'redis+sentinel://u@a'": "1: redis.url: a user name in the URL; expected it in redis.username alone",
    "redis.url = 'redis://u@a'\nredis.username = 'u'": "1: redis.url: a user name in the URL and in redis.username",
    "redis.url = 'redis://a'\nredis.ca_file = '/ca'": "2: redis.ca_file: set, with a url of redis://; expected i",
    "redis.ca_file = '/ca'": "1: redis.ca_file: set, with no url; expected it with a url of rediss:// only",
    "redis.username = 'a'": "1: redis.username: set, with no url; expected it with a url only",
    "redis.url = 'rediss://a'\nredis.key_file = '/key'": "2: redis.key_file: a key without its certificate",
    "redis.url = 'redis://a'\nredis.sentinel_username = 'b'": "2: redis.sentinel_username: set, with a url of re",
    "redis.url = 'redis://a'\nredis.password_file = 'x'": "2: redis.password_file: found a string (not shown); e",
    # several executors
    "[executors]\nname = 'a'": "1: executors: found a table; expected [[executors]] above the keys of each",
    "[[executors]]\nurl = 'redis://a'": "1: executors: no name; expected a name for each executor, as a string",
    "[[executors]]\nname = 'a b'\nurl = 'redis://a'": '2: executors "a b": name: found "a b" (a string); expected a',
    "[[executors]]\nname = 'a'\nurl = 'http://a'": '3: executors "a": url: scheme "http"; expected one of redis://',
    "[[executors]]\nname = 'a'\nurl = 'redis://u@a'\nusername = 'u'": '3: executors "a": url: a user name in the URL '
    "and in username; expected it in username alone",
    "[[executors]]\nname = 'a'": '1: executors "a": url: is missing; expected a url (the embedded server of this node '
    'has its own executor only, "default")',
    "redis.url = 'redis://a'\n[[executors]]\nname = 'a'\nca_file = '/ca'": '4: executors "a": ca_file: set, with no',
    "[[executors]]\nname = 'a'\nurl = 'redis://a'\ntimeout = '0s'": '4: executors "a": timeout: 0s; expected at least',
    "[[executors]]\nname = 'a'\nhost = 'b'": '3: executors "a": host: unknown key (host, port and database are in url,',
    "[[executors]]\nname = 'a'\nurl = 'redis://a'\npassword = 'b'": '4: executors "a": password: unknown key (put the '
    "password into a file of its own and name that in password_file)",
}


@pytest.mark.parametrize("text", ONE_PROBLEM)
def test_one_problem(write: Write, text: str) -> None:
    (line,) = refused(write(text))
    assert line.startswith(f"site.toml:{ONE_PROBLEM[text]}")


CONSOLE_PROBLEMS = {
    "listen = []": 'console.listen: none; expected at least one, like "127.0.0.1:8460"',
    "listen = ['8460']": 'console.listen: "8460"; expected an address and port, "127.0.0.1:8460"',
    "listen = ['node-a:8460']": 'console.listen: "node-a:8460"; expected an address and port',
    "listen = ['127.0.0.1:0']": 'console.listen: "127.0.0.1:0"; expected an address and port',
    "listen = ['[127.0.0.1]:x']": 'console.listen: "[127.0.0.1]:x"; expected',
    "listen = ['unix:run/c.sock']": 'console.listen: "unix:run/c.sock"; expected',
    f"listen = ['unix:/{'a' * 107}']": "console.listen: a path of 108 bytes; expected at most 107",
    "listen = ['[::1]:1', '[::1]:1']": 'console.listen: "[::1]:1" twice; expected each once',
    "listen = ['0.0.0.0:8460']": (
        'console.listen: "0.0.0.0:8460", which other machines reach, and nothing that tells who asks; '
        "expected tokens_file, or proxies with user_header (chargehand console token NAME --rights act makes a token"
    ),
    "listen = ['[::]:8460']": 'console.listen: "[::]:8460", which other machines reach',
    "tokens_file = 'tokens'": 'console.tokens_file: found "tokens" (a string); expected an absolute path',
    "session = '1s'": "console.session: 1s; expected from 1m to 30d (then one logs in again)",
    "memory_max = '1MiB'": "console.memory_max: 1MiB; expected at least 16MiB",
    "env = { NOTIFY_SOCKET = 'a' }": "console.env.NOTIFY_SOCKET: a name that the agent sets itself; expected another",
    "proxies = ['here']\nuser_header = 'A'": 'console.proxies: "here"; expected an address, a network',
    "proxies = ['127.0.0.1']\nuser_header = 'A'": 'console.proxies: "127.0.0.1", from where every user of this node',
    "proxies = ['0.0.0.0/0']\nuser_header = 'A'": 'console.proxies: "0.0.0.0/0", from where every user of this node',
    "proxies = ['::1']\nuser_header = 'A'": 'console.proxies: "::1", from where every user of this node',
    "proxies = ['unix:nginx']\nuser_header = 'A'": 'console.proxies: "unix:nginx", and no unix socket; expected a u',
    "proxies = ['10.0.0.1']": "console.proxies: set, with no user_header; expected user_header",
    "user_header = 'A'": "console.user_header: set, with no proxies; expected it with proxies only",
    "actors = ['ada']": "console.actors: set, with no proxies; expected it with proxies only",
    "proxies = ['10.0.0.1']\nuser_header = 'A B'": 'console.user_header: "A B"; expected the name of a header',
}


@pytest.mark.parametrize("text", CONSOLE_PROBLEMS)
def test_one_problem_of_the_console(write: Write, text: str) -> None:
    (line,) = refused(write(f"[console]\n{text}"))
    assert line.partition(": ")[2].startswith(CONSOLE_PROBLEMS[text])


@pytest.mark.parametrize(
    "text",
    [
        "listen = ['localhost:8460', '[::1]:8460', 'unix:/run/c.sock']",
        "listen = ['0.0.0.0:8460']\ntokens_file = '/etc/chargehand/tokens'",
        "listen = ['10.0.0.2:8460']\nproxies = ['10.0.0.0/24']\nuser_header = 'X-User'\nactors = ['ada']",
        "listen = ['unix:/run/c.sock']\nproxies = ['unix:nginx']\nuser_header = 'X-User'",
        "tokens_file = '$CREDENTIALS_DIRECTORY/tokens'",
    ],
)
def test_these_consoles_are_right(write: Write, text: str) -> None:
    assert load(write(f"[console]\nenabled = true\n{text}")).settings.console.enabled


ACTION_PROBLEMS = {
    "argv = []": "argv: found a list of 0; expected a list (a string each) with at least 1",
    "argv = 'df -h'": 'argv: found "df -h" (a string); expected a list',
    "argv = ['{a}']\nparams.a = {}": 'argv: "{a}" as the program; expected a fixed program',
    "argv = ['']": 'argv: "" as the program',
    "argv = ['a', '{b}']": "argv: {b}, and no parameter of this name; expected params.b = ",
    "argv = ['a']\nparams.b = {}": "params.b: a parameter that argv does not use; expected {b} in argv",
    "argv = ['a']\nparams.b-c = {}": 'params.b-c: "b-c" as a name; expected letters, digits',
    "argv = ['a', '{b}']\nparams.b = 'string'": 'params.b: found "string" (a string); expected a table of type,',
    "argv = ['a', '{b}']\nparams.b.type = 'text'": 'params.b.type: found "text" (a string); expected one of "str',
    "argv = ['a', '{b}']\nparams.b.pattern = '['": 'params.b.pattern: "["; expected a regular expression (unterm',
    "argv = ['a', '{b}']\nparams.b.default = 1": "params.b.default: 1; expected a string, as its type says",
    "argv = ['a', '{b}']\nparams.b = { pattern = 'x', default = 'xy' }": 'params.b.default: "xy"; expected a mat',
    "argv = ['a', '{b}']\nparams.b = { choices = ['x'], default = 'y' }": 'params.b.default: "y"; expected one o',
    "argv = ['a', '{b}']\nparams.b.choices = []": "params.b.choices: none; expected at least one",
    "argv = ['a', '{b}']\nparams.b.choices = ['x', 1]": "params.b.choices: 1; expected a string, as its type says",
    "argv = ['a', '{b}']\nparams.b.minimum = 1": "params.b.minimum: a minimum for a string; expected it for integers",
    "argv = ['a', '{b}']\nparams.b = { type = 'integer', default = true }": "params.b.default: true; expected an",
    "argv = ['a', '{b}']\nparams.b = { type = 'integer', default = 1.5 }": "params.b.default: 1.5; expected an i",
    "argv = ['a', '{b}']\nparams.b = { type = 'integer', minimum = 2, default = 1 }": "params.b.default: 1; expected "
    "at least its minimum (2)",
    "argv = ['a', '{b}']\nparams.b = { type = 'integer', minimum = 2, maximum = 1 }": "params.b.maximum: 1; expe",
    "argv = ['a', '{b}']\nparams.b = { type = 'number', maximum = nan }": "params.b.maximum: nan; expected a finite",
    "argv = ['a', '{b}']\nparams.b = { type = 'integer', default = 9223372036854775808 }": "params.b.default: 92",
    "argv = ['a', '{b}']\nparams.b = { type = 'boolean', pattern = 'x' }": "params.b.pattern: a pattern for a bo",
    "argv = ['a']\ntimeout = '0s'": "timeout: 0s; expected at least 1ms (no timeout: leave the key out)",
    "argv = ['a']\nretry.backoff = '2m'": "retry.max_backoff: 1m; expected at least backoff (2m)",
    "argv = ['a']\nretry.attempts = 0": "retry.attempts: found 0 (an integer); expected an integer from 1 to 1000",
    "argv = ['a']\nretry.tries = 3": "retry.tries: unknown key; expected one of attempts, backoff, max_backoff",
    "argv = ['a']\non_lost = 'retry'": 'on_lost: found "retry" (a string); expected one of "rerun", "pause"',
    "argv = ['a']\nrate = '10'": 'rate: found "10" (a string); expected a count in a time, like "10/s"',
    "argv = ['a']\nrate = 10": "rate: found 10 (an integer); expected a count in a time",
    "argv = ['a']\nlimit = 0": "limit: found 0 (an integer); expected an integer of at least 1",
    "argv = ['a']\nsingleton = 'wait'": 'singleton: found "wait" (a string); expected true or false or one of "reject"',
    "argv = ['a']\nlocks = 'db'": 'locks: found "db" (a string); expected a list',
    "argv = ['a']\nlocks = ['']": 'locks: found "" (a string); expected 1 to 200 printable characters',
    "argv = ['a']\nlocks = [{ name = 'a\tb' }]": 'locks: found "a\\tb" (a string); expected 1 to 200 printable',
    "argv = ['a']\nlocks = [{ most = 2 }]": "locks: found a table of 1 in the list; expected a list (a string or "
    "a table of name, most each)",
    "argv = ['a']\nlocks = ['a', { name = 'b', most = -1 }]": "locks: found a table of 2 in the list; expected a list",
    "argv = ['a']\nlabels = 'db'": 'labels: found "db" (a string); expected a list (a string each)',
    "argv = ['a']\nlabels = ['x', 5]": "labels: found 5 (an integer) in the list; expected a list (a string each)",
    f"argv = ['a']\nlabels = ['{'x' * 201}']": f'labels: found "{"x" * 56}... (a string); expected 1 to 200',
    "argv = ['a', '{b}']\nparams.b = {}\nenv.X = '{b}'": "env.X: {b} in the environment; expected parameters in",
    "argv = ['a']\nenv.'X=Y' = 'z'": "env.X=Y: a name or value that no environment can hold",
    "argv = ['a']\nenv.TOKEN = 5": "env.TOKEN: found an integer (not shown); expected a string",
}


@pytest.mark.parametrize("text", ACTION_PROBLEMS)
def test_one_problem_of_an_action(write: Write, text: str) -> None:
    (line,) = refused(write(f"[[action]]\nname = 'x'\n{text}"))
    where, found = line.split(": ", 1)
    assert where in {"site.toml:3", "site.toml:4", "site.toml:5"} or "max_backoff" in found
    assert found.startswith(f'action "x": {ACTION_PROBLEMS[text]}')


HOOK_PROBLEMS = {
    "hooks = 'b'": 'hooks: found "b" (a string); expected a table (a name of',
    "hooks.fail = 'b'": 'hooks.fail: no state of a plan: "fail"; expected one of scheduled, waiting,',
    "hooks.failed = 5": "hooks.failed: found 5 (an integer); expected a name of letters",
    "hooks.failed = 'b c'": 'hooks.failed: found "b c" (a string); expected a name of letters',
    "hooks.failed = { acton = 'b' }": 'hooks.failed.acton: unknown key; expected "action"',
    "hooks.failed.inputs.x = 1": "hooks.failed.action: is missing; expected a name of letters",
    "hooks.failed = { action = 'b', input = {} }": 'hooks.failed.input: unknown key; expected "inputs"',
    "hooks.failed = { action = 'b', inputs = { plan = 'p' } }": "hooks.failed.inputs.plan: given; exp",
    "hooks.failed = 'pages'": 'hooks.failed: action "pages" without its parameter "to"; expected inputs.to',
    "hooks.failed = { action = 'pages', inputs = { to = 'x' } }": 'hooks.failed.inputs.to: found "x" (a '
    "string); expected one of choices",
    "hooks.failed = { action = 'pages', inputs = { to = 'ada', by = 'mail' } }": "hooks.failed: action "
    '"pages" has no parameter "by"; expected params.by of action "pages"',
    "hooks.ended = 'df'": 'hooks.ended: action "df" has no parameter "state"; expected params.state of act'
    'ion "df" (every hook is given it)',
}
CALLED = """
[[action]]
name = "pages"
argv = ["page", "{to}", "{plan}", "{state}"]
params = { to = { choices = ["ada"] }, plan = {}, state = {} }
[[action]]
name = "df"
argv = ["df", "{plan}"]
params.plan = {}
"""


@pytest.mark.parametrize("text", HOOK_PROBLEMS)
def test_one_problem_of_a_hook(write: Write, text: str) -> None:
    (line,) = refused(write(f"[[action]]\nname = 'x'\nargv = ['a']\n{text}\n{CALLED}"))
    assert line.startswith(f'site.toml:4: action "x": {HOOK_PROBLEMS[text]}')


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = \n", "site.toml:1: not TOML: Invalid value (column 5)"),
        (b"[redis]\nurl = 'a'\nurl = 'b'\n", "site.toml:3: not TOML: Cannot overwrite a value (column 10)"),
        (b"a = [1,\n", "site.toml:2: not TOML: Invalid value (at end of document)"),
        (b"a = '\xff'\n", "site.toml: byte 6 is not UTF-8; expected a TOML file in UTF-8"),
        (b"a = " + b"[" * 5000, "site.toml: lists or tables nested too deeply"),
        (b"a = " + b"1" * 5000, "site.toml: not TOML: Exceeds the limit"),
    ],
)
def test_what_is_no_toml(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(content)
    (line,) = refused(path)
    assert line.startswith(expected)


def test_every_unreadable_file_is_named(write: Write, tmp_path: Path) -> None:
    path = write("a = ", "b = ")
    (tmp_path / "site.d" / "3.toml").mkdir()
    assert refused(path) == [
        "site.toml:1: not TOML: Invalid value (at end of document)",
        "site.d/1.toml:1: not TOML: Invalid value (at end of document)",
        "site.d/3.toml: Is a directory; expected a file that can be read",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(write: Write) -> None:
    path = write("")
    path.chmod(stat.S_IWUSR)
    assert refused(path) == ["site.toml: Permission denied; expected a file that can be read"]


@pytest.mark.parametrize(
    "text",
    [
        "redis.urll = 'redis://a'\nredis.embedded = false",  # not: false without a url
        "redis.host = 'a'\nredis.password_file = '/p'",  # not: set, with no url
        "redis.url = 5\nredis.ca_file = '/ca'",
        "redis.url = 'redis://a'\nredis.embeded = true",
        "orchestrator.lease.ttl = 10\norchestrator.lease.renew = '3s'",  # more than a third of the default
        "orchestrator.lease.tll = '60s'\nredis.timeout = '20s'",
        "redis.timeout = 1\norchestrator.lease = { ttl = '60s', renew = '1s' }",
        "orchestrator.enabled = false\n[[worker]]\nname = 'a'\nthreads = 'x'",
        "[[action]]\nname = 'a'\nargv = ['x', '{p}']\nparams.p = 'string'",
        "[[action]]\nname = 'a'\nargv = ['x', '{p}']\nparms.p = {}",
        "[[action]]\nname = 'a'\nargv = 'x {p}'\nparams.p = {}",
        "[[action]]\nname = 'a'\nargv = ['x']\nretry = { attempts = 'x', backoff = '2m' }",
        "[[action]]\nname = 'a'\nagrv = ['x']",  # not: argv is missing
        "[[child]]\nname = 'a'\nargv = ['x']\nready = 'notif'\nwatchdog = '3s'",
        "[[child]]\nname = 'a'\nargv = ['x']\nafter = ['b']\n[[child]]\nname = 'b'\nargv = 'x'",  # b is there
        "[[child]]\nname = 'a'\nargv = ['x']\nafter = ['b']\n[[worker]]\nname = 'b'\nthreads = 'x'",
        "redis.embeded = true\n[[child]]\nname = 'a'\nargv = ['x']\nafter = ['redis']\nenv.X = ''",
        "[[worker]]\nname = 'a'\nprocesses = 'x'\n[[worker]]\nname = 'a-1'",
    ],
)
def test_a_mistake_is_not_told_twice(write: Write, text: str) -> None:
    assert len(refused(write(text))) == 1


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("redis.url = 'redis://:p@a'\nredis.x = 1", ["redis.url", "redis.x"]),
        ("orchestrator.threads = 2\norchestrator.lease = 3", ["orchestrator.threads", "orchestrator.lease"]),
        ("agent.state_dir = 'x'\nagent.stop_timeout = 3", ["agent.state_dir", "agent.stop_timeout"]),
        ("[[worker]]\nname = 'a'\nqueues = []\nthreads = 0", ['worker "a": queues', 'worker "a": threads']),
        (
            "[[child]]\nname = 'a'\nargv = ['./x']\nready = 5\nafter = ['b']\nstop_signal = 'TERM'",
            ['child "a": argv', 'child "a": ready', 'child "a": after', 'child "a": stop_signal'],
        ),
        (
            "[[action]]\nname = 'a'\nargv = ['x', '{p}']\ntimeout = 5",
            ['action "a": argv', 'action "a": timeout'],
        ),
    ],
)
def test_one_mistake_hides_no_other(write: Write, text: str, places: list[str]) -> None:
    assert [
        line.split(": ", 1)[1].startswith(place) for line, place in zip(refused(write(text)), places, strict=True)
    ] == [True] * len(places)


@pytest.mark.parametrize(
    "text",
    [
        "redis.url = 'redis://:hunter2@a'",
        "redis.url = 'redis://user:hunter2@a'",
        "redis.url = 'rediss://user:@a'\nredis.username = 'hunter2'\nredis.password_file = 'hunter2'",
        "redis.url = 'redis://:hun/ter2hunter2@a'",
        "redis.url = 'redis://:hun@ter2hunter2@a'",
        "redis.url = 'redis://:a?hunter2#@b'",
        "redis.url = 'redis:/:hunter2@a'",
        "redis.url = 'user:hunter2@a'",
        "redis.url = 'redis://a?password=hunter2'",
        "redis.url = 'redis+sentinel://:hunter2@a,b/m'",
        "redis.url = 'unix://:hunter2@/run/x'",
        "redis.url = ['redis://:hunter2@a']",
        "redis.urls = 'redis://:hunter2@a'",
        "redis.password = 'hunter2'",
        "redis.timeout = 'redis://:hunter2@a'",
        "redis.password_file = 'hunter2'\nredis.url = 'redis://a'",
        "redis.sentinel_password_file = ['hunter2']",
        "node.name = 'redis://:hunter2@a'",
        "[[executors]]\nname = 'a'\nurl = 'redis://:hunter2@a'",
        "[[executors]]\nname = 'a'\nurl = ['user:hunter2@a']",
        "[[executors]]\nname = 'a'\nurl = 'user:hunter2@a'\ntimeout = 'user:hunter2@a'",
        "[[action]]\nname = 'a'\nargv = ['x']\nenv.SECRET = ['hunter2']",
        "[[child]]\nname = 'a'\nargv = ['x']\nenv.SECRET = ['hunter2']",
        "[[child]]\nname = 'a'\nargv = ['x']\nenv.'A=B' = 'hunter2'",
        "[[worker]]\nname = 'a'\nenv.CHARGEHAND_LOG = 'hunter2'",
        "orchestrator.env.SECRET = ['hunter2']",
    ],
)
def test_no_message_repeats_a_password(write: Write, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(text))
    assert "hunter2" not in str(caught.value) + repr(caught.value.problems)


def test_a_message_is_one_line_whatever_the_file_holds(write: Write) -> None:
    (line,) = refused(write('"a\\u001b[31m\\nb" = 1'))
    assert line.startswith("site.toml:1: a\\x1b[31m\\nb: unknown key")


def test_a_host_name_that_is_no_node_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a" * 64)
    (line,) = refused(write(""))
    assert line.startswith(f'site.toml: node.name: the host name is "{"a" * 64}"; expected a name')
    assert line.endswith("(set node.name)")
    assert load(write('node.name = "a"')).settings.node.name == "a"
