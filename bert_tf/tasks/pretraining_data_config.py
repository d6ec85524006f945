"""Flags of `create_pretraining_data.py`: google-research/bert's, and ours. Without TensorFlow."""

from __future__ import annotations

import dataclasses

from bert_tf import filesystem
from bert_tf.checkpoints import given
from bert_tf.data.corpora import INPUT_FORMATS, find_files
from bert_tf.data.pretraining_instances import SENTENCE_PAIRS, InstanceSettings
from bert_tf.data.text_files import check_encoding
from bert_tf.run_config import check_values, cli_flag, shared_flag

WORD_SEGMENTERS = ("jieba",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingDataConfig:
    """From a corpus to TFRecord files for run_pretraining.py."""

    input_file: str = cli_flag(
        None, "Texts: names or patterns, with commas in between; .gz is unpacked.", required=True
    )
    output_file: str = cli_flag(
        None,
        "TFRecord files, with commas in between; each gets the same share of the rows. What ends "
        "in .gz is compressed.",
        required=True,
    )
    vocab_file: str | None = cli_flag(None, "The vocabulary; this or --spm_model_file is needed.")
    spm_model_file: str | None = cli_flag(None, "The SentencePiece model, instead.")
    do_lower_case: bool = cli_flag(
        True, "Lower-case the text and drop accents: true for uncased models."
    )
    input_format: str = cli_flag(
        "google",
        "google: a sentence a line, an empty line between documents; text: plain text, an empty "
        'line between documents; jsonl: a document a line, {"text": "..."}.',
        choices=INPUT_FORMATS,
    )
    encoding: str | None = cli_flag(
        None, "The encoding of --input_file, such as cp1252 or gb18030; by default UTF-8."
    )
    max_seq_length: int = shared_flag("max_seq_length", help="Length of the rows, in word pieces.")
    max_predictions_per_seq: int = cli_flag(20, "Most masked pieces in a row.")
    random_seed: int = cli_flag(12345, "Seed of all that is drawn.")
    dupe_factor: int = cli_flag(10, "Times that the corpus is gone through, with other masks.")
    masked_lm_prob: float = cli_flag(0.15, "Share of the pieces that are masked.")
    short_seq_prob: float = cli_flag(0.1, "Share of the documents whose rows are short.")
    do_whole_word_mask: bool = cli_flag(False, "Mask all pieces of a word, or none.")
    word_segmenter: str | None = cli_flag(
        None,
        "With --do_whole_word_mask, for Chinese: what says which characters are a word (pip "
        "install bert_tf[chinese]).",
        choices=WORD_SEGMENTERS,
    )
    max_ngram: int = cli_flag(
        1, "Mask up to so many pieces (or words) in a row together, n of them as often as 1/n."
    )
    sentence_pairs: str = cli_flag(
        "next_sentence",
        "What the parts of a row are: a text and the next or a random one (BERT), two texts in "
        "their order or not (ALBERT), or one text alone (RoBERTa; run_pretraining.py "
        "--next_sentence=false).",
        choices=SENTENCE_PAIRS,
    )
    dynamic_masking: bool = cli_flag(
        False, "Leave the masks to run_pretraining.py --dynamic_masking; use --dupe_factor=1 then."
    )
    num_workers: int = cli_flag(
        1,
        "1: all documents in memory, the rows exactly Google's. More: as many processes, which go "
        "through the corpus part by part in bounded memory; the rows depend on seed and input "
        "alone.",
    )

    def __post_init__(self) -> None:
        check_values(self)
        for name in (*("max_predictions_per_seq", "dupe_factor", "max_ngram", "num_workers"),):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name}={getattr(self, name)}: give 1 or more")
        if self.max_seq_length < 5:
            raise ValueError(
                f"--max_seq_length={self.max_seq_length} leaves no room for two texts beside "
                "[CLS] and two [SEP]; give 5 or more"
            )
        for name, low, high in (("masked_lm_prob", 0, 1), ("short_seq_prob", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"--{name}={getattr(self, name)}: give a share from 0 to 1")
        if (self.vocab_file is None) == (self.spm_model_file is None):
            raise ValueError("give one of --vocab_file and --spm_model_file")
        if self.word_segmenter and not self.do_whole_word_mask:
            raise ValueError(
                f"--word_segmenter={self.word_segmenter} finds the words that "
                "--do_whole_word_mask=true masks; give both"
            )
        check_encoding(self.encoding, by_line=True)
        files = self.output_files()
        if not all(files) or len(set(files)) < len(files):
            raise ValueError(f"--output_file={self.output_file}: a name is empty or there twice")

    def check_inputs(self) -> None:
        """Check the files that the flags name. Raises ValueError."""
        given.check(self)
        if not any(map(filesystem.is_remote, self.input_file.split(","))):
            find_files(self.input_file, "input_file")

    def output_files(self) -> list[str]:
        """The names in --output_file."""
        return self.output_file.split(",")

    def instance_settings(self) -> InstanceSettings:
        """How documents become rows."""
        return InstanceSettings(
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(InstanceSettings)}
        )
