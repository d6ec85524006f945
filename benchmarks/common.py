"""What the benchmarks share: best of many runs, contenders in processes of their own, versions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any


def best_seconds(run: Callable[[], Any], repeats: int, warm_up: int = 2) -> float:
    """The shortest of `repeats` runs: what a busy machine disturbs least."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def report(result: dict[str, Any]) -> None:
    """Called by a contender's process: its result, as the last line of its output."""
    print(json.dumps(result))


def run_contender(python: str, script: str, arguments: Sequence[str]) -> dict[str, Any] | None:
    """Runs `script` in a process of its own and returns what it reported.

    Returns:
      None where a package is not installed; the remedy has been printed.

    Raises:
      RuntimeError: the process failed.
    """
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    command = [python, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet)
    if "ModuleNotFoundError" in done.stderr:
        missing = done.stderr.strip().splitlines()[-1]
        print(f"{' '.join(arguments)}: left out, {python} says {missing}.", flush=True)
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def versions(*packages: str) -> str:
    """`tensorflow 2.21.0, keras 3.15.1`, of the running interpreter."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def machine() -> str:
    """Processor, number of cores and Python."""
    from bert_tf.export import card  # here, for the Python of a peer may not have it

    return card.machine()
