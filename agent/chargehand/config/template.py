"""The commented file that `chargehand config init` writes: every key, with its default."""

from __future__ import annotations

__all__ = ["TEMPLATE"]

TEMPLATE = """\
# /etc/chargehand/chargehand.toml
#
# Everything has a default; a file with [redis] url alone is enough, and none at all gives an embedded server for
# this node only. Files in conf.d/ beside this one are merged over it, in name order. Check it with
# `chargehand config check`. Durations are written "500ms", "5s", "2m", "1h", sizes "64KiB", "1GiB".

[node]
# name = "node-a"                # default: the host name; one machine at a time may use it

[executor]
# name = "default"               # its nodes share one Redis and elect one active orchestrator

[redis]
# url = "rediss://redis.example.com:6379/0"   # redis:// rediss:// unix:///path redis+sentinel://host:port,.../master/db
#                                # redis+cluster://host:port,...; rediss+sentinel:// and rediss+cluster:// for TLS
# embedded = false               # true when there is no url: the agent runs a server of its own
# username = "chargehand"
# password_file = "/etc/chargehand/redis.password"   # never in the url; "$CREDENTIALS_DIRECTORY/redis": of systemd
# sentinel_username = "sentinel"
# sentinel_password_file = "/etc/chargehand/sentinel.password"
# ca_file = "/etc/pki/tls/certs/ca-bundle.crt"       # TLS, with a rediss:// url
# cert_file = "/etc/chargehand/client.crt"
# key_file = "/etc/chargehand/client.key"
# timeout = "1s"                 # of one request
# min_replicas = 0               # that have a write before a plan is acknowledged and the lease is kept

# The executors that plans submitted here are spread over. Without any, there is the one of this node.
# [[executors]]
# name = "east"                  # as [executor] name on its nodes
# url = "rediss://redis-east.example.com:6379/0"     # default: the Redis of [redis]; with one, all as of [redis]:
# username = "chargehand"
# password_file = "/etc/chargehand/redis-east.password"
# sentinel_username = "sentinel"
# sentinel_password_file = "/etc/chargehand/sentinel-east.password"
# ca_file = "/etc/pki/tls/certs/ca-bundle.crt"
# cert_file = "/etc/chargehand/client.crt"
# key_file = "/etc/chargehand/client.key"
# timeout = "1s"
# min_replicas = 0
# enabled = true                 # false removes one that an earlier file declares

[agent]
# ready_timeout = "10s"          # READY without Redis after this long: a service that waits has not failed
# stop_timeout = "25s"           # what running steps get at a stop
# shutdown_timeout = "10s"       # the same when the whole system goes down
# state_dir = "/var/lib/chargehand"
# runtime_dir = "/run/chargehand"

[orchestrator]
# enabled = true                 # false: this node only works
# threads = 1                    # always: an orchestrator decides in one thread
# lease = { ttl = "5s", renew = "1s" }   # a dead node is replaced after ttl
# max_inbox = 100000             # events not yet decided on; submissions are refused above
# memory_max = "1GiB"            # above it, it is replaced (default: none)
# nice = 0                       # -20 to 19
# env = {}                       # { LANG = "C.UTF-8" }, say: added to its environment
# limits = {}                    # as of [[worker]]

# Pages, REST and metrics, in a child of its own.
[console]
# enabled = false
# listen = ["127.0.0.1:8460"]    # also "unix:/run/chargehand/console.sock"; others need tokens_file or proxies
# tokens_file = "/etc/chargehand/tokens"     # of `chargehand console token NAME --rights read|act` (default: none)
# proxies = []                   # that say who asks: "10.0.0.5", "10.0.0.0/24"; "unix:nginx": one on this node
# user_header = "X-Remote-User"  # in which they say it (default: none)
# actors = []                    # of those whom a proxy names: who may act; the others read
# session = "12h"                # how long a browser is known
# memory_max = "512MiB"          # above it, it is replaced (default: none)
# nice = 0
# env = {}
# limits = {}                    # as of [[worker]]

# A group of workers. Any number of them; without one there is this one.
# [[worker]]
# name = "worker"
# queues = ["default"]           # in strict order; { fast = 3, default = 1 } draws by weight
# threads = 5                    # steps at a time, a process
# processes = 1
# start_timeout = "90s"          # until READY, the import of its modules included
# memory_max = "1GiB"            # of each process: above it, another takes its place and it drains (default: none)
# nice = 0                       # -20 to 19
# user = "chargehand"            # runs as this user; the agent needs the right for it (default: the agent's)
# group = "chargehand"
# unit = false                   # true: the unit chargehand-worker@NAME runs it, as root, for privileged actions only
# env = {}                       # { LANG = "C.UTF-8" }, say: added to its environment
# limits = {}                    # { nofile = 65536 }; also nproc, core, stack, memlock, file_size, address_space
# enabled = true                 # false removes a group that an earlier file declares

# What holds for all steps of a queue, whichever worker runs them.
# [[queue]]
# name = "hosts"
# limit = 50                     # most of its steps that stand at once (default: no limit)
# rate = "10/s"                  # most that begin in a time (default: no limit)
# enabled = true                 # false removes it

[retention]
# succeeded = "30d"              # how long ended plans are kept, by their state
# failed = "365d"
# cancelled = "90d"              # halted and reverted ones too
# rejected = "30d"
# most = 1000000                 # ended plans in all; the oldest go first

[actions]
# path = ["/etc/chargehand/actions"]     # searched for the modules, after the system's own libraries
# modules = []                   # imported by workers and by `chargehand submit`, never by agent or orchestrator

# An action without Python: a command, never a shell string.
# [[action]]
# name = "disk-usage"
# argv = ["/usr/bin/df", "--output=pcent", "{path}"]
# params.path = { type = "string", pattern = "^/[A-Za-z0-9/._-]*$", default = "/" }
#                                # type: string, integer, number, boolean; also choices, minimum, maximum
# queue = "default"
# timeout = "30s"                # of one attempt (default: none)
# retry = { attempts = 3, backoff = "1s", max_backoff = "1m" }
# on_lost = "rerun"              # when its worker dies; "pause" for what must not run twice by itself
# exclusive = false              # true: ended when its worker is cut off, so that two attempts never overlap
# rescue = "pause"               # when a step has failed for good; "skip" it, "fail" or "revert" the plan
# limit = 20                     # most of its steps that run at once, over all plans (default: no limit)
# rate = "10/s"                  # most that begin in a time (default: no limit)
# reboots = false                # true: it reboots its node, and is finished by the node's next boot
# singleton = false              # true: one plan with it at a time, others wait; "reject": others are refused
# locks = ["packages", { name = "mirror", most = 3 }]    # what a plan with it holds while it is under way; 0: shared
# hooks = { failed = "page" }    # plan state, or "ended" -> the action that then runs, with `plan` and `state`;
#                                # { action = "page", inputs = { channel = "mail" } } with more
# labels = ["disks"]             # what people can search for; its plans have them
# privileged = false             # true: runs in a group with unit = true, and only there
# env = { LANG = "C" }
# enabled = true

# Any other program that this node's agent starts, watches and stops.
# [[child]]
# name = "exporter"
# argv = ["/usr/bin/redis_exporter"]     # never a shell string
# ready = "running"              # as soon as it runs; "notify": READY=1 from it; { log = "listening on" }: that line
# role = { active = "entering active mode", passive = "entering passive mode" }   # what it logs (default: no role)
# after = []                     # started when these are READY: children, worker groups, "orchestrator", "redis"
# start_timeout = "90s"          # until READY
# stop_timeout = "10s"           # from its stop signal to SIGKILL
# stop_signal = "SIGTERM"
# watchdog = "30s"               # with ready = "notify": the longest silence between two WATCHDOG=1 (default: none)
# last_words = false             # true: its last line of output stands in the status when it ends
# directory = "/"                # where it runs
# memory_max = "1GiB"            # above it, it is stopped and started again (default: none)
# nice = 0
# user = "chargehand"            # as of [[worker]]
# group = "chargehand"
# env = {}
# limits = {}                    # as of [[worker]]
# enabled = true                 # false removes it
"""
