"""What `python -m bert_tf.export` does: a checkpoint's task -> its servable -> `export_model`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bert_tf.export import export_model, finetuned
from bert_tf.export.export_config import SERVABLES, ExportConfig

if TYPE_CHECKING:
    from bert_tf.export.servable import Servable


def run(config: ExportConfig) -> str:
    """Exports a checkpoint; returns the folder of the text model.

    Raises:
      ValueError: something is missing or does not fit; the message says how to mend it.
      ExportError: as `export_model`.
    """
    source = finetuned.read(config)
    run_dir = finetuned.run_dir(config.checkpoint)
    path = export_model(servable(source), config.export_dir, run_dir=run_dir)
    print(f"Exported and verified: {path}", flush=True)
    return path


def servable(source: finetuned.FineTuned) -> Servable:
    """The servable of the checkpoint's task. Raises ValueError as its `from_checkpoint`."""
    if source.task_type not in SERVABLES:
        raise ValueError(
            f"{source.path} was trained for {source.task_type}; what can be exported is "
            f"{', '.join(SERVABLES)}"
        )
    module, name = SERVABLES[source.task_type]
    return getattr(importlib.import_module(module), name).from_checkpoint(source)
