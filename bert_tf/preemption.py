"""A machine that is about to be taken away says so with SIGTERM; training then saves and stops."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

EXIT_CODE = 75  # "temporary failure" of sysexits.h: the same command continues the run


class PreemptedError(RuntimeError):
    """SIGTERM came while training; the message says which checkpoint continues it."""


class Watch:
    """Whether SIGTERM has come since `watch` was entered."""

    requested = False


@contextlib.contextmanager
def watch() -> Iterator[Watch]:
    """For the time of the block SIGTERM ends nothing but is noted; a second one ends the process.

    Only the main thread can ask for it: in others nothing changes.
    """
    watched = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watched
        return
    before = signal.getsignal(signal.SIGTERM)

    def note(*_: object) -> None:
        watched.requested = True
        signal.signal(signal.SIGTERM, before)

    signal.signal(signal.SIGTERM, note)
    try:
        yield watched
    finally:
        signal.signal(signal.SIGTERM, before)
