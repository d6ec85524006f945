r"""Makes the rows that run_pretraining.py trains on from texts.

python create_pretraining_data.py --input_file=corpus.txt --output_file=output/wiki.tfrecord \
    --vocab_file=vocab.txt --max_seq_length=128 --max_predictions_per_seq=20 --dupe_factor=5
"""

from bert_tf import cli
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig


def main(config: PretrainingDataConfig) -> None:
    config.check_inputs()
    from bert_tf.tasks import pretraining_data

    pretraining_data.run(config)


if __name__ == "__main__":
    cli.run(PretrainingDataConfig, main)
