"""Checkpoints of a training run: `model.ckpt-N` in Google's format, the last few and the best."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import logging

from bert_tf import filesystem
from bert_tf.checkpoints import google
from bert_tf.checkpoints.files import (
    STAGING_PREFIX,
    DamagedCheckpointError,
    remove_tree,
    write_file,
)
from bert_tf.checkpoints.location import BEST_FILE, STATE_FILE, state_names

T = TypeVar("T")


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

    Args:
      output_dir: the first save makes it if need be.
      keep: how many of the latest checkpoints stay.
    """

    def __init__(self, output_dir: str, keep: int = 5):
        if keep < 1:
            raise ValueError(f"keep={keep}; at least one checkpoint must stay")
        self.output_dir, self.keep = output_dir, keep

    def remove_stale(self) -> None:
        """Removes what interrupted saves left in output_dir, which must be there.

        Only for the one run that trains in it: a save that is going on looks the same.
        """
        for name in filesystem.list_dir(self.output_dir):
            if name.startswith(STAGING_PREFIX):
                remove_tree(self._path(name))
                logging.info("Removed %s, left by an interrupted save", self._path(name))

    def save(self, step: int, variables: Mapping[str, Any]) -> str:
        """Writes `model.ckpt-<step>`, then removes what is no longer kept.

        Args:
          step: the number in the name.
          variables: name -> variable or array, the optimizer's slots and global_step included.

        Returns:
          The checkpoint's prefix.

        Raises:
          OSError: it could not be written; the earlier ones are untouched.
        """
        name = f"model.ckpt-{step}"
        google.write(self._path(name), variables)
        # A checkpoint of a later step was found damaged, or training went back before it.
        names = [x for x in self._names() if self._exists(x) and _step(x) < step] + [name]
        self._remove_old(names)
        return self._path(name)

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
            best = json.loads(filesystem.read_bytes(path))
            name, score = os.path.join("", best["checkpoint"]), float(best["score"])
            history = tuple((int(step), float(score)) for step, score in best.get("history", ()))
            return _Best(name, score, history)
        except (ValueError, TypeError, KeyError) as error:
            logging.warning(
                "%s is damaged (%r): which checkpoint is best is not known until the next "
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
        names = state_names(self.output_dir)
        if not names and filesystem.is_dir(self.output_dir):
            files = filesystem.list_dir(self.output_dir)
            names = [name.removesuffix(".index") for name in files if name.endswith(".index")]
        return sorted((name for name in names if _step(name) >= 0), key=_step)


def _step(name: str) -> int:
    match = re.fullmatch(r"model\.ckpt-(\d+)", name)
    return int(match[1]) if match else -1
