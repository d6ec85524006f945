"""What `create_pretraining_data.py` does, importable. Without TensorFlow.

With one worker all documents are in memory and the rows are those of google-research/bert's
program; they wait on disk until they are shuffled. With more workers the corpus is cut into blocks
of whole documents, whose rows depend on the seed and the block's number.
"""

from __future__ import annotations

import array
import dataclasses
import functools
import mmap
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence

from absl import logging

from bert_tf import filesystem, progress
from bert_tf.data.corpora import Corpus, Sentences, find_files
from bert_tf.data.example_bytes import RowEncoder
from bert_tf.data.pretraining_instances import Document, Instance, InstanceMaker
from bert_tf.data.record_writer import open_records
from bert_tf.data.word_segmentation import create_segmenter
from bert_tf.parallel import ordered_map
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig
from bert_tf.tokenization import Tokenizer, create_tokenizer

BLOCK = 2_000_000  # characters of text in a block, about: with ten copies some 50 MB of rows
_LEAST = 2  # documents in a block, so that a random next sentence is another document's


@dataclasses.dataclass
class Counts:
    """What was read and made.

    Attributes:
      documents, sentences, pieces: that rows are made of; those without a piece are left out.
      rows: written.
      masked: pieces in them.
      too_short: sentences of one piece, which cannot be cut into two texts.
      documents_cut: how many times a document was cut because it is longer than a block.
    """

    documents: int = 0
    sentences: int = 0
    pieces: int = 0
    rows: int = 0
    masked: int = 0
    too_short: int = 0
    documents_cut: int = 0

    def add(self, other: Counts) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def run(config: PretrainingDataConfig) -> Counts:
    """Writes the files that the flags ask for.

    Raises:
      ValueError: flags or files that do not fit; a bad line is named by file and number.
      OSError: naming a file that cannot be written; nothing is left behind then.
    """
    files = find_files(config.input_file, "input_file")
    tokenizer_file = config.vocab_file or config.spm_model_file or ""
    filesystem.refuse_overwriting("output_file", config.output_files(), [*files, tokenizer_file])
    for path in config.output_files():
        folder = os.path.dirname(path)
        if folder:
            filesystem.make_dir(folder)
    corpus = Corpus(files, config.input_format, config.encoding)
    corpus.check()
    make = _one_by_one if config.num_workers == 1 else _in_blocks
    with open_records(config.output_files()) as writer:
        counts = Counts()
        for data in make(config, corpus, counts):
            writer.write(data)
        if not writer.count:
            raise ValueError(
                f"--input_file={config.input_file}: no text in "
                f"{len(corpus.files)} files ({corpus.lines} lines)"
            )
        counts.rows = writer.count
    _report(config, corpus, counts)
    return counts


def _report(config: PretrainingDataConfig, corpus: Corpus, counts: Counts) -> None:
    numbers = ", ".join(
        f"{n} {name.replace('_', ' ')}" for name, n in dataclasses.asdict(counts).items() if n
    )
    print(f"{len(corpus.files)} files, {corpus.lines} lines: {numbers}", flush=True)
    if warning := corpus.warning():
        logging.warning("%s", warning)
    if counts.documents == 1 and config.sentence_pairs == "next_sentence":
        logging.warning(
            "There is one document only, so that random next sentences are its own. Separate "
            "documents by empty lines, or use --sentence_pairs=none."
        )
    for path in config.output_files():
        print(path, flush=True)


class _Worker:
    """Turns sentences into pieces, and documents into the bytes of rows."""

    def __init__(self, config: PretrainingDataConfig):
        self.config = config
        self.tokenizer: Tokenizer = create_tokenizer(
            vocab_file=config.vocab_file,
            spm_model_file=config.spm_model_file,
            do_lower_case=config.do_lower_case,
        )
        self._encode: Callable[[str], list[int]] = self.tokenizer.encode
        if config.word_segmenter:
            self._encode = create_segmenter(config.word_segmenter, self.tokenizer)
        self._row = RowEncoder(
            _lengths(config), max(self.tokenizer.num_tokens, config.max_seq_length + 1)
        )

    def document(self, sentences: Sentences) -> Document:
        """Pieces of the sentences that have any."""
        pieces = [ids for sentence in sentences if (ids := self._encode(sentence))]
        if self.config.input_format == "google":
            return pieces
        # Sentences that fill more than a row would lose their rest.
        most = self.config.instance_settings().max_num_tokens
        return [ids[i : i + most] for ids in pieces for i in range(0, len(ids), most)]

    def maker(self, rng: random.Random) -> InstanceMaker:
        """What makes rows with this generator."""
        settings = self.config.instance_settings()
        return InstanceMaker(self.tokenizer, settings, rng, bool(self.config.word_segmenter))

    def encoded(self, instance: Instance) -> bytes:
        """A row as the bytes of a tf.Example."""
        ids, length_a, label, positions, labels, units = instance
        segments = bytes(length_a) + b"\1" * (len(ids) - length_a)
        return self._row(
            {
                "input_ids": ids,
                "input_mask": b"\1" * len(ids),
                "segment_ids": segments,
                "masking_units": units,
                "masked_lm_positions": positions,
                "masked_lm_ids": labels,
                "masked_lm_weights": positions,
                "next_sentence_labels": bytes([label]),
            }
        )


