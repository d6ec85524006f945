"""Writes SavedModels for TF Serving from a fine-tuned checkpoint, verified.

python -m bert_tf.export --checkpoint=output/mnli/final_model --export_dir=output/mnli/export
"""

from bert_tf import cli
from bert_tf.export import program
from bert_tf.export.export_config import ExportConfig


def main(config: ExportConfig) -> None:
    config.check_inputs()
    with cli.quiet_start():
        import tensorflow  # noqa: F401 - which --help does without

    program.run(config)


if __name__ == "__main__":
    cli.run(ExportConfig, main)
