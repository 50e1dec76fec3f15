"""A worker of `grade_many`: reads a chunk of answers per line as JSON, writes a line of grades, until its input ends.

Whatever a grader prints goes to standard error; standard output is the pipe to the process that asked.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import traceback

from s1ray.grading.grade import Grader, find_grader
from s1ray.grading.many import Answer, attempt


def main(grader: str) -> None:
    """Grade until standard input ends."""
    # Ctrl-C reaches the whole group; the process that asked decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies, sys.stdout = sys.stdout, sys.stderr
    judge = find_grader(grader)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(_reply(judge, line)), file=replies, flush=True)


def _reply(judge: Grader, line: str) -> object:
    try:
        found = [attempt(judge, Answer(*answer)) for answer in json.loads(line)]
    except Exception as error:  # of a grader of somebody's own; the process that asked raises it
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}
    return [result if isinstance(result, str) else dataclasses.astuple(result) for result in found]


if __name__ == "__main__":
    main(sys.argv[1])
