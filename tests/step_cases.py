"""Every head with rows to train it on: what a whole step of each has to be able to do."""

import numpy as np

from bert_tf import heads
from bert_tf.config import BertConfig
from bert_tf.data import records
from bert_tf.tasks import objectives

LENGTH, MASKED, LABELS, WORDS = 16, 4, 3, 50
CONFIG = BertConfig(
    vocab_size=WORDS,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=LENGTH,
)

# name -> the model, what is minimised, the features of its rows
CASES = {
    "classifier": (
        lambda config: heads.classifier(config, LABELS, config.hidden_dropout_prob),
        lambda: objectives.sequence("classification"),
        records.classification_spec(LENGTH, regression=False),
    ),
    "regression": (
        lambda config: heads.classifier(config, 1, config.hidden_dropout_prob),
        lambda: objectives.sequence("regression"),
        records.classification_spec(LENGTH, regression=True),
    ),
    "multilabel": (
        lambda config: heads.classifier(config, LABELS, config.hidden_dropout_prob),
        lambda: objectives.sequence("multilabel"),
        records.classification_spec(LENGTH, regression=False, num_labels=LABELS),
    ),
    "span": (heads.span, objectives.span, records.span_spec(LENGTH, is_training=True)),
    "tagger": (
        lambda config: heads.tagger(config, LABELS, False, config.hidden_dropout_prob),
        lambda: objectives.tagging(use_crf=False),
        records.tagging_spec(LENGTH),
    ),
    "tagger with a CRF": (
        lambda config: heads.tagger(config, LABELS, True, config.hidden_dropout_prob),
        lambda: objectives.tagging(use_crf=True),
        records.tagging_spec(LENGTH),
    ),
    "pretraining": (
        heads.pretraining,
        objectives.pretraining,
        records.pretraining_spec(LENGTH, MASKED),
    ),
    "masked words": (
        lambda config: heads.pretraining(config, next_sentence=False),
        lambda: objectives.pretraining(next_sentence=False),
        records.pretraining_spec(LENGTH, MASKED),
    ),
}


class RandomRows:
    """Rows of the given features, each drawn from its number."""

    def __init__(self, spec, count=12):
        self.spec, self._count = spec, count

    def __len__(self):
        return self._count

    def batch(self, indices, epochs=None):
        rows = [self._row(int(index)) for index in indices]
        return {name: np.stack([row[name] for row in rows]) for name in self.spec}

    def _row(self, number):
        rng = np.random.default_rng(number)
        used = int(rng.integers(8, LENGTH + 1))
        row = {}
        for name, feature in self.spec.items():
            (size,) = feature.shape
            high = {"input_ids": WORDS, "masked_lm_ids": WORDS, "label_ids": LABELS}.get(name, 2)
            if name.endswith("positions"):
                high = 8
            values = rng.integers(0, high, size)
            if name in ("input_mask", "label_mask"):
                values = np.arange(size) < used
            row[name] = values.astype(feature.dtype.as_numpy_dtype)
            if feature.dtype.as_numpy_dtype == np.int64:
                row[name] = row[name].astype(np.int32)
        if "is_real_example" in row:
            row["is_real_example"][:] = 1
        return row
