"""How SIGTERM and Ctrl-C (SIGINT) end a program: at once; while training with a checkpoint.

A machine that is about to be taken away says so with SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

EXIT_CODE = 75  # "temporary failure" of sysexits.h: the same command continues the run
SECONDS_TO_END = 5.0  # that a program takes at most, whatever it waits for
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class PreemptedError(RuntimeError):
    """Training was stopped by a signal; the message says which checkpoint continues it."""


class Interrupted(KeyboardInterrupt):
    """A signal ends the program; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def ended(number: int) -> str:
    """Return the line that tells the end by a signal."""
    name = signal.Signals(number).name
    return f"Ended by {name}. The same command continues training from its last checkpoint.\n"


class Watch:
    """What training knows about signals.

    Attributes:
      noting: whether a signal is only noted, as there is something to save; else it ends the
        program at once.
      requested: whether one was noted.
    """

    noting = False
    requested = False

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """In the block everything is saved, so that a signal ends the program."""
        before, self.noting = self.noting, False
        yield
        self.noting = before


_watched: Watch | None = None  # the training that goes on


@contextlib.contextmanager
def watch() -> Iterator[Watch]:
    """In the block a signal is noted, for training to save and stop; a second one ends the process.

    Only the main thread can ask for it: in others nothing changes.
    """
    global _watched
    watched = Watch()
    if threading.current_thread() is not threading.main_thread():
        yield watched
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    noted: list[int] = []

    def note(number: int, _: object) -> None:
        _handle(before)
        if watched.noting:
            watched.requested = True
            noted.append(number)
        else:
            signal.raise_signal(number)

    _handle(dict.fromkeys(_SIGNALS, note))
    _watched = watched
    try:
        yield watched
    finally:
        _watched = None
        _handle(before)
    if noted:  # after the last step was done
        signal.raise_signal(noted[0])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """In the block a signal raises `Interrupted`, so that what is half written is removed.

    Where Python does not come to it, as inside a call of TensorFlow that waits for ever, the
    process ends after `SECONDS_TO_END`. A second signal ends it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    wakes = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(reader,), daemon=True).start()
    _handle(dict.fromkeys(_SIGNALS, _interrupt))
    try:
        yield
    finally:
        _handle(before)
        signal.set_wakeup_fd(wakes)
        writer.close()


def end(number: int) -> None:
    """Ends the process as the signal does by default, so that a shell's loop ends as well."""
    sys.stdout.flush()
    sys.stderr.write(ended(number))
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _handle(handlers: dict[signal.Signals, Callable[..., object] | int | None]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _interrupt(number: int, _: object) -> None:
    _handle(dict.fromkeys(_SIGNALS, signal.SIG_DFL))
    raise Interrupted(number)


def _end_in_time(signals: socket.socket) -> None:
    """The thread that hears of a signal even while Python's main thread does not."""
    told: Watch | None = None
    with signals:
        while received := signals.recv(1):
            number, watched = received[0], _watched
            if number not in _SIGNALS:
                continue
            if watched is None or not watched.noting or watched is told:
                if watched is None or watched is not told:
                    time.sleep(SECONDS_TO_END)
                os.write(2, ended(number).encode())
                os._exit(128 + number)
            told, name = watched, signal.Signals(number).name
            print(
                f"\n{name}: training stops after this step and saves a checkpoint; a second "
                "signal ends it at once.",
                file=sys.stderr,
                flush=True,
            )
