"""Watches a replica's engine, and ends the replica's process when the engine is dead or stuck.

Serve checks a replica's health every few seconds, gives it up after three failures, and then lets it finish its
requests within `graceful_shutdown_timeout_s`. A replica without its engine has nothing to finish, and meanwhile it
would answer every request with an error, faster than any other replica, and so attract them all. Therefore it ends its
process: its requests end or are retried elsewhere, and Serve starts another replica.

An engine is dead when vLLM says so, and stuck when its scheduler, which answers between any two steps, has not answered
for long: a hanging kernel or collective never returns, while a long prompt is read in many steps. An engine that
compiles a kernel in the middle of a step is silent, too: as long as compilers run below this process, it gets more
time, up to a limit.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from s1ray.serving.replica.processes import CompilerWatch, kill_below

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

logger = logging.getLogger("ray.serve")

DEAD_S = 0.5
"""Seconds between checks whether the engine lives. A check costs nothing."""

ASK_S = 10.0
"""Seconds between questions to a healthy engine's scheduler."""

COMPILING_FACTOR = 5.0
"""How many times as long as otherwise an engine may be silent if it compiles."""

LAST_WORDS_S = 0.5
"""Seconds between the engine's death and the replica's: time to send what was generated, and the log."""


class EngineLostError(Exception):
    """A replica's engine is gone. Travels to the HTTP worker, which tries another replica or answers with 503."""


async def failure(
    is_dead: Callable[[], bool],
    ask: Callable[[], Awaitable[object]],
    *,
    stalled_after_s: float,
    is_compiling: Callable[[], bool],
    dead_s: float = DEAD_S,
    ask_s: float = ASK_S,
) -> str:
    """Watch an engine until it is dead or stuck, and say which.

    Args:
        is_dead: whether the engine is known to be dead.
        ask: a question that the engine's scheduler answers.
        stalled_after_s: seconds that an answer may take; not counted are those until a compiler was last seen, up to
            `COMPILING_FACTOR` times as many.
        is_compiling: whether the engine compiles something. Called only while an answer is late.
        dead_s: seconds between calls of `is_dead`.
        ask_s: seconds between an answer and the next question.
    """
    loop = asyncio.get_running_loop()
    question: asyncio.Future[object] | None = None
    asked = busy = loop.time()
    try:
        while True:
            await asyncio.sleep(dead_s)
            if is_dead():
                return "its engine is dead"
            if question is None and loop.time() - asked >= ask_s:
                question = asyncio.ensure_future(ask())
                asked = busy = loop.time()
            elif question is not None and question.done():
                if question.exception() is not None:
                    return f"its engine does not answer: {question.exception()}"
                question = None
            elif question is not None and loop.time() - busy > stalled_after_s / 2:
                if is_compiling():
                    busy = loop.time()
                silent = loop.time() - asked
                if loop.time() - busy > stalled_after_s or silent > COMPILING_FACTOR * stalled_after_s:
                    return f"its engine is stuck: no step has ended for {silent:.3g} s"
    finally:
        if question is not None:
            question.cancel()


async def exit_on_failure(engine: AsyncLLM, stalled_after_s: float) -> None:
    """Watch a replica's engine, and end this process and those that it started when the engine is dead or stuck."""
    what = await failure(
        lambda: engine.errored,
        engine.is_sleeping,
        stalled_after_s=stalled_after_s,
        is_compiling=_log_of_compilers(CompilerWatch(), stalled_after_s),
        ask_s=min(ASK_S, stalled_after_s / 2),
    )
    logger.critical("this replica exits and is replaced: %s", what)
    # A stuck engine does not notice that its replica is gone, and would hold its memory. That it is dead, its requests
    # do notice, and end with words.
    kill_below()
    await asyncio.sleep(LAST_WORDS_S)
    os._exit(1)


def _log_of_compilers(watch: CompilerWatch, stalled_after_s: float) -> Callable[[], bool]:
    """Whether compilers run; logs it when there are others than at the last call."""
    last: list[str] = []

    def is_compiling() -> bool:
        nonlocal last
        running = watch.running()
        if running and running != last:
            logger.warning(
                "the engine is silent because it compiles (%s); it gets up to %g s instead of %g s (stalled_after_s)",
                ", ".join(running),
                COMPILING_FACTOR * stalled_after_s,
                stalled_after_s,
            )
        last = running or last
        return bool(running)

    return is_compiling
