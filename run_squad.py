r"""Fine-tunes BERT to find the answer to a question in a passage; evaluates, predicts and exports.

python run_squad.py --train_file=train-v1.1.json --predict_file=dev-v1.1.json --do_train=true \
    --do_predict=true --init_checkpoint=downloads/all-MiniLM-L6-v2 --output_dir=/tmp/squad
"""

from bert_tf import cli
from bert_tf.tasks.question_answering_config import QuestionAnsweringConfig


def main(config: QuestionAnsweringConfig) -> None:
    config.check_inputs()
    with cli.quiet_start():  # TensorFlow, which --help does without
        from bert_tf.tasks import question_answering

    question_answering.run(config)


if __name__ == "__main__":
    cli.run(QuestionAnsweringConfig, main)
