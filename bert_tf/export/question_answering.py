"""Question answering as SavedModel signatures.

`features` and `examples` take Google's features and answer with `start_logits` and `end_logits`,
float32 [B, F]. The text model's `serving_default` takes `question` and `context`, strings [B]; a
long context is cut into windows in the graph. It answers with

    answer      string [B], a part of the context, "" for none
    start, end  int32 [B], its characters: start to end - 1; both 0 for none
    score       float32 [B], start logit + end logit of the best span; 0 where there is no span
    null_odds   float32 [B], the score of no answer less `score`, 1000000 where there is no span;
                above the threshold the answer is none. Only if questions may have no answer.

The best span of all windows starts in the window that shows its first piece in most context, and
has at most `max_answer_length` pieces.

B batch, W windows of the batch, F from-length, A max_answer_length.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bert_tf import heads
from bert_tf.config import BertConfig
from bert_tf.data.squad_files import Passage, Question
from bert_tf.data.squad_windows import Windows, WindowSettings, build
from bert_tf.export.features import (
    FEATURES,
    FeaturesModule,
    Tensors,
    inference_copy,
    serialize_examples,
)
from bert_tf.export.finetuned import FineTuned
from bert_tf.export.servable import Arrays, Case, Model, Servable
from bert_tf.export.text import TextModule, shown
from bert_tf.graph_offsets import cut
from bert_tf.graph_sentencepiece_offsets import check_offsets, offset_tokenizer
from bert_tf.graph_windows import Windows as GraphWindows
from bert_tf.graph_windows import pack_question_windows
from bert_tf.tokenization import Tokenizer

LOGITS = ("start_logits", "end_logits")
NO_SPAN = 1000000.0  # null odds where there is no other answer, as in null_odds.json
BATCH_SIZE = 8
# Scores nearer to each other than so many tolerances may change places in another order of sums.
_CLOSE = 10

Sample = tuple[str, str]  # question, context


class Batch(NamedTuple):
    """Samples and what Python makes of them."""

    samples: list[Sample]
    owners: list[int]  # of each window the sample
    features: Arrays  # FEATURES, int32 [W, F]
    logits: Arrays  # LOGITS, float32 [W, F]
    answers: Arrays  # the outputs of the text model, [B]
    sure: np.ndarray  # whether no other answer comes close, bool [B]


class QuestionAnswering(Servable):
    """A model of `heads.span`, trained under any tf.distribute strategy.

    Args:
      windows: how contexts are cut.
      max_answer_length: in pieces.
      threshold: of the null odds; None if every question has an answer.

    Raises: ValueError for a tokenizer whose graph form does not know characters.
    """

    task_type = "question_answering"
    use = "Finds the answer to a question in a text."
    reads_whole_texts = True
    labels: list[str] = []
    example = ("Who wrote the letter?", "On Monday Maria wrote a letter to her sister.")

    def __init__(
        self,
        model: keras.Model,
        config: BertConfig,
        tokenizer: Tokenizer,
        windows: WindowSettings,
        max_answer_length: int = 30,
        threshold: float | None = None,
        precision: str = "float32",
    ):
        super().__init__(config, tokenizer, windows.max_seq_length)
        check_offsets(tokenizer)
        self.windows, self.max_answer_length = windows, max_answer_length
        self.threshold, self.precision = threshold, precision
        what = "one for question answering, of this config"
        self.model = inference_copy(model, lambda: heads.span(config), what, precision)

    @classmethod
    def from_checkpoint(cls, source: FineTuned) -> "QuestionAnswering":
        """The model in a checkpoint; Google's settings where its task.json does not name others."""
        task = source.task
        names = ("doc_stride", "max_query_length")
        given = {name: task[name] for name in names if name in task}
        threshold = task.get("null_score_diff_threshold", 0.0)
        return cls(
            source.load(heads.span(source.config)),
            source.config,
            source.tokenizer,
            WindowSettings(source.max_seq_length, **given),
            task.get("max_answer_length", 30),
            threshold if task.get("version_2_with_negative") else None,
        )

    def in_bfloat16(self) -> "QuestionAnswering":
        settings = self.windows, self.max_answer_length, self.threshold
        return QuestionAnswering(self.model, self.config, self.tokenizer, *settings, "bfloat16")

    # ----------------------------------------------------------------------------- the graphs

    def features_model(self) -> Model:
        module = FeaturesModule(self.model, lambda outputs: {n: outputs[n] for n in LOGITS})
        both = {"serving_default": module.features, "features": module.features}
        return Model(module, both | {"examples": module.examples})

    def text_model(self, features: Model) -> Model:
        """`serving_default`; `tokenize`, no signature, gives the rows of the windows."""
        offsets = offset_tokenizer(self.tokenizer)
        module = TextModule(features, self.tokenizer, offsets)
        texts = [tf.TensorSpec([None], tf.string, name) for name in ("question", "context")]

        @tf.function(autograph=False, input_signature=texts)
        def tokenize(question, context):
            ids, _, _ = offsets.tokenize_with_offsets(context)
            windows = self._pack(offsets.tokenize_with_offsets(question)[0], ids)
            return {name: getattr(windows, name) for name in FEATURES}

        @tf.function(autograph=False, input_signature=texts)
        def answer(question, context):
            ids, starts, ends = offsets.tokenize_with_offsets(context)
            windows = self._pack(offsets.tokenize_with_offsets(question)[0], ids)
            return self._graph_answers(windows, context, starts, ends)

        module.tokenize, module.answer = tokenize, answer
        return Model(module, features.signatures | {"serving_default": answer})

    def _pack(self, question: tf.RaggedTensor, context: tf.RaggedTensor) -> GraphWindows:
        return pack_question_windows(
            question,
            context,
            cls_id=self.tokenizer.cls_token_id,
            sep_id=self.tokenizer.sep_token_id,
            max_seq_length=self.max_seq_length,
            doc_stride=self.windows.doc_stride,
            max_query_length=self.windows.max_query_length,
        )

    def _graph_answers(
        self,
        windows: GraphWindows,
        context: tf.Tensor,
        starts: tf.RaggedTensor,
        ends: tf.RaggedTensor,
    ) -> Tensors:
        """Windows of contexts [B], whose pieces have these spans -> what the module lists."""
        count = tf.size(context)
        size = tf.maximum(count, 1)  # without contexts there still is a window, of none
        windows = _at_least_one(windows)
        logits = self.model({n: getattr(windows, n) for n in FEATURES}, training=False)
        scores, first, last = self._best_of_windows(windows, logits)
        best = tf.math.unsorted_segment_max(scores, windows.examples, size)  # [B]
        has_span = best > scores.dtype.min
        number = tf.range(tf.size(scores))
        reached = scores == tf.gather(best, windows.examples)
        chosen = tf.where(reached, number, number.dtype.max)
        chosen = tf.math.unsorted_segment_min(chosen, windows.examples, size)
        chosen = tf.where(has_span, chosen, 0)[:count]
        best, has_span = best[:count], has_span[:count]
        start, end = _characters(tf.gather(first, chosen), tf.gather(last, chosen), starts, ends)
        answered, answers = has_span, {"score": tf.where(has_span, best, 0.0)}
        if self.threshold is not None:
            nulls = logits["start_logits"][:, 0] + logits["end_logits"][:, 0]
            null = tf.math.unsorted_segment_min(nulls, windows.examples, size)[:count]
            odds = tf.where(has_span, null - best, NO_SPAN)
            answered &= odds <= self.threshold
            answers["null_odds"] = odds
        start, end = (tf.where(answered, place, 0) for place in (start, end))
        text = cut(tf.where(answered, context, " "), start, end)  # a blank, to cut nothing out of
        return answers | {"answer": text, "start": start, "end": end}

    def _best_of_windows(self, windows: GraphWindows, logits: Tensors) -> tuple[tf.Tensor, ...]:
        """The best span of each window: score float32 [W], first and last piece int32 [W]."""
        start, end = (logits[name] for name in LOGITS)
        length, room = tf.shape(start)[1], self.max_answer_length
        lowest = start.dtype.min / 4  # two of them still are a number
        in_window = tf.sequence_mask(windows.columns + windows.lengths, length)
        start = tf.where(windows.is_max_context, start, lowest)
        end = tf.where(in_window, end, lowest)  # before the window there is no start either
        end = tf.pad(end, [[0, 0], [0, room - 1]], constant_values=lowest)
        places = tf.range(length)[:, None] + tf.range(room)  # [F, A]
        scores = start[:, :, None] + tf.gather(end, places, axis=1)  # [W, F, A]
        scores = tf.reshape(scores, [tf.shape(start)[0], length * room])
        best = tf.argmax(scores, axis=1, output_type=tf.int32)
        score = tf.reduce_max(scores, axis=1)
        first = windows.starts + best // room - windows.columns
        score = tf.where(score > lowest / 2, score, score.dtype.min)
        return score, first, first + best % room

    # ------------------------------------------------------------------------- what Python says

    def tricky_samples(self) -> list[Sample]:
        """Contexts of several windows, of none, and with characters that rules change."""
        long = " ".join(f"{i} words in a long text, and Thé café" for i in range(99))
        return [
            ("", ""),
            ("Nothing?", " \t\n\u3000"),
            (
                "Where is the café?",
                "The Thé naïve café, ÀÉÎÕÜ; I\u0307stanbul e\u0301 \u00ad-\u200b-",
            ),
            ("首都?", "北京是中国的首都。日本語とかな, 한국어 อักษรไทย"),
            ("I ❤️ it 🙂?", "literal [CLS] [SEP] 👩‍👩‍👧 don't\x00stop\ufffd " + "a" * 201),
            ("What is long? " * 50, long[: 12 * self.max_seq_length]),
            ("?", long[: 9 * self.max_seq_length]),
        ]

    def answers(self, samples: Iterable[Sample]) -> list[Batch]:
        """Batches of samples through tokenizer, windows, the Keras model, and a plain search."""
        samples = sorted(samples, key=lambda sample: len(sample[1]))
        starts = range(0, len(samples), BATCH_SIZE)
        return [self._batch(samples[start : start + BATCH_SIZE]) for start in starts]

    def _batch(self, samples: list[Sample]) -> Batch:
        questions = [Question("", q, Passage("", c), (), None) for q, c in samples]
        windows = build(questions, self.tokenizer, self.windows)
        rows = list(windows.rows())
        owners = [n for n in range(len(samples)) for _ in windows.of_question(n)]
        longest = max((sum(row["input_mask"]) for row in rows), default=0)
        features = {
            name: np.array([row[name][:longest] for row in rows], np.int32).reshape(-1, longest)
            for name in FEATURES
        }
        logits = {name: np.zeros((0, longest), np.float32) for name in LOGITS}
        if rows:
            outputs = self.model({k: tf.constant(v) for k, v in features.items()}, training=False)
            logits = {name: outputs[name].numpy() for name in LOGITS}
        found = [self._answer(windows, n, *logits.values()) for n in range(len(samples))]
        made = {name: np.array([row[name] for row, _ in found], kind) for name, kind in self._types}
        return Batch(samples, owners, features, logits, made, np.array([sure for _, sure in found]))

    @property
    def _types(self) -> list[tuple[str, type]]:
        odds = [] if self.threshold is None else [("null_odds", np.float32)]
        texts = [("answer", object), ("start", np.int32), ("end", np.int32)]
        return [("score", np.float32), *odds, *texts]

    def _answer(
        self, windows: Windows, number: int, start: np.ndarray, end: np.ndarray
    ) -> tuple[dict, bool]:
        """The outputs of one question, by trying every span; and whether no other comes close."""
        spans, passage = [], windows.passages[number]
        nothing = {"answer": b"", "start": 0, "end": 0}
        numbers, offset = windows.of_question(number), windows.offset(number)
        bounds, contexts = windows.bounds(number), windows.max_context(number)
        for row, (begin, length), allowed in zip(numbers, bounds, contexts, strict=True):
            for i in np.flatnonzero(allowed):
                for j in range(i, min(i + self.max_answer_length, length)):
                    score = float(start[row, offset + i]) + float(end[row, offset + j])
                    spans.append((score, begin + i, begin + j))
        if not spans:
            return nothing | {"score": 0.0, "null_odds": NO_SPAN}, True
        spans.sort(reverse=True)
        score, first, last = spans[0]
        close = _CLOSE * self.tolerance * max(1.0, abs(score))
        sure = len(spans) < 2 or score - spans[1][0] > close
        odds = min(float(start[row, 0]) + float(end[row, 0]) for row in numbers) - score
        outputs = {"score": score, "null_odds": odds}
        if self.threshold is not None:
            sure = sure and abs(odds - self.threshold) > close
            if odds > self.threshold:
                return nothing | outputs, sure
        begin, stop = int(passage.starts[first]), int(passage.ends[last])
        text = passage.text[begin:stop].encode()
        return outputs | {"answer": text, "start": begin, "end": stop}, sure

    def features_cases(self, batch: Batch) -> Iterator[Case]:
        if batch.owners:
            rows = self._window_names(batch)
            yield Case("serving_default", batch.features, batch.logits, rows)
            yield from self._shared_cases(batch)

    def _shared_cases(self, batch: Batch) -> Iterator[Case]:
        rows, serialized = self._window_names(batch), serialize_examples(batch.features)
        yield Case("features", batch.features, batch.logits, rows)
        yield Case("examples", {"examples": serialized}, batch.logits, rows)

    def _window_names(self, batch: Batch) -> list[str]:
        return [shown(*batch.samples[owner]) for owner in batch.owners]

    def text_cases(self, batch: Batch) -> Iterator[Case]:
        columns = zip(*batch.samples, strict=True)
        encoded = [np.array([text.encode() for text in column], object) for column in columns]
        texts = dict(zip(("question", "context"), encoded, strict=True))
        yield Case("tokenize", texts, batch.features, self._window_names(batch))
        # Which of two equal spans is the answer does not matter: of those only the scores.
        for rows, names in (
            (np.flatnonzero(batch.sure), list(batch.answers)),
            (np.flatnonzero(~batch.sure), ["score"]),
        ):
            if rows.size:
                inputs = {name: values[rows] for name, values in texts.items()}
                expected = {name: batch.answers[name][rows] for name in names}
                shorts = [shown(*batch.samples[row]) for row in rows]
                yield Case("serving_default", inputs, expected, shorts)
        if batch.owners:
            yield from self._shared_cases(batch)


def _at_least_one(windows: GraphWindows) -> GraphWindows:
    """The same, or where there is none one without pieces: a model needs a row."""
    rows, length = tf.unstack(tf.shape(windows.input_ids))
    more = [[0, tf.cast(rows == 0, tf.int32)], [0, tf.cast(length == 0, tf.int32)]]
    return GraphWindows(*(tf.pad(x, more[: x.shape.rank]) for x in windows))


def _characters(
    first: tf.Tensor, last: tf.Tensor, starts: tf.RaggedTensor, ends: tf.RaggedTensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """First and last pieces [B] -> their characters: start and end, int32 [B].

    Accents in unusual order can make a piece begin before the one in front of it, or end behind
    the next one: the span has all of them, as `PassagePieces` says.
    """
    most = tf.int32.max
    starts, ends = starts.to_tensor(most), ends.to_tensor(0)  # [B, T]
    piece = tf.range(tf.shape(starts)[1])
    starts = tf.where(piece >= first[:, None], starts, most)
    ends = tf.where(piece <= last[:, None], ends, 0)
    return tf.reduce_min(starts, axis=1), tf.reduce_max(ends, axis=1)
