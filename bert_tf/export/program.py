"""What `python -m bert_tf.export` does: a checkpoint's task -> its servable -> `export_model`."""

from bert_tf.export import classification, export_model, finetuned
from bert_tf.export.export_config import ExportConfig

# task_type -> FineTuned -> Servable
SERVABLES = dict.fromkeys(classification.TASK_TYPES, classification.Classifier.from_checkpoint)


def run(config: ExportConfig) -> str:
    """Exports a checkpoint; returns the folder of the text model.

    Raises:
      ValueError: something is missing or does not fit; the message says how to mend it.
      ExportError: as `export_model`.
    """
    source = finetuned.read(config)
    if source.task_type not in SERVABLES:
        raise ValueError(
            f"{config.checkpoint} was trained for {source.task_type}; what can be exported is "
            f"{', '.join(SERVABLES)}"
        )
    servable = SERVABLES[source.task_type](source)
    path = export_model(servable, config.export_dir, run_dir=finetuned.run_dir(config.checkpoint))
    print(f"Exported and verified: {path}", flush=True)
    return path
