"""`python -m bert_tf.serving -model_dir ...` is bert-serving-start."""

import sys

from bert_tf.serving.commands import start

if __name__ == "__main__":
    sys.exit(start())
