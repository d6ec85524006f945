"""The same run with several seeds: how much of a score is luck, and which run to use.

Each seed trains in `<output_dir>/seed-<n>/`, so that what was interrupted continues. `seeds.json`
has a score for each; the best one's model is then evaluated, used and exported in output_dir.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bert_tf import filesystem, run_folder
from bert_tf.checkpoints.training import CheckpointManager
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.program import Program

MAX_RESTARTS = 5  # in a row; what collapses so often wants another learning rate


def run_seeds(
    config: ClassificationConfig, program: Callable[[ClassificationConfig], Program]
) -> dict[str, Any]:
    """Trains `--num_seeds` times, reports, and goes on with the best.

    Returns:
      As `Program.run`, of the best model; `seeds` is the path of seeds.json.

    Raises:
      ValueError: `--restart_on_collapse` found nothing but collapsed runs, or output_dir is that
        of a single run.
    """
    if CheckpointManager(config.output_dir).latest():
        raise ValueError(
            f"--output_dir={config.output_dir} holds the checkpoints of one run; give another "
            "--output_dir for --num_seeds and --restart_on_collapse"
        )
    filesystem.make_dir(config.output_dir)
    runs, restarts, seed = [], 0, config.random_seed
    while len(runs) - restarts < config.num_seeds:
        run = _run_one(config, program, seed)
        runs.append(run)
        seed += 1
        if not (run["collapsed"] and config.restart_on_collapse):
            continue
        restarts += 1
        if all(run["collapsed"] for run in runs[-MAX_RESTARTS:]) and len(runs) >= MAX_RESTARTS:
            raise ValueError(
                f"{MAX_RESTARTS} runs in a row have collapsed (seeds {runs[-MAX_RESTARTS]['seed']} "
                f"to {run['seed']}): try a smaller --learning_rate than {config.learning_rate}, or "
                f"a longer --warmup_proportion than {config.warmup_proportion}"
            )
    summary = summarize(runs, config.restart_on_collapse)
    path = tf.io.gfile.join(config.output_dir, "seeds.json")
    run_folder.write_json(path, summary)
    print(table(summary), flush=True)
    best = next(run for run in runs if run["seed"] == summary["best_seed"])
    final = dataclasses.replace(
        config,
        do_train=False,
        init_checkpoint=best["final_model"],
        bert_config_file=None,
        vocab_file=None,
        eval_steps=0,
        early_stopping_patience=0,
        num_seeds=1,
        restart_on_collapse=False,
    )
    return program(final).run() | {"seeds": path, "final_model": best["final_model"]}


def _run_one(
    config: ClassificationConfig, program: Callable[[ClassificationConfig], Program], seed: int
) -> dict[str, Any]:
    print(f"== Seed {seed}", flush=True)
    part = program(
        dataclasses.replace(
            config,
            output_dir=tf.io.gfile.join(config.output_dir, f"seed-{seed}"),
            random_seed=seed,
            do_predict=False,
            export_dir=None,
            export_precision="float32",
            num_seeds=1,
            restart_on_collapse=False,
        )
    )
    result = part.run()
    metrics = result["metrics"]
    return {
        "seed": seed,
        "metric": part.decisive,
        "score": metrics["eval"][part.decisive],
        "collapsed": metrics.get("collapsed"),
        "final_model": result["final_model"],
    }


def summarize(runs: list[dict[str, Any]], without_collapsed: bool) -> dict[str, Any]:
    """Mean, sample deviation and best of the scores.

    Args:
      without_collapsed: runs that were started again do not count.
    """
    counted = [run for run in runs if not (without_collapsed and run["collapsed"])]
    scores = [run["score"] for run in counted]
    return {
        "metric": runs[0]["metric"],
        "runs": runs,
        "mean": statistics.fmean(scores),
        "standard_deviation": statistics.stdev(scores) if len(scores) > 1 else None,
        "best": max(scores),
        "best_seed": max(counted, key=lambda run: run["score"])["seed"],
    }


def table(summary: dict[str, Any]) -> str:
    """The summary for people."""
    lines = [f"== {len(summary['runs'])} runs, {summary['metric']} on the development set"]
    for run in summary["runs"]:
        collapsed = f"  collapsed: {run['collapsed']}" if run["collapsed"] else ""
        lines.append(f"seed {run['seed']:<11} {run['score']:.4f}{collapsed}")
    deviation = summary["standard_deviation"]
    spread = "" if deviation is None else f", standard deviation {deviation:.4f}"
    lines.append(
        f"mean {summary['mean']:.4f}{spread}; best {summary['best']:.4f}, seed "
        f"{summary['best_seed']}"
    )
    return "\n".join(lines)
