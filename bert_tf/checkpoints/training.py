"""Checkpoints of a training run: `model.ckpt-N` in Google's format, the last few and the best."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from bert_tf import filesystem, modeling, optimization
from bert_tf.checkpoints import google
from bert_tf.checkpoints.files import (
    STAGING_PREFIX,
    DamagedCheckpointError,
    remove_tree,
    write_file,
)
from bert_tf.checkpoints.location import BEST_FILE, STATE_FILE, state_names

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """The model and its optimizer: all that a checkpoint holds.

    Variables are saved under Google's names: the model's own, `<name>/adam_m`, `<name>/adam_v`
    and `global_step`.
    """

    model: keras.Model
    optimizer: optimization.Optimizer

    def tensors(self) -> dict[str, Any]:
        weights = {modeling.checkpoint_name(v): v for v in self.model.variables}
        return weights | self.optimizer.variables

    def checksum(self) -> int:
        """Of all variables."""
        total = 0
        for _, variable in sorted(self.tensors().items()):
            total = zlib.crc32(np.array(tf.convert_to_tensor(variable)), total)
        return total

    def restore(self, tensors: Mapping[str, np.ndarray], source: str) -> None:
        """Assigns every variable.

        Raises:
          ValueError: `tensors` lacks one of them.
        """
        variables = self.tensors()
        absent = sorted(set(variables) - set(tensors))
        if absent:
            raise ValueError(
                f"{source} cannot be continued: it lacks {len(absent)} variables, "
                f"for example {absent[0]}; start from it with --init_checkpoint instead"
            )
        for name, variable in variables.items():
            variable.assign(tensors[name])


class _Best(NamedTuple):
    """The best checkpoint's name, its score, and (step, score) of every evaluation."""

    checkpoint: str
    score: float
    history: tuple[tuple[int, float], ...]


