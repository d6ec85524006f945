"""What an output_dir remembers of its run, so that it is only ever continued by the same run.

`run.json` holds the flags that training depends on, a fingerprint of the data, and versions.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import tensorflow as tf

from bert_tf import filesystem
from bert_tf.checkpoints.files import write_file
from bert_tf.run_config import RunConfig

RUN_FILE = "run.json"


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file; it is either whole or not there."""
    write_file(path, text.encode())


def write_json(path: str, value: Any) -> None:
    """Writes JSON, indented."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fingerprint(paths: Sequence[str]) -> str:
    """One sha256 over the contents of the files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def claim(config: RunConfig, data_files: Mapping[str, Sequence[str]]) -> None:
    """Notes in output_dir which run it belongs to, or checks that it is this one.

    Args:
      config: the run's flags; those that training depends on must not change.
      data_files: what training reads: a name for messages -> file paths.

    Raises:
      ValueError: output_dir belongs to a run with other flags or data.
    """
    path = tf.io.gfile.join(config.output_dir, RUN_FILE)
    files = {name: fingerprint(paths) for name, paths in data_files.items()}
    # Through JSON, so that both sides compare as what was stored.
    run = json.loads(json.dumps({"flags": config.bound(), "data_sha256": files}))
    if tf.io.gfile.exists(path):
        _check_same(config.output_dir, _read(path), run)
        return
    if tf.train.latest_checkpoint(config.output_dir):
        raise ValueError(
            f"--output_dir={config.output_dir} holds checkpoints but no {RUN_FILE}, so it cannot "
            "be told which run they belong to; give another --output_dir, and this one as "
            "--init_checkpoint to start from its weights"
        )
    versions = {name: metadata.version(name) for name in ("bert_tf", "tensorflow", "keras")}
    run["versions"] = versions | {"python": platform.python_version()}
    filesystem.make_dir(config.output_dir)
    write_json(path, run)


def _read(path: str) -> dict[str, Any]:
    with tf.io.gfile.GFile(path) as file:
        try:
            run = json.load(file)
            return {"flags": dict(run["flags"]), "data_sha256": dict(run["data_sha256"])}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); give another --output_dir") from error


def _check_same(output_dir: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    differences = [
        f"  --{name}: {before['flags'].get(name)!r} then, {value!r} now"
        for name, value in now["flags"].items()
        if before["flags"].get(name) != value
    ] + [
        f"  the contents of {name} have changed"
        for name, digest in now["data_sha256"].items()
        if before["data_sha256"].get(name) != digest
    ]
    if differences:
        raise ValueError(
            f"--output_dir={output_dir} belongs to another run:\n"
            + "\n".join(differences)
            + "\nGive another --output_dir, or the same flags and data to continue that run."
        )
