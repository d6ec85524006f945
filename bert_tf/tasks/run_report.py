"""report.html of an evaluated classifier, made from what its run has noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from bert_tf import filesystem, reporting, run_folder
from bert_tf.checkpoints.location import read_json
from bert_tf.data.examples import SentenceTask
from bert_tf.reporting.events import read_scalars
from bert_tf.run_config import RunConfig
from bert_tf.tasks.evaluated import Evaluated


def write_report(
    config: RunConfig,
    run_dir: str,
    task: SentenceTask,
    evaluated: Evaluated,
    metrics: Mapping[str, Any],
) -> str:
    """Writes `<output_dir>/report.html` on the model trained in `run_dir`; returns its path."""
    run_file = tf.io.gfile.join(run_dir, run_folder.RUN_FILE)
    run = read_json(run_file, dict) if filesystem.is_file(run_file) else {}
    outputs = evaluated.outputs[:, 0] if task.regression else evaluated.outputs
    page = reporting.render(
        reporting.RunReport(
            title=f"{task.name}: {len(evaluated.examples):,} development examples",
            task_type=task.problem_type,
            labels=evaluated.labels,
            examples=evaluated.examples,
            expected=evaluated.truth(task),
            outputs=outputs,
            metrics={k: v for k, v in metrics.items() if k != "data"},
            curves=read_scalars(run_dir),
            flags=run.get("flags") or config.bound(),
            versions=run.get("versions", {}),
            fingerprints=run.get("data_sha256", {}),
            data_report="\n".join(metrics.get("data", {}).get("warnings", [])),
        )
    )
    path = tf.io.gfile.join(config.output_dir, "report.html")
    run_folder.write_text(path, page)
    return path
