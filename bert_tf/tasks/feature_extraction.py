"""Vectors of the tokens or sentences of a file: what `extract_features.py` does, importable.

Lines are read, computed and written a window at a time, so that memory does not grow with the
file. Within a window batches are made of lines of like length; the output keeps the file's order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tf import checkpoints, distribution, filesystem, progress
from bert_tf.batching import EXACT_ROWS, Arrays, exact_length, pad_rows
from bert_tf.data import sentence_lines
from bert_tf.data.text_files import BadRow
from bert_tf.modeling import BertModel
from bert_tf.packing import pack, packed_length
from bert_tf.pooling import POOLINGS
from bert_tf.tasks import pretrained, vector_files
from bert_tf.tasks.feature_extraction_config import NO_POOLING, POOLED, FeatureExtractionConfig

_WINDOW_BYTES = 32 << 20  # of vectors, at most; and of lines:
_WINDOW_BATCHES = 64


class Line(NamedTuple):
    """A line as the model reads it, without padding."""

    number: int  # from 0
    input_ids: list[int]
    segment_ids: list[int]
    end: int  # bytes of the file up to the next line


def run(config: FeatureExtractionConfig) -> dict[str, int]:
    """Writes the vectors of every line.

    Returns:
      `lines`, and how many of them were `truncated` and `empty`.

    Raises:
      ValueError: flags, file or checkpoint that do not fit together; the message says how to mend
        it.
    """
    return FeatureExtractor(config).run()


class FeatureExtractor:
    """One pass over a file."""

    def __init__(self, config: FeatureExtractionConfig):
        self.config = config
        if not filesystem.is_file(config.input_file):
            raise ValueError(f"--input_file={config.input_file}: there is no such file")
        if not filesystem.size(config.input_file):
            raise ValueError(f"--input_file={config.input_file}: the file is empty")
        read = (config.input_file, config.init_checkpoint, config.bert_config_file)
        read += (config.vocab_file, config.spm_model_file)
        filesystem.refuse_overwriting("output_file", [config.output_file], filter(None, read))
        filesystem.make_dir(os.path.dirname(config.output_file) or ".")
        if filesystem.is_file(config.output_file):
            print(f"Note: --output_file={config.output_file} is there and is replaced.", flush=True)
        source = config.init_checkpoint
        self.bert_config, self.tokenizer = pretrained.architecture(config, source)
        self.states = config.states(self.bert_config.num_hidden_layers)
        self.by_token = config.pooling == NO_POOLING
        self.strategy = distribution.create_strategy(config)
        self.replicas = distribution.Replicas.of(self.strategy)
        print(distribution.describe(self.strategy, config), flush=True)
        self._one_device = self.replicas.count == 1 and not config.use_tpu
        # Shapes that never change suit compilers and several devices.
        self._static = config.pad_to_max_seq_length or not self._one_device
        with self.strategy.scope(), distribution.precision_policy(config.precision):
            self.model = BertModel(
                self.bert_config,
                add_pooler=config.pooling == POOLED,
                use_one_hot_embeddings=config.use_one_hot_embeddings,
            )
            self.model.build()
        report = checkpoints.load(self.model, source)
        print(report, flush=True)
        if report.lacking:
            raise ValueError(f"{source} has no pooler for --pooling={POOLED}; use another one")
        self._check_lines()
        ids = tf.TensorSpec([None, None], tf.int32)
        names = ("input_ids", "input_mask", "segment_ids")
        signature = [[dict.fromkeys(names, ids)]] if self._one_device else None
        self._step = tf.function(self._forward_step, input_signature=signature, autograph=False)
        self._truncated = self._empty = 0

    def run(self) -> dict[str, int]:
        config, size, names = self.config, self._size(), [name for name, _ in self.states]
        opened = vector_files.writer(
            config.output_file, config.output_format, names, self.by_token, size
        )
        bytes_read = progress.bar(
            total=filesystem.size(config.input_file), desc="extract", unit="B", unit_scale=True
        )
        lines = self._truncated = self._empty = 0
        written: Future[None] | None = None
        with opened as writer, bytes_read as bar, ThreadPoolExecutor(1) as thread:
            for window in self._windows(size * len(names) * np.dtype(np.float32).itemsize):
                vectors = self._vectors(window)
                if written:
                    written.result()
                # One window is written while the next is computed.
                written = thread.submit(self._write, writer, window, vectors)
                lines += len(window)
                bar.set_postfix(lines=lines, refresh=False)
                bar.update(window[-1].end - bar.n)
            if written:
                written.result()
        print(
            f"{config.output_file}: {lines} lines, {self._truncated} truncated to "
            f"{config.max_seq_length} pieces, {self._empty} empty ([CLS] and [SEP] only)",
            flush=True,
        )
        return {"lines": lines, "truncated": self._truncated, "empty": self._empty}

    def _write(
        self, writer: vector_files.VectorWriter, window: list[Line], vectors: list[np.ndarray]
    ) -> None:
        for line, vector in zip(window, vectors, strict=True):
            tokens = self.tokenizer.convert_ids_to_tokens(line.input_ids)
            writer.write(line.number, tokens, vector)
        writer.flush()

    # -------------------------------------------------------------------------------- lines

    def _check_lines(self) -> None:
        """Read the file once before anything is computed, so that a bad line loses no work."""
        config = self.config
        for number, _, text_b, _ in sentence_lines.read(config.input_file, config.encoding):
            if text_b is not None and self.bert_config.type_vocab_size < 2:
                raise BadRow(
                    config.input_file,
                    number + 1,
                    "a pair, but this model has one segment type (type_vocab_size=1) and cannot "
                    "tell its texts apart; give single sentences",
                )

    def _lines(self) -> Iterator[Line]:
        config, tokenizer = self.config, self.tokenizer
        for number, text_a, text_b, end in sentence_lines.read(config.input_file, config.encoding):
            ids_a, ids_b = tokenizer.encode(text_a), tokenizer.encode(text_b or "")
            special = {"cls_id": tokenizer.cls_token_id, "sep_id": tokenizer.sep_token_id}
            ids, segments = pack(ids_a, ids_b, max_seq_length=config.max_seq_length, **special)
            self._truncated += packed_length(len(ids_a), len(ids_b)) > config.max_seq_length
            self._empty += len(ids) == 2
            yield Line(number, ids, segments, end)

    def _windows(self, vector_bytes: int) -> Iterator[list[Line]]:
        """Whole batches of lines whose vectors fit into memory; `vector_bytes` for each."""
        window: list[Line] = []
        vectors = 0
        for line in self._lines():
            window.append(line)
            vectors += len(line.input_ids) if self.by_token else 1
            batches, rest = divmod(len(window), self.config.batch_size)
            full = batches >= _WINDOW_BATCHES or vectors * vector_bytes >= _WINDOW_BYTES
            if full and not rest:
                yield window
                window, vectors = [], 0
        if window:
            yield window

    # -------------------------------------------------------------------------------- model

    def _vectors(self, window: list[Line]) -> list[np.ndarray]:
        """float32 of each line: [tokens, L, E], or [L, E] if pooled."""
        order = list(range(len(window)))
        if not self._static:
            order.sort(key=lambda place: len(window[place].input_ids))
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(order), self.config.batch_size):
            places = order[start : start + self.config.batch_size]
            batch = self._batch([window[place] for place in places])
            vectors = self._forward(batch)
            for row, place in enumerate(places):
                length = len(window[place].input_ids)
                found[place] = vectors[row, :length] if self.by_token else vectors[row]
        return [found[place] for place in range(len(window))]

    def _batch(self, lines: list[Line]) -> Arrays:
        limit = self.config.max_seq_length
        length = exact_length(max(len(line.input_ids) for line in lines), limit)
        shape = (len(lines), limit if self._static else length)
        names = ("input_ids", "input_mask", "segment_ids")
        batch = {name: np.zeros(shape, np.int32) for name in names}
        for row, line in enumerate(lines):
            used = len(line.input_ids)
            batch["input_ids"][row, :used] = line.input_ids
            batch["input_mask"][row, :used] = 1
            batch["segment_ids"][row, :used] = line.segment_ids
        return batch

    def _forward(self, batch: Arrays) -> np.ndarray:
        """[B, F] -> float32 [B, F, L, E], or [B, L, E] if pooled."""
        rows, count = len(batch["input_ids"]), self.replicas.count
        whole = -(-self.config.batch_size // count) * count
        batch = pad_rows(batch, EXACT_ROWS if self._one_device else whole)
        return self._step(self.replicas.split(batch))["vectors"].numpy()[:rows]

    def _forward_step(self, parts: list[dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        return self.replicas.first(self.replicas.run(self._replica_step, parts))

    def _replica_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        outputs = self.model(batch)
        if self.config.pooling == POOLED:
            each = [tf.cast(outputs["pooled_output"], tf.float32)]
        else:
            states = [outputs["embedding_output"], *outputs["encoder_outputs"]]
            each = [self._combine([states[i] for i in used]) for _, used in self.states]
            if not self.by_token:
                pooling = POOLINGS[self.config.pooling]
                each = [pooling(vector, batch["input_mask"]) for vector in each]
        vectors = tf.stack(each, -2)
        if self.config.normalize:
            vectors = tf.math.l2_normalize(vectors, -1)
        return self.replicas.all_gather({"vectors": vectors})

    def _combine(self, states: list[tf.Tensor]) -> tf.Tensor:
        """One float32 of several hidden states, each [B, F, E]: their sum, or all of them."""
        states = [tf.cast(state, tf.float32) for state in states]
        if not self.config.sums:
            return tf.concat(states, -1)
        weights = self.config.weights() or [1.0] * len(states)
        return tf.add_n([weight * state for weight, state in zip(weights, states, strict=True)])

    def _size(self) -> int:
        """The size of a vector, E."""
        size = self.bert_config.hidden_size * (2 if self.config.pooling == "mean_max" else 1)
        return size if self.config.sums else size * len(self.states[0][1])
