r"""Writes BERT's vectors of the tokens, or of the sentences, of a text file.

python extract_features.py --input_file=input.txt --output_file=output.jsonl \
    --init_checkpoint=downloads/all-MiniLM-L6-v2 --layers=-1,-2,-3,-4

A line is a sentence, or a pair as `first ||| second`. Sentence vectors:
    --pooling=mean --layers=-1 --normalize --output_format=npy
"""

from bert_tf import cli
from bert_tf.tasks.feature_extraction_config import FeatureExtractionConfig


def main(config: FeatureExtractionConfig) -> None:
    config.check_inputs()
    with cli.quiet_start():  # TensorFlow, which --help does without
        from bert_tf.tasks import feature_extraction

    feature_extraction.run(config)


if __name__ == "__main__":
    cli.run(FeatureExtractionConfig, main)
