"""Asks an exported SavedModel about one sentence or a pair; needs no bert_tf.

python examples/predict.py EXPORT_DIR "first sentence" ["second sentence"]
"""

import os
import sys
from pathlib import Path

import numpy as np

# TensorFlow's lines about itself, some of which no setting leaves out.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_STDERR = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import tensorflow as tf
    import tensorflow_text  # noqa: F401 - registers the tokenizer's ops
finally:
    os.dup2(_STDERR, 2)


def main() -> None:
    export_dir, text_a, *text_b = sys.argv[1:]
    text = Path(export_dir, "text")
    version = max(int(p.name) for p in text.iterdir() if p.name.isdigit())
    model = tf.saved_model.load(f"{text}/{version}")
    answer = model.signatures["serving_default"](
        text_a=tf.constant([text_a]), text_b=tf.constant(text_b or [""])
    )
    print(f"text_a: {text_a}\ntext_b: {' '.join(text_b)}")
    if "scores" in answer:  # a regression
        print(f"score:  {answer['scores'][0].numpy():.3f}")
    else:
        # One label; or where several may hold, the name of each that does and "" for the others.
        labels = [label.decode() for label in np.ravel(answer["labels"][0]) if label]
        print(f"label:  {' '.join(labels)}")
        print("probabilities:", " ".join(f"{p:.3f}" for p in answer["probabilities"][0].numpy()))


if __name__ == "__main__":
    main()
