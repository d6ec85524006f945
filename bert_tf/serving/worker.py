"""A process that computes: batches of rows come through a pipe, vectors go back."""

from __future__ import annotations

import os
import queue
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from bert_tf import cli
from bert_tf.serving.assets import Plan
from bert_tf.serving.rows import Row, features

READY, DONE, ERROR = "ready", "done", "error"


class Work(NamedTuple):
    """A batch on its way to a worker."""

    number: int
    rows: list[Row]


def main(connection: Connection, plan: Plan, threads: int, device: str | None) -> None:
    """Serves batches until the other end of the pipe closes.

    Args:
      threads: processor threads for one operation.
      device: value of CUDA_VISIBLE_DEVICES; None leaves it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends its workers, in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    with cli.quiet_start():
        import tensorflow as tf

        from bert_tf.serving.model import ServedModel

        gpus = tf.config.list_physical_devices("GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    try:
        model = ServedModel(plan)
        size = _warm_up(model, plan)
    except (ValueError, OSError) as error:
        connection.send((ERROR, None, str(error)))
        return
    connection.send((READY, (size, tf.__version__, bool(gpus)), None))
    received: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, received), daemon=True).start()
    while (work := received.get()) is not None:
        connection.send(_answer(model, plan, work))


def _answer(model: Any, plan: Plan, work: Work) -> tuple[str, int, Any]:
    """Whatever goes wrong with a batch is told; the worker goes on."""
    try:
        return DONE, work.number, model(features(work.rows, plan.arguments.mask_cls_sep))
    except Exception as error:  # noqa: BLE001
        return ERROR, work.number, f"{type(error).__name__}: {error}"


def _warm_up(model: Any, plan: Plan) -> int:
    """The first batch is slow: it is ours. Returns the size of a vector, D."""
    row = Row(np.zeros(8, np.int32), 8, True)
    return model(features([row] * 8, plan.arguments.mask_cls_sep))[0].shape[-1]


def _receive(connection: Connection, received: queue.SimpleQueue[Work | None]) -> None:
    """Empties the pipe at once, so that the server never waits to fill it."""
    try:
        while True:
            received.put(connection.recv())
    except (EOFError, OSError):
        received.put(None)
