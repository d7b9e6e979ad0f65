"""What can be asked on the control socket, as Varlink describes it (`varlinkctl introspect`)."""

from __future__ import annotations

__all__ = ["INTERFACE", "NAME", "SERVICE"]

NAME = "io.chargehand.Agent"

INTERFACE = """\
# The agent of one node: its children, and what may be done to them. The socket's mode decides who may ask.
interface io.chargehand.Agent

type Child (
  name: string,
  kind: string,
  group: string,
  state: string,
  since: float,
  pid: ?int,
  incarnation: string,
  restarts: int,
  crashes: int,
  crashed_since: ?float,
  role: string,
  epoch: string,
  holder: string,
  load: string,
  memory: ?int,
  status: string,
  degraded: string,
  last_words: string,
  replacing: bool
)

type Drain (by: string, since: float, reason: string)

# state: starting, active, passive, working, waiting, draining, drained, stopping. Times are Unix times.
method Status() -> (
  node: string,
  executor: string,
  version: string,
  pid: int,
  uid: int,
  gids: []int,
  may_change_user: bool,
  started: float,
  state: string,
  status: string,
  degraded: []string,
  drain: ?Drain,
  children: []Child
)

# Reads the configuration again. Answers when it is adopted, not when old workers have drained.
# workers: replace every worker, one at a time, to take new action code.
# With more: an answer whenever there are fewer or others left, children whose new state is not reached; the last when
# none is. crashing: of those, the ones that crash again and again.
method Reload(workers: ?bool) -> (changed: []string, left: ?[]string, crashing: ?[]string)

# One of ours is replaced, the new one READY before the old one drains; another program is stopped and started.
# A name, or a worker group's. With more: as Reload.
method Restart(child: string) -> (children: []string, left: ?[]string, crashing: ?[]string)

# Hands the lease to another node; this one does not take it back while another can.
method StepDown() -> ()

# Finishes running steps, takes no new ones, hands the lease over first. Kept until Undrain, over reboots too.
# With more: an answer whenever the number of running steps changes, the last when none is left.
method Drain(reason: ?string) -> (state: string, running: int)

method Undrain() -> ()

# Asked with more: every event from now on, its name and its fields.
method Events() -> (event: object)

# What children printed last, where no journal keeps it. child: a name, a group, or none for all.
method Logs(child: ?string, lines: ?int) -> (journal: bool, lines: [](child: string, text: string))

error Refused (reason: string)
error InvalidConfiguration (problems: []string)
"""

SERVICE = """\
interface org.varlink.service
method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)
method GetInterfaceDescription(interface: string) -> (description: string)
error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""
