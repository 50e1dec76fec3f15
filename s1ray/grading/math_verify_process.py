"""Child process of `symbolic.py`: reads one JSON list [gold, answer, seconds] a line, writes 1, 0 or an error line.

It imports nothing of s1ray and is run as a file. An alarm whose default action ends the process bounds each comparison:
computer algebra on a tower of powers sits in one C call for minutes, where no Python exception reaches it.
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
        # Its own time-outs use SIGALRM handlers, which the default action here replaces.
        return bool(
            verify(
                parse(gold, parsing_timeout=None),
                parse(answer, parsing_timeout=None),
                timeout_seconds=None,
            )
        )

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    print("ready", flush=True)
    for line in sys.stdin:
        gold, answer, seconds = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            reply = str(int(same(gold, answer)))
        except MemoryError:
            raise
        except (
            Exception
        ) as error:  # what the parser raises on odd input is not documented; the answer then simply is not equal
            reply = f"error {type(error).__name__}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(reply, flush=True)


if __name__ == "__main__":
    main()
