r"""Fine-tunes BERT to classify sentences or sentence pairs; evaluates, predicts and exports.

python run_classifier.py --task_name=mnli --data_dir=examples/mnli --output_dir=/tmp/mnli \
    --init_checkpoint=downloads/all-MiniLM-L6-v2 --do_train=true --do_eval=true
"""

from bert_tf import cli
from bert_tf.tasks.classification_config import ClassificationConfig


def main(config: ClassificationConfig) -> None:
    config.check_inputs()
    with cli.quiet_start():  # TensorFlow, which --help does without
        from bert_tf.tasks import classification

    classification.run(config)


if __name__ == "__main__":
    cli.run(ClassificationConfig, main)
