"""Who takes part in a run on several machines, and which of them this process is.

`TF_CONFIG` says so (TensorFlow's variable, the same on every machine but for `task`), or Slurm's
own variables where a job has several tasks.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from bert_tf.preemption import PreemptedError

# What TensorFlow says where another process of the cluster is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
_EXAMPLES = {
    "multi_worker_mirrored": '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
    '"task": {"type": "worker", "index": 0}}',
    "parameter_server": '{"cluster": {"chief": ["host0:2222"], "worker": ["host1:2222", '
    '"host2:2222"], "ps": ["host3:2222"]}, "task": {"type": "chief", "index": 0}}',
}


def resolver(strategy: str) -> tf.distribute.cluster_resolver.ClusterResolver:
    """The cluster of `--distribution_strategy=<strategy>`.

    Raises:
      ValueError: nothing says who takes part, or TF_CONFIG does not make sense.
    """
    if os.environ.get("TF_CONFIG"):
        _check(os.environ["TF_CONFIG"], _EXAMPLES[strategy])
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and strategy != "parameter_server":
        return _slurm()
    raise ValueError(
        f"--distribution_strategy={strategy} needs to know the other processes: start each of "
        f"them with TF_CONFIG='{_EXAMPLES[strategy]}' and its own task, or all workers with srun; "
        "several devices of one machine are --distribution_strategy=mirrored"
    )


def _slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    resolvers = tf.distribute.cluster_resolver
    if shutil.which("nvidia-smi"):  # which it asks, to give each task its share of the GPUs
        return resolvers.SlurmClusterResolver()
    count = int(os.environ["SLURM_STEP_NUM_TASKS"])
    found = resolvers.SlurmClusterResolver(gpus_per_node=count, gpus_per_task=1, auto_set_gpu=False)
    spec = found.cluster_spec()
    return resolvers.SimpleClusterResolver(
        spec, task_type=found.task_type, task_id=found.task_id, rpc_layer="grpc"
    )


def _check(text: str, example: str) -> None:
    """Raises ValueError unless it is what TensorFlow takes."""
    try:
        config = json.loads(text)
        task, cluster = config["task"], config["cluster"]
        addresses = cluster[task["type"]]
        if not (isinstance(addresses, list) and 0 <= int(task["index"]) < len(addresses)):
            raise ValueError(f"task {task} is not one of its cluster")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"TF_CONFIG={text!r:.300} says no cluster and no task of it ({error!r}); expected, "
            f"for example, {example}"
        ) from error


def tasks(found: tf.distribute.cluster_resolver.ClusterResolver) -> list[tuple[str, int]]:
    """(type, index) of all that train, the chief first."""
    jobs: dict[str, Any] = found.cluster_spec().as_dict()
    return [(job, i) for job in ("chief", "worker") for i, _ in enumerate(jobs.get(job, ()))]


def place(found: tf.distribute.cluster_resolver.ClusterResolver) -> tuple[int, int]:
    """The number of this process among `tasks`, from 0, and how many they are."""
    everyone = tasks(found)  # first: Slurm's resolver knows its own task only then
    return everyone.index((found.task_type, found.task_id)), len(everyone)


def serve(found: tf.distribute.cluster_resolver.ClusterResolver) -> None:
    """Does what the chief asks for, until the process is ended: a worker or a parameter server."""
    os.environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    server = tf.distribute.Server(
        found.cluster_spec(),
        job_name=found.task_type,
        task_index=found.task_id,
        protocol=found.rpc_layer or "grpc",
    )
    print(f"{found.task_type} {found.task_id} waits for the chief's work.", flush=True)
    server.join()


@contextlib.contextmanager
def loss_is_an_interruption() -> Iterator[None]:
    """In the block, that another process of the cluster is gone is a PreemptedError."""
    try:
        yield
    except LOST as error:
        raise PreemptedError(
            f"another process of the cluster is gone ({type(error).__name__}): start all of them "
            "again"
        ) from error
