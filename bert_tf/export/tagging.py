"""Tagging as SavedModel signatures: text to entities.

`serving_default` of the text model takes `text` string [B] and answers with the N entities of the
text that has most, in order; the others are padded:

    labels   string [B, N]   their types; "" is padding
    texts    string [B, N]   the text at these places
    starts   int32 [B, N]    first characters, counted in code points from 0; -1 is padding
    ends     int32 [B, N]    the characters behind

Without a tag scheme (parts of speech) every word is an entity of its label. Texts of any length
are read whole, in windows as in training.

`features` (and `serving_default` of the features model) takes `input_ids`, `input_mask`,
`segment_ids` and `label_mask`, which is 1 at the first piece of each word, int32 [B, F], and
answers with `label_ids` int32 [B, F], `labels` string [B, F] (0 and "" where the mask is 0) and
`logits` float32 [B, F, L]. The labels of a model with a CRF are the most probable sequence.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bert_tf import crf, heads
from bert_tf.config import BertConfig
from bert_tf.data.entity_spans import AnnotatedText, word_spans
from bert_tf.data.tag_schemes import TagSet, tag_set_of
from bert_tf.data.tagging import TaggingExample, half_window
from bert_tf.data.tagging_features import Window, stitch, window_rows
from bert_tf.entity_metrics import Entity
from bert_tf.export import ExportError
from bert_tf.export.features import FEATURES, Tensors, inference_copy
from bert_tf.export.finetuned import FineTuned
from bert_tf.export.servable import Arrays, Case, Model, Servable
from bert_tf.export.tagging_graph import GraphEntities, GraphWords
from bert_tf.export.text import shown, vocabulary_asset
from bert_tf.graph_offsets import cut
from bert_tf.graph_sentencepiece_offsets import check_offsets
from bert_tf.tokenization import Tokenizer

INPUTS = (*FEATURES, "label_mask")
BATCH_SIZE = 8


class Batch(NamedTuple):
    """Texts and what Python makes of them; R rows, windows of the texts."""

    texts: list[str]
    features: Arrays  # INPUTS, int32 [R, F]
    logits: np.ndarray  # [R, F, L]
    owners: list[int]  # the text of each row
    places: np.ndarray  # int32 [W, 2], row and position of the words of all texts
    words: np.ndarray  # int32 [W], their label ids
    entities: list[list[Entity]]  # of each text, by characters
    sure: np.ndarray  # bool [B], whether logits within the tolerance are taken to give the same


class Tagger(Servable):
    """A model of `heads.tagger`, trained under any tf.distribute strategy.

    Raises: ValueError for arguments that do not fit together, and as `check_offsets`.
    """

    task_type = "tagging"
    reads_whole_texts = True
    example = "An example of a sentence."

    def __init__(
        self,
        model: keras.Model,
        config: BertConfig,
        tokenizer: Tokenizer,
        max_seq_length: int,
        tag_set: TagSet,
        use_crf: bool = False,
        doc_stride: int | None = None,
        precision: str = "float32",
    ):
        super().__init__(config, tokenizer, max_seq_length)
        check_offsets(tokenizer)
        self.tag_set, self.labels, self.use_crf = tag_set, list(tag_set.labels), use_crf
        self.doc_stride = doc_stride or half_window(max_seq_length)
        self.precision = precision
        self.use = "Gives each word of a text one of the labels below."
        if tag_set.has_entities:
            self.use = "Finds entities of the types in the labels below in a text."
        self.model = inference_copy(
            model,
            lambda: heads.tagger(config, len(self.labels), use_crf),
            f"a tagger of this config with {len(self.labels)} labels",
            precision,
        )

    @classmethod
    def from_checkpoint(cls, source: FineTuned) -> "Tagger":
        """The tagger in a checkpoint. Raises ValueError if labels are missing or too many."""
        labels = source.named_labels(source.num_outputs())
        use_crf = "crf/transitions" in source.tensors
        model = source.load(heads.tagger(source.config, len(labels), use_crf))
        tag_set = tag_set_of(labels, source.task.get("tag_scheme"))
        settings = source.config, source.tokenizer, source.max_seq_length
        return cls(model, *settings, tag_set, use_crf, source.task.get("doc_stride"))

    def in_bfloat16(self) -> "Tagger":
        settings = self.config, self.tokenizer, self.max_seq_length, self.tag_set, self.use_crf
        return Tagger(self.model, *settings, self.doc_stride, "bfloat16")

    # ----------------------------------------------------------------------------- the graphs

    def features_model(self) -> Model:
        module = tf.Module()
        module.weights = [weight.value for weight in self.model.weights]
        names = tf.constant(self.labels)

        @tf.function(
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS],
        )
        def features(input_ids, input_mask, segment_ids, label_mask):
            inputs = dict(zip(FEATURES, (input_ids, input_mask, segment_ids), strict=True))
            outputs = self.model(inputs, training=False)
            label_ids = self._label_ids(outputs, label_mask)
            labels = tf.where(label_mask > 0, tf.gather(names, label_ids), "")
            return {"label_ids": label_ids, "labels": labels, "logits": outputs["logits"]}

        module.features = features
        return Model(module, {"serving_default": features, "features": features})

    def _label_ids(self, outputs: Tensors, label_mask: tf.Tensor) -> tf.Tensor:
        """The model's outputs and int32 [R, F] -> labels int32 [R, F], 0 where the mask is 0."""
        if self.use_crf:
            return crf.viterbi(outputs["logits"], label_mask, outputs)
        return tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32) * label_mask

    def text_model(self, features: Model) -> Model:
        """`serving_default`; `read` and `entities`, no signatures, are what comes before the model
        and after it: rows and which words are where, and what follows from the words' labels.
        """
        module = tf.Module()
        module.model = features.module
        module.words = GraphWords(self.tokenizer, self.max_seq_length, self.doc_stride)
        module.vocabulary = vocabulary_asset(self.tokenizer)
        find = GraphEntities(self.labels, self.tag_set.has_entities)
        text, ids = tf.TensorSpec([None], tf.string, "text"), tf.TensorSpec([None], tf.int32, "ids")

        def answer(text, spans, ids):
            kinds, starts, ends = find(ids, spans)
            return {
                "labels": kinds.to_tensor(),
                "texts": cut(text, starts, ends).to_tensor(),
                "starts": starts.to_tensor(-1),
                "ends": ends.to_tensor(-1),
            }

        @tf.function(autograph=False, input_signature=[text])
        def read(text):
            rows, places = module.words.rows(text, module.words.spans(text))
            used, row = tf.unique(places[:, 0])
            found = {name: tf.gather(x, used) for name, x in rows.items()}
            at = tf.stack([row, tf.cast(places[:, 1], tf.int32)], axis=1)
            number = tf.range(1, 1 + tf.size(row))
            return found | {"words": tf.scatter_nd(at, number, tf.shape(found["input_ids"]))}

        @tf.function(autograph=False, input_signature=[text, ids])
        def entities(text, ids):
            return answer(text, module.words.spans(text), ids)

        @tf.function(autograph=False, input_signature=[text])
        def tag(text):
            spans = module.words.spans(text)
            rows, places = module.words.rows(text, spans)
            ids = tf.gather_nd(features.module.features(**rows)["label_ids"], places)
            return answer(text, spans, ids)

        module.tag, module.read, module.entities = tag, read, entities
        return Model(module, {"serving_default": tag, "features": features.module.features})

    # ------------------------------------------------------------------------- what Python says

    def tricky_samples(self) -> list[str]:
        """Texts on which tokenizers, windows and offsets have been seen to differ."""
        return [
            "",
            " \t\n\u3000",
            "\u200b",
            "Thé naïve café, ÀÉÎÕÜ; I\u0307stanbul ﬁne Ａ１ e\u0301 \u00ad-\u200b- ΟΔΟΣ",
            "北京是中国的首都。日本語とかな, 한국어 อักษรไทย",
            "I ❤️ it 🙂 👩‍👩‍👧 don't\x00stop\ufffd",
            "literal [CLS] [SEP] [UNK] " + "a" * 201 + " ##s",
            "Word, " * self.max_seq_length,
            "unbelievably" * 9 + " " + "film " * (3 * self.max_seq_length),
        ]

    def answers(self, samples: Iterable[str]) -> list[Batch]:
        """Batches of samples of like length through tokenizer, windows and the Keras model."""
        texts = sorted(samples, key=len)
        starts = range(0, len(texts), BATCH_SIZE)
        return [self._answer(texts[start : start + BATCH_SIZE]) for start in starts]

    def _answer(self, texts: list[str]) -> Batch:
        examples = []
        for text in texts:
            spans = tuple(word_spans(text, self.tokenizer))
            words = tuple(text[start:end] for start, end in spans)
            source = AnnotatedText(0, text, None, {})
            examples.append(TaggingExample(0, words, None, source, spans))
        settings = self.tokenizer, {}, self.max_seq_length, self.doc_stride
        rows = list(window_rows(examples, *settings))
        if not rows:  # texts without a word: the model still answers something to no piece
            rows = list(window_rows([TaggingExample(0, ("",), None)], *settings))
            windows = []
        else:
            windows = [window for _, window in rows]
        used = max(sum(row["input_mask"]) for row, _ in rows)
        features = {
            name: np.array([row[name][:used] for row, _ in rows], np.int32) for name in INPUTS
        }
        tensors = {name: tf.constant(features[name]) for name in FEATURES}
        outputs = self.model(tensors, training=False)
        logits = outputs["logits"].numpy()
        label_ids = self._label_ids(outputs, features["label_mask"]).numpy()
        labels = stitch(examples, windows, label_ids[: len(windows)], self.labels)
        places = _places(windows)
        words = label_ids[places[:, 0], places[:, 1]]
        found = [self._entities(*both) for both in zip(examples, labels, strict=True)]
        owners = [window.example for window in windows] or [0]
        sure = np.ones(len(texts), bool)
        np.logical_and.at(sure, owners, self._sure(logits, features["label_mask"]))
        return Batch(texts, features, logits, owners, places, words, found, sure)

    def _sure(self, logits: np.ndarray, label_mask: np.ndarray) -> np.ndarray:
        """Of each row whether no second label comes close, bool [R].

        How close another sequence of a CRF comes is not looked for: in float32 none is expected.
        """
        if self.use_crf:
            return np.full(len(logits), self.precision == "float32")
        best = np.sort(logits, axis=-1)[..., -2:]  # [R, F, 2]
        close = 2 * self.tolerance * np.maximum(1, abs(logits).max(axis=(1, 2)))[:, np.newaxis]
        apart = best[..., -1] - best[..., 0] > close
        return (apart | (label_mask == 0)).all(axis=1)

    def _entities(self, example: TaggingExample, labels: list[str]) -> list[Entity]:
        if self.tag_set.has_entities:
            return example.by_characters(labels)
        return [(label, *span) for label, span in zip(labels, example.spans, strict=True)]

    def features_cases(self, batch: Batch) -> Iterator[Case]:
        rows = [shown(batch.texts[owner]) for owner in batch.owners]
        for name in ("serving_default", "features"):
            yield Case(name, batch.features, {"logits": batch.logits}, rows)

    def check(self, case: Case, answers: Arrays) -> None:
        """Also: labels are those of the logits; which ones does not matter in a tie."""
        super().check(case, answers)
        if "logits" not in case.expected:
            return
        mask, outputs = case.inputs["label_mask"], {"logits": answers["logits"]}
        if self.use_crf:
            outputs = self.model.get_layer("crf")(outputs["logits"])
        ids = self._label_ids(outputs, mask).numpy()
        names = np.array([label.encode() for label in self.labels], object)
        labels = np.where(mask > 0, names[ids], b"")
        if (answers["label_ids"] != ids).any() or (answers["labels"] != labels).any():
            raise ExportError(
                f"labels of {case.rows} from {case.function}: {answers['label_ids'].tolist()}, "
                f"but {ids.tolist()} by the logits"
            )

    def text_cases(self, batch: Batch) -> Iterator[Case]:
        texts = np.array([text.encode() for text in batch.texts], object)
        names = np.array([shown(text) for text in batch.texts], object)
        everything = np.arange(len(texts))
        if len(batch.words):
            words = np.zeros_like(batch.features["input_ids"])
            words[batch.places[:, 0], batch.places[:, 1]] = np.arange(1, 1 + len(batch.words))
            used = np.unique(batch.places[:, 0])  # in a row of no word nothing is looked up
            expected = {name: x[used] for name, x in (batch.features | {"words": words}).items()}
            owners = np.array(batch.owners)[used]
            yield Case("read", {"text": texts}, expected, names[owners].tolist())
        given = {"text": texts, "ids": batch.words}
        yield Case("entities", given, self._found(batch, everything), names.tolist())
        for chosen in (everything[batch.sure], everything[~batch.sure]):
            if chosen.size:
                # Which of two equally good labels a word gets does not matter.
                expected = self._found(batch, chosen) if batch.sure[chosen[0]] else {}
                given = {"text": texts[chosen]}
                yield Case("serving_default", given, expected, names[chosen].tolist())
        yield from list(self.features_cases(batch))[1:]

    def _found(self, batch: Batch, chosen: np.ndarray) -> Arrays:
        """What `serving_default` of the text model answers to these texts of the batch."""
        shape = len(chosen), max(len(batch.entities[row]) for row in chosen)
        labels, texts = np.full(shape, b"", object), np.full(shape, b"", object)
        starts, ends = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
        for row, number in enumerate(chosen):
            for n, (kind, start, end) in enumerate(batch.entities[number]):
                text = batch.texts[number][start:end]
                labels[row, n], texts[row, n] = kind.encode(), text.encode()
                starts[row, n], ends[row, n] = start, end
        return {"labels": labels, "texts": texts, "starts": starts, "ends": ends}


def _places(windows: list[Window]) -> np.ndarray:
    """Row and position of each word, text by text: int32 [W, 2]."""
    place = {
        (window.example, word): (row, position)
        for row, window in enumerate(windows)
        for word, position in zip(window.words, window.positions, strict=True)
    }
    return np.array([place[word] for word in sorted(place)], np.int32).reshape(-1, 2)
