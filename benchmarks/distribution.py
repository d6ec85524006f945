"""What distribution costs on this machine's processors, and what a checkpoint costs.

    python benchmarks/distribution.py

Examples per second in training (MiniLM's shape, 32 rows of 64 tokens in a step, of all together) by
one device, by two replicas in one process (two logical processors) and by two workers (processes,
over loopback), the processes in turn for several rounds; the best round of each counts. The cores
are the same, so the share that is lost is that of gathering gradients, waiting and updating twice.
Checkpoints: how long training waits for one, beside how long writing it takes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import common
import tensorflow as tf
import training_options

from bert_tf.checkpoints.training import CheckpointManager

BATCH, LENGTH, STEPS = 32, 64, 10
CONTENDERS = {
    "one device": ("off", 1, 1),
    "two replicas, one process": ("mirrored", 2, 1),
    "two workers, two processes": ("multi_worker_mirrored", 1, 2),
}


def measure(strategy: str, processors: int) -> None:
    """A contender's process."""
    physical = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * processors
    tf.config.set_logical_device_configuration(physical, logical)
    with tempfile.TemporaryDirectory() as folder:
        run = training_options.steps(folder, BATCH, LENGTH, distribution_strategy=strategy)
        for _ in itertools.islice(run, 3):
            pass
        begun = time.perf_counter()
        for _ in itertools.islice(run, STEPS):
            pass
        common.report({"rate": BATCH * STEPS / (time.perf_counter() - begun)})
        os._exit(0)  # the other worker may be waiting for one more step


def rate(strategy: str, processors: int, workers: int) -> float:
    """Examples per second of all workers together."""
    command = [sys.executable, __file__, f"--strategy={strategy}", f"--processors={processors}"]
    ports = []
    for _ in range(workers):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    processes = []
    for index in range(workers):
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        if workers > 1:
            task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
            environment["TF_CONFIG"] = json.dumps(task)
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment))
    outputs = [process.communicate() for process in processes]
    for process, (_, error) in zip(processes, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(error.decode()[-2000:])
    return json.loads(outputs[0][0].decode().strip().splitlines()[-1])["rate"]


def checkpoints(rounds: int) -> tuple[float, float, float]:
    """Megabytes of a checkpoint, seconds that training waits for it, seconds it takes to write."""
    waits, writes = [], []
    with tempfile.TemporaryDirectory() as folder:
        size = 22_700_000 * 3  # weights and two moments of MiniLM's shape
        variables = {f"v{i}": tf.Variable(tf.random.normal([size // 30])) for i in range(30)}
        with CheckpointManager(folder, keep=1) as manager:
            for step in range(1, rounds + 2):
                begun = time.perf_counter()
                manager.save(step, variables)
                waits.append(time.perf_counter() - begun)
                manager.wait()
                writes.append(time.perf_counter() - begun)
    return size * 4 / 1e6, min(waits), min(writes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--strategy", help="(for the script itself)")
    parser.add_argument("--processors", type=int, default=1, help="(for the script itself)")
    arguments = parser.parse_args()
    if arguments.strategy:
        return measure(arguments.strategy, arguments.processors)
    print(common.machine(), common.versions("tensorflow", "keras"), sep="\n", flush=True)
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.rounds):
        for name, contender in CONTENDERS.items():
            rates[name].append(rate(*contender))
    best = {name: max(found) for name, found in rates.items()}
    print(f"\n{'examples a second':<28} {'best':>7} {'ratio':>6}")
    for name, value in best.items():
        print(f"{name:<28} {value:7.1f} {value / best['one device']:6.2f}")
    megabytes, waits, writes = checkpoints(arguments.rounds)
    print(
        f"\na checkpoint of {megabytes:.0f} MB: training waits {1e3 * waits:.0f} ms for it; it is "
        f"written in {1e3 * writes:.0f} ms"
    )


if __name__ == "__main__":
    main()
