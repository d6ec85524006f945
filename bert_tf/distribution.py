"""A name -> a `tf.distribute` strategy, the replicas that it has, and the precision policy.

A new strategy is one function and its entry in `STRATEGIES`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bert_tf import cluster
from bert_tf.run_config import TrainingConfig

_TPU_PORT = 8470
_TPU_SECONDS = 30.0  # to answer at all

Tensors = dict[str, tf.Tensor]
Strategy = tf.distribute.Strategy


def _off(config: TrainingConfig) -> Strategy:
    """TensorFlow's default: the first GPU, or else the CPU."""
    del config
    return tf.distribute.get_strategy()


def _one_device(config: TrainingConfig) -> Strategy:
    return tf.distribute.OneDeviceStrategy(_devices(config)[0])


def _mirrored(config: TrainingConfig) -> Strategy:
    """One copy of the model on every GPU, or on every logical CPU where there is no GPU."""
    return tf.distribute.MirroredStrategy(_devices(config))


@functools.cache  # a process joins its cluster once
def _multi_worker_mirrored() -> Strategy:
    found = cluster.resolver("multi_worker_mirrored")
    worker, workers = cluster.place(found)
    print(f"Worker {worker + 1}: waiting for {workers - 1} other(s) of the cluster.", flush=True)
    return tf.distribute.MultiWorkerMirroredStrategy(found)


@functools.cache
def _parameter_server() -> Strategy:
    """The chief's; in a worker or a parameter server this does not return."""
    found = cluster.resolver("parameter_server")
    jobs = found.cluster_spec().jobs
    if not {"chief", "worker", "ps"} <= set(jobs):
        raise ValueError(
            f"TF_CONFIG has the tasks {', '.join(sorted(jobs))}; --distribution_strategy="
            "parameter_server needs a chief, workers, and parameter servers (ps)"
        )
    if found.task_type != "chief":
        cluster.serve(found)
    return tf.distribute.ParameterServerStrategy(found)


def _tpu(config: TrainingConfig) -> Strategy:
    """The TPU that `--tpu_name` or `--master` names, or the one of this machine.

    Raises:
      ValueError: no TPU answers, or it has not `--num_tpu_cores` cores.
    """
    address = config.tpu_name or config.master or "local"
    try:
        _reach(address)
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=address, zone=config.tpu_zone, project=config.gcp_project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no TPU at {address!r} ({reason}); check --tpu_name, --tpu_zone and --gcp_project, "
            "or leave --use_tpu out"
        ) from error
    if strategy.num_replicas_in_sync != config.num_tpu_cores:
        raise ValueError(
            f"--num_tpu_cores={config.num_tpu_cores}, but the TPU has "
            f"{strategy.num_replicas_in_sync} cores; give --num_tpu_cores="
            f"{strategy.num_replicas_in_sync}"
        )
    return strategy


def _reach(address: str) -> None:
    """Raises OSError unless something listens at a grpc:// address; TensorFlow would wait on."""
    scheme, _, rest = address.partition("://")
    if scheme != "grpc":
        return
    first = urllib.parse.urlsplit(f"//{rest.split(',')[0]}")
    print(f"Waiting for the TPU at {address}", flush=True)
    socket.create_connection((first.hostname, first.port or _TPU_PORT), _TPU_SECONDS).close()


STRATEGIES: dict[str, Callable[[TrainingConfig], Strategy]] = {
    "off": _off,
    "one_device": _one_device,
    "mirrored": _mirrored,
    "multi_worker_mirrored": lambda config: _multi_worker_mirrored(),
    "parameter_server": lambda config: _parameter_server(),
    "tpu": _tpu,
}


def create_strategy(config: TrainingConfig) -> Strategy:
    """The strategy that the flags ask for; `--use_tpu` means `tpu`, as in Google's programs.

    Call it before anything is computed: what TensorFlow has begun with cannot be changed.

    Raises:
      ValueError: this machine has no such devices, or nothing says which other ones take part.
    """
    name = "tpu" if config.use_tpu else config.distribution_strategy
    if name != "tpu":
        _choose_gpus(config.num_gpus)
    return STRATEGIES[name](config)


