"""For the unit tests of those who write actions: plans run in this process and on this thread, without Redis.

    from chargehand.testing import Executor

    def test_deploy() -> None:
        executor = Executor()
        done = executor.run(Deploy, site="x")
        assert done.state == "succeeded"
        assert done.output == {"pages": 3}

Decisions are the real director's, and attempts run as on a worker; only where plans are kept, and time, are not real:
the clock stands still until it jumps to what is due next. Time-outs are not enforced, and commands are not run.
"""

from __future__ import annotations

from chargehand.testing.execution import Attempt, Execution, Failed, StepResult
from chargehand.testing.executor import Executor, Runaway

__all__ = ["Attempt", "Execution", "Executor", "Failed", "Runaway", "StepResult"]
