"""A name -> a `tf.distribute` strategy, and the precision policy.

A new strategy is one function and its entry in `STRATEGIES`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bert_tf.run_config import TrainingConfig


def _one_device(config: TrainingConfig) -> tf.distribute.Strategy:
    del config
    return tf.distribute.get_strategy()


def _mirrored(config: TrainingConfig) -> tf.distribute.Strategy:
    """One copy of the model on every GPU, or on every logical CPU where there is no GPU."""
    del config
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu(config: TrainingConfig) -> tf.distribute.Strategy:
    """The TPU that `--tpu_name` or `--master` names, or the one of this machine.

    Raises:
      ValueError: no TPU answers, or it has not `--num_tpu_cores` cores.
    """
    address = config.tpu_name or config.master or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=address, zone=config.tpu_zone, project=config.gcp_project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"no TPU at {address!r} ({error}); check --tpu_name, --tpu_zone and --gcp_project, "
            "or leave --use_tpu out"
        ) from error
    if strategy.num_replicas_in_sync != config.num_tpu_cores:
        raise ValueError(
            f"--num_tpu_cores={config.num_tpu_cores}, but the TPU has "
            f"{strategy.num_replicas_in_sync} cores; give --num_tpu_cores="
            f"{strategy.num_replicas_in_sync}"
        )
    return strategy


STRATEGIES: dict[str, Callable[[TrainingConfig], tf.distribute.Strategy]] = {
    "one_device": _one_device,
    "mirrored": _mirrored,
    "tpu": _tpu,
}


def create_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """The strategy that the flags ask for; `--use_tpu` means `tpu`, as in Google's programs."""
    return STRATEGIES["tpu" if config.use_tpu else config.distribution_strategy](config)


@contextlib.contextmanager
def precision_policy(name: str) -> Iterator[None]:
    """Layers built inside compute in `name` (`float32`, `mixed_bfloat16`)."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def split(strategy: tf.distribute.Strategy, batch: dict[str, np.ndarray]) -> Any:
    """`[B, ...]` arrays -> per-replica tensors `[B / replicas, ...]`, in order."""
    replicas = strategy.num_replicas_in_sync
    shards = [
        {name: tf.constant(part) for name, part in zip(batch, parts, strict=True)}
        for parts in zip(*(np.split(value, replicas) for value in batch.values()), strict=True)
    ]
    if replicas == 1:
        return shards[0]
    return strategy.experimental_distribute_values_from_function(
        lambda context: shards[context.replica_id_in_sync_group]
    )


def join(strategy: tf.distribute.Strategy, outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `split`: per-replica tensors -> one `[B, ...]` array of each."""
    parts = {
        name: [part.numpy() for part in strategy.experimental_local_results(value)]
        for name, value in outputs.items()
    }
    return {name: np.concatenate(x) if len(x) > 1 else x[0] for name, x in parts.items()}
