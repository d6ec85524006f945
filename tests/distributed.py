"""Processes that train together on this machine, over loopback."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# What `test_training.train` does, with flags as JSON, on so many logical processors.
TRAIN = """
import json, sys
import tensorflow as tf
folder, rows, output, processors, flags = sys.argv[1:]
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * int(processors))
sys.path[:0] = ["tests"]
import numpy as np
import test_training as t
from bert_tf import distribution
from bert_tf.data import records
flags = json.loads(flags)
dropout = flags.pop("dropout")
distribution.create_strategy(t.make_config(folder, **flags))  # before anything is computed
rows = records.RecordFile(rows, records.classification_spec(t.LENGTH, regression=False))
weights, losses = t.train(folder, rows, dropout=dropout, **flags)
np.savez(output, losses=[losses[s] for s in sorted(losses)], **weights)
"""


def ports(count):
    """So many that nobody listens on."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in found]


def start(command, log, tasks=(), task=None):
    """Starts a command as a task of a cluster; its output goes to a file."""
    # gRPC would ask a proxy for localhost, where one is set.
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "no_proxy": "localhost,127.0.0.1"}
    if task is not None:
        kind, index = task
        cluster = {"cluster": tasks, "task": {"type": kind, "index": index}}
        environment["TF_CONFIG"] = json.dumps(cluster)
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
        )


def cluster_of(**counts):
    """Addresses of so many tasks of each kind."""
    free = iter(ports(sum(counts.values())))
    return {kind: [f"localhost:{next(free)}" for _ in range(n)] for kind, n in counts.items()}


def start_workers(command, folder, count=2):
    """Starts a command on workers of one cluster. `command` may hold `{index}`."""
    tasks = cluster_of(worker=count)
    return [
        start(
            [str(part).replace("{index}", str(index)) for part in command],
            Path(folder) / f"worker-{index}.log",
            tasks,
            ("worker", index),
        )
        for index in range(count)
    ]


def finish(processes, folder, seconds=300):
    """Waits for all; their exit codes. What still runs after that time is killed."""
    try:
        return [process.wait(seconds) for process in processes]
    except subprocess.TimeoutExpired:
        logs = [path.read_text("utf-8")[-2000:] for path in sorted(Path(folder).glob("*.log"))]
        raise AssertionError("not finished in time:\n" + "\n---\n".join(logs)) from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
