"""How the server starts a process of its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any


def start(name: str, target: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """Start `target(connection, *arguments)` in a new process.

    Ctrl-C reaches every process of a terminal. The new one does not take it, from its birth on:
    the server ends it, in order.

    Returns:
      The process and the server's end of the connection.

    Raises:
      OSError: there is no memory or no process left.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), name=name, daemon=True)
    resource_tracker.ensure_running()  # which would let Ctrl-C through again while it starts
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
    return process, ours