def _lengths(config: PretrainingDataConfig) -> dict[str, int]:
    """The features of a row, as `records.pretraining_spec` has them."""
    row, masked = config.max_seq_length, config.max_predictions_per_seq
    lengths = dict.fromkeys(("input_ids", "input_mask", "segment_ids"), row)
    if config.dynamic_masking:
        lengths["masking_units"] = row
    else:
        names = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
        lengths |= dict.fromkeys(names, masked)
    return lengths | {"next_sentence_labels": 1}


# ------------------------------------------------------------------------------- one worker


def _one_by_one(config: PretrainingDataConfig, corpus: Corpus, counts: Counts) -> Iterator[bytes]:
    """Google's rows, in Google's order."""
    worker, rng = _Worker(config), random.Random(config.random_seed)
    documents = []
    for sentences in progress.bar(corpus.documents(), "read", unit="document"):
        if document := worker.document(sentences):
            _count(counts, document)
            documents.append(document)
    rng.shuffle(documents)
    maker = worker.maker(rng)
    with tempfile.TemporaryFile(dir=_spool_folder(config)) as spool:
        ends = array.array("Q", [0])
        for _ in range(config.dupe_factor):
            for index in progress.bar(range(len(documents)), "rows", unit="document"):
                for instance in maker.of_document(documents, index):
                    data = worker.encoded(instance)
                    counts.masked += len(instance.positions)
                    spool.write(data)
                    ends.append(ends[-1] + len(data))
        counts.too_short = maker.dropped
        order = list(range(len(ends) - 1))
        rng.shuffle(order)
        spool.flush()
        if order:
            with mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ) as rows:
                for i in order:
                    yield rows[ends[i] : ends[i + 1]]


def _spool_folder(config: PretrainingDataConfig) -> str | None:
    """Where there is room for the rows: beside the output, if that is on this machine."""
    path = config.output_files()[0]
    return None if filesystem.is_remote(path) else os.path.dirname(path) or "."


def _count(counts: Counts, document: Document) -> None:
    counts.documents += 1
    counts.sentences += len(document)
    counts.pieces += sum(map(len, document))


# --------------------------------------------------------------------------------- more workers


def _in_blocks(config: PretrainingDataConfig, corpus: Corpus, counts: Counts) -> Iterator[bytes]:
    """The rows of one block after another, made by several processes."""
    _Worker(config).maker(random.Random())  # whose errors are told here, not by a process
    numbered = enumerate(blocks(corpus.documents(), counts))
    bar = progress.bar(numbered, "blocks", unit="block")
    for rows, made in ordered_map(_rows_of_block, bar, config.num_workers, _start, (config,)):
        counts.add(made)
        yield from rows


def blocks(documents: Iterable[Sentences], counts: Counts) -> Iterator[list[Sentences]]:
    """Documents in groups of about `BLOCK` characters, of two documents at least.

    A document that is longer is taken for several, and counted.
    """
    block: list[Sentences] = []
    size, ready = 0, None
    for document in _parts(documents, counts):
        block.append(document)
        size += sum(map(len, document))
        if size >= BLOCK and len(block) >= _LEAST:
            if ready is not None:
                yield ready
            ready, block, size = block, [], 0
    if ready is not None and len(block) < _LEAST:  # what is left over goes to the last one
        ready, block = ready + block, []
    yield from (part for part in (ready, block) if part)


def _parts(documents: Iterable[Sentences], counts: Counts) -> Iterator[Sentences]:
    for document in documents:
        part: Sentences = []
        size = 0
        for sentence in document:
            if size >= BLOCK:
                counts.documents_cut += 1
                yield part
                part, size = [], 0
            part.append(sentence)
            size += len(sentence)
        yield part


_worker: Callable[[], _Worker]


def _start(config: PretrainingDataConfig) -> None:
    """Makes this process's worker."""
    global _worker
    _worker = functools.cache(lambda: _Worker(config))


def _rows_of_block(numbered: tuple[int, Sequence[Sentences]]) -> tuple[list[bytes], Counts]:
    """The rows of a block, shuffled, and their counts."""
    (number, block), worker, counts = numbered, _worker(), Counts()
    rng = random.Random(f"{worker.config.random_seed}/{number}")
    documents = []
    for sentences in block:
        if document := worker.document(sentences):
            _count(counts, document)
            documents.append(document)
    maker, rows = worker.maker(rng), []
    for _ in range(worker.config.dupe_factor):
        for index in range(len(documents)):
            for instance in maker.of_document(documents, index):
                counts.masked += len(instance.positions)
                rows.append(worker.encoded(instance))
    counts.too_short = maker.dropped
    rng.shuffle(rows)
    return rows, counts
