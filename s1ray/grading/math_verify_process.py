"""Child process of `symbolic.py`: reads one JSON list [gold, answer, seconds] per line, writes 1, 0 or an error.

It imports nothing from s1ray and is run as a file. A timer whose signal ends the process bounds each comparison:
computer algebra on a tower of powers spends minutes in one C call, where no Python exception can reach it. The timer
counts CPU time, so that a verdict does not depend on how busy the machine is.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys

MEMORY_BYTES = 3 << 30


def main() -> None:
    """Answer comparisons until standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    def same(gold: str, answer: str) -> bool:
        # Its own time-outs are off: they need a signal handler, which cannot run during a C call.
        return bool(
            verify(
                parse(gold, parsing_timeout=None),
                parse(answer, parsing_timeout=None),
                timeout_seconds=None,
            )
        )

    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            reply = str(int(same(gold, answer)))
        except MemoryError:
            raise
        except Exception as error:  # whatever the parser raises on odd input is not documented
            reply = f"error {type(error).__name__}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(reply, flush=True)


if __name__ == "__main__":
    main()
