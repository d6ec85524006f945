"""What an output_dir remembers of its run, so that it is only ever continued by the same run.

`run.json` holds what it takes to make its result again: the flags (those that training depends on,
with the seed, and the others), a fingerprint of the data, versions, the revision of the source; and
when it was computed, one entry each time that it was started.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging

from bert_tf import filesystem
from bert_tf.checkpoints.files import write_file
from bert_tf.run_config import TrainingConfig

RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"
RESULTS = "results"  # in metrics.json: name of a result file -> the files that it is made from
_LOCK_FILE = ".lock"
_PACKAGES = ("bert_tf", "tensorflow", "keras", "numpy")


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file; it is either whole or not there."""
    write_file(path, text.encode())


def write_json(path: str, value: Any) -> None:
    """Writes JSON, indented."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def merge_json(path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Adds `values` to the object in a file, if it is there, and returns the whole.

    Of what is an object itself, the members are added.
    """
    whole = filesystem.read_json(path, dict) if filesystem.is_file(path) else {}
    for name, value in values.items():
        both = isinstance(value, Mapping) and isinstance(whole.get(name), Mapping)
        whole[name] = {**whole[name], **value} if both else value
    write_json(path, whole)
    return whole


def claim_result(output_dir: str, file: str, read: Sequence[str], sha256: str) -> None:
    """Note in metrics.json which files the result `file` of output_dir is made from.

    An earlier result from other files is not lost: it gets a name of its own, which is printed.
    One from no file, such as the report of a run that was not evaluated, is replaced.
    The note is written before the result is, so that no result stands beside a wrong note.

    Args:
      file: the name of the result inside output_dir, which is written afterwards.
      read: the paths of the files that the result tells about.
      sha256: their `fingerprint`.
    """
    metrics_file, path = (tf.io.gfile.join(output_dir, name) for name in (METRICS_FILE, file))
    metrics = filesystem.read_json(metrics_file, dict) if filesystem.is_file(metrics_file) else {}
    before = metrics.get(RESULTS, {}).get(file)
    now = {"files": list(read), "sha256": sha256}
    notes = {file: now}
    if filesystem.is_file(path) and before is None:
        print(f"Note: {path} is replaced; what it was made from is not known.", flush=True)
    elif filesystem.is_file(path) and before["files"] and before["sha256"] != sha256:
        stem, ending = os.path.splitext(file)
        kept = f"{stem}-{before['sha256'][:8]}{ending}"
        tf.io.gfile.rename(path, tf.io.gfile.join(output_dir, kept), overwrite=True)
        notes[kept] = before
        made_from = ", ".join(before["files"])
        print(f"Note: {file} was made from {made_from}; it is kept as {kept}.", flush=True)
    if notes != {file: before}:
        merge_json(metrics_file, {RESULTS: notes})


def fingerprint(paths: Sequence[str]) -> str:
    """One sha256 over the contents of the files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def claim(
    config: TrainingConfig,
    model: Mapping[str, Any],
    data_files: Mapping[str, Sequence[str]],
    started: bool,
) -> None:
    """Notes in output_dir which run it belongs to, or checks that it is this one.

    Args:
      config: the run's flags; those that training depends on must not change.
      model: the architecture and casing, wherever they came from.
      data_files: what training reads: a name for messages -> file paths.
      started: whether output_dir holds a checkpoint; before the first, there is nothing to lose.

    Raises:
      ValueError: output_dir belongs to a run with other flags, model or data.
    """
    path = tf.io.gfile.join(config.output_dir, RUN_FILE)
    files = {name: fingerprint(paths) for name, paths in data_files.items()}
    bound, every = config.bound(), dataclasses.asdict(config)
    others = {name: value for name, value in every.items() if name not in bound}
    # Through JSON, so that both sides compare as what was stored.
    run = json.loads(json.dumps({"flags": bound, "model": model, "data_sha256": files}))
    times: list[Any] = []
    if started:
        if not filesystem.is_file(path):
            raise ValueError(
                f"--output_dir={config.output_dir} holds checkpoints but no {RUN_FILE}, so it "
                "cannot be told which run they belong to; give another --output_dir, and this one "
                "as --init_checkpoint to start from its weights"
            )
        before = filesystem.read_json(path, dict)
        # A flag that was added since has been as it is by default.
        defaults = {f.name: f.default for f in dataclasses.fields(config) if f.name in bound}
        _check_same(config.output_dir, before | {"flags": defaults | before.get("flags", {})}, run)
        run, times = before, before.get("times", [])
    versions = {name: metadata.version(name) for name in _PACKAGES}
    run["other_flags"] = others
    run["versions"] = versions | {"python": platform.python_version()}
    run["git_revision"] = _revision()
    run["times"] = [*times, {"started": _now(), "host": platform.node()}]
    write_json(path, run)


def note_end(output_dir: str, first_step: int, last_step: int) -> None:
    """Notes in run.json that the run that was claimed last went from here to there, and when."""
    path = tf.io.gfile.join(output_dir, RUN_FILE)
    run = filesystem.read_json(path, dict)
    run["times"][-1] |= {"ended": _now(), "first_step": first_step, "last_step": last_step}
    write_json(path, run)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _revision() -> str | None:
    """The commit of the source, with "+changes" if files differ from it; None if there is none."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        answers = [
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=10
            )
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.TimeoutExpired):
        return None
    if any(answer.returncode for answer in answers):
        return None
    return answers[0].stdout.strip() + ("+changes" if answers[1].stdout.strip() else "")


@contextlib.contextmanager
def locked(output_dir: str) -> Iterator[None]:
    """For the time of the block no other run trains in output_dir.

    The lock ends with the process, however it ends. Object stores have none, nor have some
    network file systems, which is said.

    Raises:
      ValueError: another run holds it.
    """
    if filesystem.is_remote(output_dir):
        yield
        return
    with open(os.path.join(output_dir, _LOCK_FILE), "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"--output_dir={output_dir} is in use by another run ({file.read().strip()}); "
                "wait for its end, or give another --output_dir"
            ) from error
        except OSError as error:
            logging.warning("%s cannot be locked (%s): start one run in it only", output_dir, error)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _check_same(output_dir: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differences = []
    for part, line in (
        ("flags", "--{name}: {before!r} then, {now!r} now"),
        ("model", "the model's {name}: {before!r} then, {now!r} now"),
        ("data_sha256", "the contents of {name} have changed"),
    ):
        old, new = before.get(part, {}), now[part]
        differences += [
            "  " + line.format(name=name, before=old.get(name), now=new.get(name))
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
    if differences:
        raise ValueError(
            f"--output_dir={output_dir} belongs to another run:\n"
            + "\n".join(differences)
            + "\nGive another --output_dir, or the same flags and data to continue that run."
        )