class CheckpointManager:
    """Saves, finds and removes the checkpoints of one output_dir (local or `gs://`).

    The `checkpoint` file lists them as TensorFlow's does, so `tf.train.latest_checkpoint` works.
    The best one is noted in best_checkpoint.json and kept for as long as it is the best.
    A manager that only looks changes nothing, so it may look at a run that is still going on.
    As a context manager it waits at the end until what was saved is written.

    Args:
      output_dir: the first save makes it if need be.
      keep: how many of the latest checkpoints stay.
      writes: whether it is this process, of several that train together, which writes.
    """

    def __init__(self, output_dir: str, keep: int = 5, writes: bool = True):
        if keep < 1:
            raise ValueError(f"keep={keep}; at least one checkpoint must stay")
        self.output_dir, self.keep, self._writes = output_dir, keep, writes
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._written: Future[None] | None = None
        self._has_written = False

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def check(self) -> None:
        """Raises what went wrong with writing, if something did; does not wait."""
        if self._written is not None and self._written.done():
            self.wait()

    def wait(self) -> None:
        """Returns when what was saved is written; raises what went wrong with it."""
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def remove_stale(self) -> None:
        """Removes what interrupted saves left in output_dir, which must be there.

        Only for the one run that trains in it: a save that is going on looks the same.
        """
        for name in filesystem.list_dir(self.output_dir):
            if name.startswith(STAGING_PREFIX):
                remove_tree(self._path(name))
                logging.info("Removed %s, left by an interrupted save", self._path(name))

    def most_new(self, saves: int) -> int:
        """How many more checkpoints than now there will be at most, while `saves` are written."""
        # Of those to come, one is written before the oldest is removed; the best one may stay too.
        there = sum(map(self._exists, self._names())) if self._writes else 0
        return min(saves, max(1, self.keep + 2 - there)) if self._writes else 0

    def save(self, step: int, variables: Mapping[str, Any]) -> str:
        """Begins to write `model.ckpt-<step>`; then what is no longer kept is removed.

        It returns when the variables are copied, so that training can go on while a thread writes.

        Args:
          step: the number in the name.
          variables: name -> variable or array, the optimizer's slots and global_step included.

        Returns:
          The checkpoint's prefix.

        Raises:
          OSError: the one before it could not be written; `wait` tells it of this one. The
            earlier ones are untouched.
        """
        self.wait()
        name = f"model.ckpt-{step}"
        if self._writes:
            values = {key: np.array(tf.convert_to_tensor(v)) for key, v in variables.items()}
            self._written = self._writer.submit(self._write, name, step, values)
        return self._path(name)

    def _write(self, name: str, step: int, values: Mapping[str, np.ndarray]) -> None:
        if self._has_written and not (
            filesystem.is_remote(self.output_dir) or filesystem.is_dir(self.output_dir)
        ):
            raise FileNotFoundError(
                errno.ENOENT, "the folder, with its checkpoints, has vanished", self.output_dir
            )
        self._has_written = True
        google.write(self._path(name), values)
        # A checkpoint of a later step was found damaged, or training went back before it.
        names = [x for x in self._listed() if self._exists(x) and _step(x) < step] + [name]
        self._remove_old(names)

    def latest(self) -> str | None:
        """The prefix of the latest checkpoint that is intact, or None.

        A damaged one (every tensor's checksum is tested) is skipped with a warning.
        """
        return next((prefix for prefix, _ in self._intact(google.verify)), None)

    def restore_latest(self) -> tuple[str, dict[str, np.ndarray]] | None:
        """The prefix and all tensors of the latest checkpoint that is intact, or None."""
        return next(self._intact(google.read), None)

    def offer_best(self, prefix: str, score: float) -> bool:
        """Makes `prefix`, just saved, the best one if its score is above the best so far.

        The one that was best stays only while it is among the latest. Every score is noted, so
        that patience survives an interruption. Returns whether it is best.
        """
        self.wait()
        if not self._writes:
            return False
        step, before = _step(os.path.basename(prefix)), self._best()
        # What is noted of later steps is from before a damaged checkpoint, and will come again.
        history = [e for e in (before.history if before else ()) if e[0] < step]
        if before is None or _step(before.checkpoint) > step:
            before = _Best("", -math.inf, ())
        history.append((step, float(score)))
        better = score > before.score  # not a number is never best
        best = (os.path.basename(prefix), float(score)) if better else before[:2]
        if not best[0]:
            return False
        note = {"checkpoint": best[0], "score": best[1], "history": history}
        write_file(self._path(BEST_FILE), (json.dumps(note) + "\n").encode())
        if better:
            self._remove_old(self._names())
        return better

    def evaluations_since_best(self) -> int:
        """How many scores were offered after the best one."""
        best = self._best()
        return sum(step > _step(best.checkpoint) for step, _ in best.history) if best else 0

    def best(self) -> str | None:
        """The prefix of the best checkpoint, or None where none was offered."""
        best = self._best()
        return self._path(best.checkpoint) if best else None

    def _best(self) -> _Best | None:
        """What is noted; a damaged note is ignored with a warning, not worth a run."""
        path = self._path(BEST_FILE)
        if not filesystem.is_file(path):
            return None
        try:
            best = filesystem.read_json(path, dict)
            name, score = os.path.join("", best["checkpoint"]), float(best["score"])
            history = tuple((int(step), float(score)) for step, score in best.get("history", ()))
            return _Best(name, score, history)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            logging.warning(
                "%s is damaged (%.200r): which checkpoint is best is not known until the next "
                "evaluation",
                path,
                error,
            )
            return None

    def _intact(self, read: Callable[[str], T]) -> Iterator[tuple[str, T]]:
        """(prefix, `read(prefix)`) of the checkpoints that can be read, the latest first."""
        for name in reversed(self._names()):
            prefix = self._path(name)
            try:
                tensors = read(prefix)
            except DamagedCheckpointError as error:
                logging.warning("Skipping checkpoint %s: %s", prefix, error)
            else:
                yield prefix, tensors

    def _remove_old(self, names: list[str]) -> None:
        """Keeps the last few of `names` and the best; first in the list, then on the disk."""
        best = self.best()
        kept = [x for x in names[: -self.keep] if self._path(x) == best] + names[-self.keep :]
        lines = [f'model_checkpoint_path: "{kept[-1]}"\n']
        lines += [f'all_model_checkpoint_paths: "{name}"\n' for name in kept]
        write_file(self._path(STATE_FILE), "".join(lines).encode())
        for name in set(names) - set(kept):
            google.delete(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self.output_dir, name)

    def _exists(self, name: str) -> bool:
        return filesystem.is_file(self._path(f"{name}.index"))

    def _names(self) -> list[str]:
        """The checkpoints of this run by step, intact or not; all there are if the list is lost."""
        self.wait()
        return self._listed()

    def _listed(self) -> list[str]:
        names = state_names(self.output_dir)
        if not names and filesystem.is_dir(self.output_dir):
            files = filesystem.list_dir(self.output_dir)
            names = [name.removesuffix(".index") for name in files if name.endswith(".index")]
        return sorted((name for name in names if _step(name) >= 0), key=_step)


def _step(name: str) -> int:
    match = re.fullmatch(r"model\.ckpt-(\d+)", name)
    return int(match[1]) if match else -1
