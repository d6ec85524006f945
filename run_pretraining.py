r"""Pre-trains BERT on masked words and next sentences, from nothing or from a checkpoint.

python run_pretraining.py --input_file=output/wiki.tfrecord --output_dir=output/wiki \
    --bert_config_file=bert_config.json --do_train=true --do_eval=true --num_train_steps=20
"""

from bert_tf import cli
from bert_tf.tasks.pretraining_config import PretrainingConfig


def main(config: PretrainingConfig) -> None:
    config.check_inputs()
    with cli.quiet_start():  # TensorFlow, which --help does without
        from bert_tf.tasks import pretraining

    pretraining.run(config)


if __name__ == "__main__":
    cli.run(PretrainingConfig, main)
