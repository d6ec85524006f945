"""Sequence classification as SavedModel signatures; regression and several labels a text as well.

B batch, F from-length, L labels. What signatures answer, by task_type:

    classification   label_ids int32 [B], labels string [B], probabilities float32 [B, L] (softmax)
    multilabel       label_ids int32 [B, L], 1 where the probability is 0.5 or more, else 0;
                     labels string [B, L], the name there and "" else;
                     probabilities float32 [B, L] (sigmoid)
    regression       scores float32 [B]

`classify` answers with `classes` string [B, L] and `scores` float32 [B, L], every label with its
probability, and `regress` with `outputs` float32 [B], as TF Serving's methods want it. These two
and `examples` take serialized tf.Examples: of Google's features, and in the text model also of
`text_a` with or without `text_b`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bert_tf import heads
from bert_tf.config import BertConfig
from bert_tf.data.features import Packing, pool_windows
from bert_tf.export import ExportError
from bert_tf.export.features import (
    FEATURES,
    FeaturesModule,
    Tensors,
    inference_copy,
    padded,
    serialize_example,
    serialize_examples,
)
from bert_tf.export.finetuned import FineTuned
from bert_tf.export.servable import Arrays, Case, Model, Servable
from bert_tf.export.text import TextModule, parse_text_examples, shown
from bert_tf.graph_packing import pack_pairs, pack_windows, pool
from bert_tf.metrics import MULTILABEL_THRESHOLD
from bert_tf.packing import Packed
from bert_tf.tokenization import Tokenizer

USES = {
    "classification": "Gives a text, or a pair of texts, one label out of those below.",
    "multilabel": "Gives a text, or a pair of texts, any number of the labels below.",
    "regression": "Gives a text, or a pair of texts, a number.",
}
TEXTS = ("text_a", "text_b")
BATCH_SIZE = 8

Sample = tuple[str, str | None]  # text_a, text_b


class Batch(NamedTuple):
    """Samples and what Python makes of them; R rows, which are B but for windows."""

    samples: list[Sample]
    counts: list[int]  # rows of each sample
    features: Arrays  # FEATURES, int32 [R, F]
    row_scores: np.ndarray  # float [R] of a regression, else probabilities [R, L]
    scores: np.ndarray  # the same of the samples, [B] or [B, L]


class Classifier(Servable):
    """A model of `heads.classifier`, trained under any tf.distribute strategy.

    Texts become rows as in training: `packing`, by default cut to `max_seq_length` pieces; the
    logits of several rows of one text are joined by `pooling`. A regression has no labels.

    Raises: ValueError for arguments that do not fit together.
    """

    example = ("An example of a sentence.", None)

    def __init__(
        self,
        model: keras.Model,
        config: BertConfig,
        tokenizer: Tokenizer,
        max_seq_length: int,
        labels: list[str],
        task_type: str = "classification",
        packing: Packing | None = None,
        pooling: str = "mean",
        precision: str = "float32",
    ):
        super().__init__(config, tokenizer, max_seq_length)
        self.packing, self.pooling = packing or Packing(max_seq_length), pooling
        self.reads_whole_texts = self.packing.long_text == "windows"
        if task_type not in USES or bool(labels) == (task_type == "regression"):
            raise ValueError(f"task_type={task_type!r} with labels={labels!r:.80}: do not fit")
        self.task_type, self.use, self.labels = task_type, USES[task_type], labels
        outputs, self.precision = len(labels) or 1, precision
        self.model = inference_copy(
            model,
            lambda: heads.classifier(config, outputs),
            f"a classifier of this config with {outputs} outputs",
            precision,
        )

    @classmethod
    def from_checkpoint(cls, source: FineTuned) -> "Classifier":
        """The classifier in a checkpoint. Raises ValueError if labels are missing or too many."""
        outputs = source.num_outputs()
        labels = [] if source.task_type == "regression" else source.named_labels(outputs)
        if not labels and outputs != 1:
            raise ValueError(
                f"{source.path} has {outputs} outputs, but a regression has one; give --labels, or "
                "--task_type=classification or multilabel"
            )
        model = source.load(heads.classifier(source.config, outputs))
        task = source.task
        packing = Packing(
            source.max_seq_length, task.get("long_text", "truncate"), task.get("window_stride")
        )
        settings = source.config, source.tokenizer, source.max_seq_length
        pooling = task.get("window_pooling", "mean")
        return cls(model, *settings, labels, source.task_type, packing, pooling)

    def in_bfloat16(self) -> "Classifier":
        settings = self.config, self.tokenizer, self.max_seq_length, self.labels, self.task_type
        return Classifier(self.model, *settings, self.packing, self.pooling, "bfloat16")

    # ------------------------------------------------ texts to rows, in Python and in the graph

    def rows(self, text_a: str, text_b: str | None) -> list[Packed]:
        """Texts -> (input_ids, segment_ids) of one row or several, not padded."""
        ids_b = [] if text_b is None else self.tokenizer.encode(text_b)
        return self.packing.rows(self.tokenizer.encode(text_a), ids_b, self.tokenizer)

    def graph_rows(self, a: tf.RaggedTensor, b: tf.RaggedTensor) -> tuple[Tensors, tf.Tensor]:
        """The same for a batch of ids [B, (pieces)] -> FEATURES, int32 [R, F], and whose [R]."""
        special = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        length, packing = self.max_seq_length, self.packing
        if packing.long_text == "windows":
            packed, owner = pack_windows(a, b, *special, length, packing.window_stride)
        else:
            packed = pack_pairs(a, b, *special, length, packing.long_text)
            owner = tf.range(a.nrows())
        return dict(zip(FEATURES, packed, strict=True)), owner

    # ----------------------------------------------------------------------------- the graphs

    def features_model(self) -> Model:
        module = FeaturesModule(self.model, self._graph_answers)
        both = {"serving_default": module.features, "features": module.features}
        return Model(module, both | self._example_signatures(module))

    def _example_signatures(self, module: tf.Module) -> dict[str, Any]:
        """`examples` of a module, and the TF Serving method that follows from it."""

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def method(inputs):
            answers = module.examples(inputs)
            if self.task_type == "regression":
                return {"outputs": answers["scores"]}
            scores = answers["probabilities"]
            classes = tf.broadcast_to(tf.constant(self.labels), tf.shape(scores))
            return {"classes": classes, "scores": scores}

        module.method = method
        name = "regress" if self.task_type == "regression" else "classify"
        return {"examples": module.examples, name: method}

    def _graph_answers(self, outputs: Tensors) -> Tensors:
        """Logits [B, L] -> what the module's docstring lists."""
        logits = outputs["logits"]
        names = tf.constant(self.labels, tf.string)
        if self.task_type == "regression":
            return {"scores": tf.squeeze(logits, axis=-1)}
        probabilities = heads.scores(logits, self.task_type)
        if self.task_type == "multilabel":
            chosen = probabilities >= MULTILABEL_THRESHOLD
            label_ids, labels = tf.cast(chosen, tf.int32), tf.where(chosen, names, "")
        else:
            label_ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
            labels = tf.gather(names, label_ids)
        return {"label_ids": label_ids, "labels": labels, "probabilities": probabilities}

    def text_model(self, features: Model) -> Model:
        """`serving_default` (text_a [B], text_b [B]; an empty text_b makes a single sentence) and
        `single_sentence` (text_a [B]); `tokenize`, no signature, gives the features themselves.
        """
        module = TextModule(features, self.tokenizer)
        text_a, text_b = (tf.TensorSpec([None], tf.string, name) for name in TEXTS)

        @tf.function(autograph=False, input_signature=[text_a, text_b])
        def tokenize(text_a, text_b):
            return self.graph_rows(module.tokenizer(text_a), module.tokenizer(text_b))[0]

        @tf.function(autograph=False, input_signature=[text_a, text_b])
        def text_pair(text_a, text_b):
            rows, owner = self.graph_rows(module.tokenizer(text_a), module.tokenizer(text_b))
            logits = self.model(rows, training=False)["logits"]
            if self.packing.long_text == "windows":
                logits = pool(logits, owner, self.pooling)
            return self._graph_answers({"logits": logits})

        @tf.function(autograph=False, input_signature=[text_a])
        def single_sentence(text_a):
            return text_pair(text_a, tf.zeros_like(text_a))

        serialized = tf.TensorSpec([None], tf.string, "examples")

        @tf.function(autograph=False, input_signature=[serialized])
        def examples(examples):
            if self.packing.long_text == "windows":  # an example is a row: only features there
                return module.model.examples(examples)
            return module.model.features(**parse_text_examples(examples, TEXTS, tokenize))

        module.tokenize = tokenize
        module.text_pair = text_pair
        module.single_sentence = single_sentence
        module.examples = examples
        own = {"serving_default": text_pair, "single_sentence": single_sentence}
        return Model(module, features.signatures | own | self._example_signatures(module))

    # ------------------------------------------------------------------------- what Python says

    def tricky_samples(self) -> list[Sample]:
        """Texts on which tokenizers and packers have been seen to differ."""
        long_a = "word " * (self.max_seq_length + 9)
        long_b = "another " * (self.max_seq_length + 7)
        return [
            ("", None),
            (" \t\n", "\u3000"),
            ("Thé naïve café, ÀÉÎÕÜ; I\u0307stanbul", "ﬁne Ａ１ e\u0301 \u00ad-\u200b- ΟΔΟΣ"),
            ("北京是中国的首都。", "日本語とかな, 한국어 อักษรไทย"),
            ("I ❤️ it 🙂 👩‍👩‍👧", None),
            ("literal [CLS] [SEP] [MASK] [UNK]", "[SEP]"),
            ("a" * 201, "don't\x00stop\ufffd"),
            (long_a, None),
            (long_a, long_b),
            ("short", long_b),
        ]

    def answers(self, samples: Iterable[Sample]) -> list[Batch]:
        """Batches of samples of like length through tokenizer, packing and the Keras model."""
        made = [(self.rows(*sample), sample) for sample in samples]
        made.sort(key=lambda item: len(item[0][0][0]))
        batches = []
        for start in range(0, len(made), BATCH_SIZE):
            rows_of, chunk = zip(*made[start : start + BATCH_SIZE], strict=True)
            counts = [len(rows) for rows in rows_of]
            features = padded([row for rows in rows_of for row in rows])
            logits = self.model({k: tf.constant(v) for k, v in features.items()}, training=False)
            logits = tf.cast(logits["logits"], tf.float64).numpy()
            scores = self._scores(pool_windows(logits, counts, self.pooling))
            batches.append(Batch(list(chunk), counts, features, self._scores(logits), scores))
        return batches

    def _scores(self, logits: np.ndarray) -> np.ndarray:
        if self.task_type == "regression":
            return logits[:, 0]
        if self.task_type == "multilabel":
            return np.exp(-np.logaddexp(0, -logits))
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def features_cases(self, batch: Batch) -> Iterator[Case]:
        expected, rows = self._of_rows(batch)
        yield Case("serving_default", batch.features, expected, rows)
        yield from self._shared_cases(batch, serialize_examples(batch.features))

    def _shared_cases(self, batch: Batch, serialized: np.ndarray) -> Iterator[Case]:
        """Of the signatures that both models have; `serialized` tf.Examples, bytes [R]."""
        expected, rows = self._of_rows(batch)
        yield Case("features", batch.features, expected, rows)
        yield Case("examples", {"examples": serialized}, expected, rows)
        if self.task_type == "regression":
            yield Case("regress", {"inputs": serialized}, {"outputs": batch.row_scores}, rows)
        else:
            classes = np.array([[label.encode() for label in self.labels]] * len(rows), object)
            scores = {"classes": classes, "scores": batch.row_scores}
            yield Case("classify", {"inputs": serialized}, scores, rows)

    def _of_rows(self, batch: Batch) -> tuple[Arrays, list[str]]:
        names = [shown(*sample) for sample in batch.samples]
        rows = [name for name, n in zip(names, batch.counts, strict=True) for _ in range(n)]
        return {self._score_name: batch.row_scores}, rows

    @property
    def _score_name(self) -> str:
        return "scores" if self.task_type == "regression" else "probabilities"

    def text_cases(self, batch: Batch) -> Iterator[Case]:
        expected = {self._score_name: batch.scores}
        rows = [shown(*sample) for sample in batch.samples]
        texts = {
            "text_a": np.array([a.encode() for a, _ in batch.samples], object),
            "text_b": np.array([(b or "").encode() for _, b in batch.samples], object),
        }
        yield Case("tokenize", texts, batch.features, self._of_rows(batch)[1])
        yield Case("serving_default", texts, expected, rows)
        single = [i for i, (_, text_b) in enumerate(batch.samples) if text_b is None]
        if single:
            yield Case(
                "single_sentence",
                {"text_a": texts["text_a"][single]},
                {name: values[single] for name, values in expected.items()},
                [rows[i] for i in single],
            )
        serialized = serialize_examples(batch.features)
        texts_too = [] if self.packing.long_text == "windows" else batch.samples[::2]
        for i, sample in enumerate(texts_too):  # every other one as text
            there = {n: [x.encode()] for n, x in zip(TEXTS, sample, strict=True) if x is not None}
            serialized[2 * i] = serialize_example(there)
        yield from self._shared_cases(batch, serialized)

    def check(self, case: Case, answers: Arrays) -> None:
        """Also: labels follow from probabilities; which one does not matter in a tie."""
        super().check(case, answers)
        if "probabilities" not in case.expected:
            return
        ours, ids = case.expected["probabilities"], answers["label_ids"]
        names = np.array([label.encode() for label in self.labels], object)
        if self.task_type == "multilabel":
            sure = abs(ours - MULTILABEL_THRESHOLD) > self.tolerance
            good = ((ids == (ours >= MULTILABEL_THRESHOLD)) | ~sure).all()
            labels = np.where(ids == 1, names, b"")
        else:
            good = (ours[np.arange(len(ids)), ids] >= ours.max(axis=-1) - 2 * self.tolerance).all()
            labels = names[ids]
        found = answers["labels"].tolist()
        if not good or found != labels.tolist():
            raise ExportError(f"labels of signature {case.function}: {found} for {ours.tolist()}")
