"""report.html of a run of any program, made from what the run has noted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from bert_tf import filesystem, reporting, run_folder
from bert_tf.reporting.events import read_scalars
from bert_tf.reporting.parts import Section
from bert_tf.run_config import RunConfig

_NOT_SHOWN = ("data", "task_name", run_folder.RESULTS)  # of metrics.json: no scores


@dataclasses.dataclass
class Findings:
    """What a program has found out, as far as metrics.json does not hold it.

    Attributes:
      evaluated: what the scores are of, for the heading; "" if nothing was evaluated.
      warnings: what makes the scores doubtful, beside the warnings about the data.
      details: the sections about the predictions.
    """

    evaluated: str = ""
    warnings: list[str] = dataclasses.field(default_factory=list)
    details: Sequence[Section] = ()


def page(
    config: RunConfig,
    run_dir: str,
    name: str,
    decisive: str,
    findings: Findings,
    metrics: Mapping[str, Any],
) -> str:
    """Return the report on the model that was trained in `run_dir`.

    Args:
      name: of the task.
      decisive: the name of the deciding score.
      metrics: the content of metrics.json.
    """
    run = _read(run_dir, run_folder.RUN_FILE)
    evaluated = findings.evaluated
    bad = [f"{n} bad rows of {split}: left out" for split, n in metrics.get("bad_rows", {}).items()]
    return reporting.render(
        reporting.RunReport(
            title=f"{name}: {evaluated or 'training'}",
            score=(decisive, metrics["eval"][decisive]) if evaluated else None,
            warnings=[*findings.warnings, *_data_warnings(run_dir, metrics), *bad],
            details=findings.details,
            metrics={k: v for k, v in metrics.items() if k not in _NOT_SHOWN},
            curves=read_scalars(run_dir),
            flags=run.get("flags") or config.bound(),
            versions=run.get("versions", {}),
            fingerprints=run.get("data_sha256", {}),
        )
    )


def _data_warnings(run_dir: str, metrics: Mapping[str, Any]) -> list[str]:
    """Return the warnings of this run, or of the training if it had the same development set."""
    trained = _read(run_dir, run_folder.METRICS_FILE)
    for noted in (metrics, trained):
        found = noted.get("data", {}).get("warnings")
        if found is not None and _evaluated_files(noted) in (None, _evaluated_files(metrics)):
            return found
    return []


def _evaluated_files(metrics: Mapping[str, Any]) -> str | None:
    return metrics.get(run_folder.RESULTS, {}).get("eval_results.txt", {}).get("sha256")


def _read(folder: str, name: str) -> dict[str, Any]:
    path = tf.io.gfile.join(folder, name)
    return filesystem.read_json(path, dict) if filesystem.is_file(path) else {}
