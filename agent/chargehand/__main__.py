"""The one entry point. The three programs start without the command line's library: they are small and many."""

from __future__ import annotations

import sys
from importlib import import_module

_PROGRAMS = {
    "agent": "chargehand.supervisor.main",
    "read-config": "chargehand.config.reader",  # for the agent
    "probe-modules": "chargehand.cli.probe",  # for `config check`
    "orchestrator": "chargehand.orchestrator.main",
    "worker": "chargehand.worker.main",
    "console": "chargehand.console.main",
}


def main() -> int:
    words = sys.argv[1:]
    try:
        if words and words[0] in _PROGRAMS and words[:2] != ["console", "token"]:
            return _run_program(words[0], words[1:])
        from chargehand.cli.app import run

        return run()
    except KeyboardInterrupt:  # perhaps while still importing
        return 130


def _run_program(name: str, words: list[str]) -> int:
    main = import_module(_PROGRAMS[name]).main
    if name == "agent":
        code: int = main(words)
        return code
    from chargehand.config.problems import ConfigError  # the agent reads its configuration elsewhere

    try:
        code = main(words)
    except ConfigError as error:
        for problem in error.problems:
            print(f"chargehand: {problem}", file=sys.stderr)
        return 78  # EX_CONFIG: systemd does not start it again for it
    return code


if __name__ == "__main__":
    sys.exit(main())