def describe(strategy: Strategy, config: TrainingConfig) -> str:
    """Return what computes: the processor and its cores, GPUs or a TPU; and a GPU that cannot."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return f"Device: a TPU of {strategy.num_replicas_in_sync} cores"
    gpus = [] if config.num_gpus == 0 else tf.config.get_visible_devices("GPU")
    if config.distribution_strategy in ("off", "one_device"):
        gpus = gpus[:1]
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [each.get("device_name", "GPU") for each in details]
    if names:
        counts = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
        return f"Devices: {', '.join(counts)}"
    line = f"Device: the processor, {_cores()} cores"
    if config.num_gpus != 0 and (hint := _unused_gpu()):
        line += f"\nNote: {hint}"
    return line


def _cores() -> int | None:
    """Return how many cores this process may use; macOS does not say, so all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _unused_gpu(root: str = "/") -> str | None:
    """Say what makes TensorFlow find the NVIDIA GPU of this machine, where there is one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return None
    install = f"pip install 'tensorflow[and-cuda]=={tf.__version__}'"
    if Path(root, "proc/driver/nvidia/version").exists():
        return f"TensorFlow finds no GPU, though NVIDIA's driver is loaded; try {install}"
    for folder in Path(root, "sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            vendor, kind = ((folder / name).read_text() for name in ("vendor", "class"))
            if vendor.startswith("0x10de") and kind.startswith("0x03"):  # NVIDIA, a display
                return (
                    "an NVIDIA GPU is in this machine, but its driver is not loaded; install the "
                    f"driver, until nvidia-smi shows the GPU, and then {install}"
                )
    return None


def _choose_gpus(wanted: int | None) -> None:
    """Takes the first `wanted` GPUs, or all, and their memory as it is needed."""
    there = tf.config.list_physical_devices("GPU")
    if wanted is not None:
        if wanted > len(there):
            raise ValueError(f"--num_gpus={wanted}, but TensorFlow finds {len(there)} here")
        there = there[:wanted]
        if tf.config.get_visible_devices("GPU") != there:
            tf.config.set_visible_devices(there, "GPU")
    for gpu in there:
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)


def _devices(config: TrainingConfig) -> list[str]:
    """Names of the GPUs, or of the logical CPUs."""
    gpus = [] if config.num_gpus == 0 else tf.config.list_logical_devices("GPU")
    return [device.name for device in gpus or tf.config.list_logical_devices("CPU")]


def compiles(config: TrainingConfig) -> bool:
    """Whether the step of training is compiled by XLA: as the flag says, else on GPUs."""
    if config.use_xla is None:
        return bool(tf.config.get_visible_devices("GPU"))
    return config.use_xla


@dataclasses.dataclass(frozen=True)
class Replicas:
    """The copies of the model, and those of them that this process feeds.

    Attributes:
      count: all, of all workers; under a parameter server 1, as each step is one worker's.
      local: of this process.
      worker, workers: the number of this process, from 0, and how many there are.
    """

    strategy: Strategy
    count: int
    local: int
    worker: int
    workers: int

    @classmethod
    def of(cls, strategy: Strategy) -> Replicas:
        worker, workers = 0, 1
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            worker, workers = cluster.place(strategy.cluster_resolver)
        count = strategy.num_replicas_in_sync
        return cls(strategy, count, count // workers, worker, workers)

    @property
    def is_chief(self) -> bool:
        """Whether it is this process that writes."""
        return self.worker == 0

    def own(self, rows: int) -> slice:
        """Which of so many rows of a batch this process computes; they must divide by `count`."""
        share = rows // self.workers
        return slice(self.worker * share, (self.worker + 1) * share)

    def split(self, batch: dict[str, np.ndarray]) -> list[Tensors]:
        """The rows of this process -> those of each of its replicas, in order."""
        parts = [np.split(value, self.local) for value in batch.values()]
        return [
            {name: tf.constant(part) for name, part in zip(batch, one, strict=True)}
            for one in zip(*parts, strict=True)
        ]

    def run(self, function: Callable[..., Any], parts: Sequence[Tensors], *others: Any) -> Any:
        """In a graph: `function(part, *others)` on every replica -> per-replica results."""
        part = parts[0]
        if self.local > 1:
            part = self.strategy.experimental_distribute_values_from_function(
                lambda context: parts[context.replica_id_in_sync_group % self.local]
            )
        return self.strategy.run(function, args=(part, *others))

    def first(self, values: Any) -> Any:
        """Of per-replica values that are all the same, one."""
        return {k: self.strategy.experimental_local_results(v)[0] for k, v in values.items()}

    def all_reduce(self, values: list[Any]) -> list[Any]:
        """In a replica: the sums over all of them."""
        if self.count == 1:
            return values
        return tf.distribute.get_replica_context().all_reduce("SUM", values)

    def all_gather(self, values: Tensors) -> Tensors:
        """In a replica: `[B / count, ...]` -> `[B, ...]`, the rows of all, in order."""
        if self.count == 1:
            return values
        context = tf.distribute.get_replica_context()
        return {name: context.all_gather(value, axis=0) for name, value in values.items()}

    def each_workers(self, value: int) -> list[int]:
        """The value that each worker calls this with; it returns when all have called it."""
        if self.workers == 1:
            return [value]

        def gather() -> Tensors:
            return self.all_gather({"value": tf.constant([value], tf.int64)})

        graph = tf.function(lambda: self.first(self.strategy.run(gather)), autograph=False)
        return [int(x) for x in graph()["value"].numpy()[:: self.local]]

    def the_chiefs(self, value: int) -> int:
        """The chief's value, on every worker; it returns when all have called it."""
        return self.each_workers(value)[0]


def call(strategy: Strategy, graph: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a `tf.function`: now, or under a parameter server some time, on some worker.

    Give the result to `fetch`.
    """
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return tf.distribute.coordinator.ClusterCoordinator(strategy).schedule(graph, arguments)
    return graph(*arguments)


def fetch(result: Any) -> Any:
    """What `call` computes, waiting for it if need be.

    None if it lay on a worker of a parameter server that is gone; what it did to variables is done.
    """
    if not isinstance(result, tf.distribute.coordinator.RemoteValue):
        return result
    try:
        return result.fetch()
    except cluster.LOST:
        return None


@contextlib.contextmanager
def precision_policy(name: str) -> Iterator[None]:
    """Layers built inside compute in `name` (`float32`, `mixed_bfloat16`, `mixed_float16`)."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
