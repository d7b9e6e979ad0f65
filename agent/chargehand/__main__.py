from __future__ import annotations

import sys


def main() -> int:
    command, rest = sys.argv[1], sys.argv[2:]
    if command == "orchestrator":
        from chargehand.orchestrator.main import main as run
    elif command == "worker":
        from chargehand.worker.main import main as run
    else:
        from chargehand.supervisor.main import main as run
    return run(rest)


if __name__ == "__main__":
    sys.exit(main())
