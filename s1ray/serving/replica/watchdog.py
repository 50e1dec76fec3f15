"""Watches a replica's engine, and ends the replica when the engine is dead or stuck.

Serve asks a replica for its health every few seconds, believes in an illness after the third time, and then lets the
replica finish its requests for as long as `graceful_shutdown_timeout_s` says. For an engine that is gone there is
nothing to finish, and meanwhile the replica would answer every request at once, with an error: being the quickest, it
would get them all. So it ends its process: its requests end or are begun elsewhere, and Serve starts another.

An engine is dead when vLLM says so, and stuck when its scheduler, which answers between any two steps, has not answered
for long: a hanging kernel or collective never returns, while a long prompt is read in many steps.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

logger = logging.getLogger("ray.serve")

DEAD_S = 0.5
"""Seconds between looks at whether the engine lives. A look costs nothing."""

ASK_S = 10.0
"""Seconds between questions to a healthy engine's scheduler."""

LAST_WORDS_S = 0.2
"""Between the engine's death and the replica's: time to send what was said, and the log."""


class EngineLostError(RuntimeError):
    """The engine under a replica is gone. Raised to the HTTP worker, which may try another replica."""


async def illness(
    is_dead: Callable[[], bool],
    ask: Callable[[], Awaitable[Any]],
    *,
    stalled_after_s: float,
    dead_s: float = DEAD_S,
    ask_s: float = ASK_S,
) -> str:
    """Watch an engine until it is dead or stuck, and say what it is.

    Args:
        is_dead: whether the engine is known to be dead.
        ask: a question that the engine's scheduler answers.
        stalled_after_s: seconds that an answer may take.
        dead_s: seconds between looks at `is_dead`.
        ask_s: seconds between an answer and the next question.
    """
    loop = asyncio.get_running_loop()
    question: asyncio.Future[Any] | None = None
    asked = loop.time()
    try:
        while True:
            await asyncio.sleep(dead_s)
            if is_dead():
                return "its engine is dead"
            if question is None and loop.time() - asked >= ask_s:
                question, asked = asyncio.ensure_future(ask()), loop.time()
            elif question is not None and question.done():
                if question.exception() is not None:
                    return f"its engine does not answer: {question.exception()}"
                question = None
            elif question is not None and loop.time() - asked > stalled_after_s:
                return f"its engine is stuck: no step has ended for {stalled_after_s:g} s"
    finally:
        if question is not None:
            question.cancel()


async def end_when_ill(engine: Any, stalled_after_s: float) -> None:
    """Watch a replica's engine (vLLM's `AsyncLLM`), and end this process when it is dead or stuck."""
    ask_s = min(ASK_S, stalled_after_s / 2)
    what = await illness(lambda: engine.errored, engine.is_sleeping, stalled_after_s=stalled_after_s, ask_s=ask_s)
    logger.critical("this replica ends, and is replaced: %s", what)
    await asyncio.sleep(LAST_WORDS_S)
    os._exit(1)
