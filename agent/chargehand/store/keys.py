"""Where everything of an executor lives in Redis: one hash tag, so one slot of a cluster."""

from __future__ import annotations

__all__ = ["Keys"]


class Keys:
    """The names of an executor's keys.

    lease     string, expires: the token `EPOCH:INCARNATION` of the active orchestrator
    fence     string: the last token ever given; every write of an orchestrator compares it
    holder    hash: node and time (ms) of the last acquisition
    head      hash: `seq`, the commit number, and `position`, the last event it covers; `format`, the highest that was
              ever written (absent: 1)
    inbox     stream: everything that happened and is not yet decided on
    pending   hash: plan -> its event in the inbox, while it is not accepted
    timers    sorted set: timer -> due, ms of Redis' TIME
    members   hash: incarnation -> who it is and how busy, JSON
    beats     sorted set: incarnation -> its last heartbeat, ms of Redis' TIME
    load      hash: `record`, how busy the executor is, JSON; `at`, ms of Redis' TIME: about once a second; `flow`,
              what went into and out of its queues in the last minute, JSON
    minutes   hash: a minute's beginning, ms of Redis' TIME -> what was done in it, JSON (the last 24 hours)
    actions   hash: action -> how its attempts ended, JSON (the 1,000 busiest or so)
    mark      string, expires: written so that replicas can be asked whether they have it, and all before it
    strange   list: events that this version cannot read, kept for people (the last 1,000)
    stopped   hash: plan that is being ended -> how long what runs of it may go on, ms; its queued steps are dropped.
              -1: it has been halted, and so has what undoes it
    locks     sorted set: `PLAN MOST LOCK` (`MOST` holders at once; 0: shared) -> in which order they asked; who
              comes first as far as the lock allows holds it, the others wait
    slots     set: `LIMIT PLAN/STEP`, the steps that stand under a limit (`action:NAME`, `queue:NAME`)
    limited   sorted set: `LIMIT PLAN`, plans with steps that wait for room -> in which order
    rates     hash: limit -> the time from which on the next step conforms, ms of Redis' TIME
    recurring hash: name -> a recurring plan, JSON
    """

    def __init__(self, executor: str) -> None:
        self.prefix = p = f"chargehand:{{{executor}}}:"
        self.lease = p + "lease"
        self.fence = p + "fence"
        self.holder = p + "holder"
        self.head = p + "head"
        self.inbox = p + "inbox"
        self.pending = p + "pending"
        self.timers = p + "timers"
        self.members = p + "members"
        self.beats = p + "beats"
        self.load = p + "load"
        self.minutes = p + "minutes"
        self.actions = p + "actions"
        self.mark = p + "mark"
        self.strange = p + "strange"
        self.stopped = p + "stopped"
        self.locks = p + "locks"
        self.slots = p + "slots"
        self.limited = p + "limited"
        self.rates = p + "rates"
        self.recurring = p + "recurring"
        self.lease_channel = p + "released"
        self.stop_channel = p + "stops"  # a plan is being ended: its id

    def queue(self, name: str) -> str:
        """list: entries of ready steps, the next one first."""
        return f"{self.prefix}queue:{name}"

    def alone(self, name: str) -> str:
        """list: entries of the queue that run with nothing beside them."""
        return f"{self.prefix}alone:{name}"

    def bell(self, name: str) -> str:
        """list: wake-ups for the workers that wait on the queue."""
        return f"{self.prefix}bell:{name}"

    def own(self, incarnation: str) -> str:
        """hash: step key -> entry, what a worker has taken and not finished."""
        return f"{self.prefix}own:{incarnation}"

    def profile(self, incarnation: str) -> str:
        """string, expires: what a member tells of itself for `doctor`, JSON."""
        return f"{self.prefix}profile:{incarnation}"

    def node(self, name: str) -> str:
        """string, expires: the machine id that the node name belongs to."""
        return f"{self.prefix}node:{name}"

    def plan(self, plan: str) -> str:
        """list, immutable: the definition, who submitted it, then the parts of a large one."""
        return f"{self.prefix}plan:{plan}"

    def parts(self, plan: str) -> str:
        """list, expires: parts of a definition under way to being submitted."""
        return f"{self.prefix}parts:{plan}"

    def moving(self, plan: str) -> str:
        """list, expires: the executor that a withdrawn plan goes to, then as `plan` until it is there."""
        return f"{self.prefix}moving:{plan}"

    def states(self, plan: str) -> str:
        """string: one byte for the plan, then one a step. It exists once the plan is accepted."""
        return f"{self.prefix}states:{plan}"

    def records(self, plan: str) -> str:
        """hash: step -> attempts, losses and last error, of the steps that had any."""
        return f"{self.prefix}records:{plan}"

    def outputs(self, plan: str) -> str:
        """hash: step -> result."""
        return f"{self.prefix}outputs:{plan}"

    def history(self, plan: str) -> str:
        """list: what happened to the plan beyond its steps' success, as JSON arrays `[ms, kind, ...]`."""
        return f"{self.prefix}history:{plan}"

    def said(self, plan: str) -> str:
        """stream: what its running steps said, JSON `[step, attempt, ms, kind, payload]` (about the last 10,000)."""
        return f"{self.prefix}said:{plan}"

    def progress(self, plan: str) -> str:
        """hash: step -> how far it is, JSON `[fraction, message, ms]`."""
        return f"{self.prefix}progress:{plan}"

    def index(self, state: str) -> str:
        """sorted set: the plans in this state (its letter) -> since when, ms of Redis' TIME."""
        return f"{self.prefix}plans:{state}"

    def labelled(self, index: str) -> str:
        """sorted set: the plans of `action:NAME` or `labelled:TEXT` -> submitted, ms of Redis' TIME."""
        return f"{self.prefix}{index}"

    def plan_channel(self, plan: str) -> str:
        """Published on when the plan's state changes: its new state."""
        return f"{self.prefix}news:{plan}"
