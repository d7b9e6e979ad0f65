"""Sends a peer's tasks as its users' programs do. `python -m bench.sending MODULE`; a line of its input is one of

jobs COUNT 1          so many jobs, a call each
chains COUNT LENGTH   so many chains of so many tasks each
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    tasks = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        kind, count, length = line.split()
        for _ in range(int(count)):
            if kind == "jobs":
                tasks.send()
            else:
                tasks.chain(int(length))


if __name__ == "__main__":
    main()
