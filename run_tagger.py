r"""Fine-tunes BERT to tag words: named entities, parts of speech, word segmentation.

python run_tagger.py --task_name=conll --data_dir=examples/ner_en --output_dir=/tmp/ner \
    --init_checkpoint=downloads/all-MiniLM-L6-v2 --do_train=true --do_eval=true
"""

from bert_tf import cli
from bert_tf.tasks.tagging_config import TaggingConfig


def main(config: TaggingConfig) -> None:
    config.check_inputs()
    with cli.quiet_start():  # TensorFlow, which --help does without
        from bert_tf.tasks import tagging

    tagging.run(config)


if __name__ == "__main__":
    cli.run(TaggingConfig, main)
