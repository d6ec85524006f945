"""What BERT says of a text: the words behind its [MASK]s, and how likely the text is.

    python -m bert_tf.fill_mask --checkpoint=uncased_L-12_H-768_A-12 "Paris is in [MASK]."
    python -m bert_tf.fill_mask --checkpoint=uncased_L-12_H-768_A-12 --score "It are." "It is."

The second is the pseudo-log-likelihood: every piece is masked in turn, and the logarithms of their
probabilities, in nats, are summed (Salazar et al., 2020). F positions, M masks, V pieces.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bert_tf import checkpoints, cli
from bert_tf.checkpoints.names import DECODER
from bert_tf.tokenization import Tokenizer, create_tokenizer

if TYPE_CHECKING:
    import keras


TOP_K = 5
_ROWS = 32  # of masked copies, computed together


class Candidate(NamedTuple):
    """A piece that may stand behind a mask."""

    token: str
    probability: float


class MaskFiller:
    """A model with a head for masked words; texts say "[MASK]".

    Args:
      model: one of `heads.pretraining`, not packed.
      tokenizer: it must know a [MASK].
      max_seq_length: longer texts are refused.

    Raises:
      ValueError: the vocabulary has no [MASK].
    """

    def __init__(self, model: keras.Model, tokenizer: Tokenizer, max_seq_length: int):
        self.model, self.max_seq_length = model, max_seq_length
        self.tokenizer, self.mask_id = keeping_masks(tokenizer)
        self._words = np.array(sorted(self.tokenizer.inv_vocab))

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str]) -> MaskFiller:
        """Of a checkpoint of any format. Raises ValueError if it has no head for masked words."""
        from bert_tf import heads
        from bert_tf.checkpoints.loading import assign

        config, tokenizer = checkpoints.architecture(path)
        model = heads.pretraining(config, next_sentence=False)
        tensors = checkpoints.read(path, optimizer_state=False)
        check_tied(tensors, os.fspath(path))
        report = assign(model, tensors, os.fspath(path))
        if lacking := report.lacking:
            raise ValueError(
                f"{os.fspath(path)} has no head for masked words: {', '.join(lacking)} lacking, or "
                "of another shape; use a pre-trained checkpoint that has not been fine-tuned"
            )
        return cls(model, tokenizer, config.max_position_embeddings)

    def fill(self, text: str, top_k: int = TOP_K) -> list[list[Candidate]]:
        """The likeliest pieces behind each [MASK] of the text, in order, the likeliest first.

        Raises:
          ValueError: the text has no [MASK] or is too long.
        """
        ids = self.row(text)
        places = np.flatnonzero(np.array(ids) == self.mask_id)
        if not len(places):
            raise ValueError(f"{text!r:.80} has no [MASK]; put one where a word is to be found")
        log_probs = self.log_probs([ids], [places.tolist()])[0]
        best = self.best(log_probs, top_k)
        return [
            [Candidate(self.tokenizer.inv_vocab[int(i)], float(np.exp(row[i]))) for i in ranked]
            for row, ranked in zip(log_probs, best, strict=True)
        ]

    def best(self, log_probs: np.ndarray, top_k: int) -> np.ndarray:
        """Return the ids of the likeliest pieces [..., top_k], the likeliest first.

        Rows of the embeddings that the vocabulary has no token for are none of them.
        """
        order = np.argsort(-log_probs[..., self._words], axis=-1, kind="stable")
        return self._words[order[..., :top_k]]

    def score(self, text: str) -> tuple[float, int]:
        """The pseudo-log-likelihood of a text, in nats, and its number of pieces.

        Raises:
          ValueError: the text is empty or too long.
        """
        ids = self.row(text)
        if len(ids) == 2:
            raise ValueError("an empty text has no likelihood; give a sentence")
        return self.score_row(ids), len(ids) - 2

    def score_row(self, ids: Sequence[int]) -> float:
        """The pseudo-log-likelihood of what stands between [CLS] and [SEP]."""
        total = 0.0
        for start in range(1, len(ids) - 1, _ROWS):
            places = range(start, min(start + _ROWS, len(ids) - 1))
            rows = [[*ids[:i], self.mask_id, *ids[i + 1 :]] for i in places]
            found = self.log_probs(rows, [[i] for i in places])[:, 0]
            total += float(found[np.arange(len(places)), [ids[i] for i in places]].sum())
        return total

    def row(self, text: str) -> list[int]:
        """[CLS] text [SEP] as ids. Raises ValueError if that is too long."""
        ids = self.tokenizer.encode(text)
        if len(ids) + 2 > self.max_seq_length:
            raise ValueError(
                f"{text!r:.80} has {len(ids)} pieces, but the model takes "
                f"{self.max_seq_length - 2}; shorten it"
            )
        return [self.tokenizer.cls_token_id, *ids, self.tokenizer.sep_token_id]

    def log_probs(
        self, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """Of every piece, at M positions of rows of one length: float64 [rows, M, V]."""
        import tensorflow as tf

        input_ids = tf.constant(rows, tf.int32)
        inputs = {
            "input_ids": input_ids,
            "input_mask": tf.ones_like(input_ids),
            "segment_ids": tf.zeros_like(input_ids),
            "masked_lm_positions": tf.constant(places, tf.int32),
        }
        logits = self.model(inputs, training=False)["masked_lm_logits"].numpy().astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def check_tied(tensors: Mapping[str, np.ndarray], path: str) -> None:
    """Raise ValueError if the scores of words have weights of their own, which ours have not."""
    if DECODER in tensors:
        raise ValueError(
            f"{path} scores words by {DECODER}, which was trained apart from the word embeddings; "
            "here these are used, and the answers would be others"
        )


def keeping_masks(tokenizer: Tokenizer) -> tuple[Tokenizer, int]:
    """The same tokenizer, but "[MASK]" in a text is that token, and its id.

    Raises:
      ValueError: the vocabulary has none.
    """
    kept = create_tokenizer(**{**tokenizer.settings, "keep_special_tokens": True})
    if kept.mask_token_id is None:
        raise ValueError(f"{tokenizer.vocab_file} has no [MASK]")
    return kept, kept.mask_token_id


@cli.command()
def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bert_tf.fill_mask", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--checkpoint", required=True, type=cli.path, help="folder, prefix or file")
    parser.add_argument("--top_k", type=int, default=TOP_K, help="candidates for each mask")
    parser.add_argument("--score", action="store_true", help="how likely each text is, in nats")
    parser.add_argument("texts", nargs="+", metavar="text", help='such as "It is [MASK]."')
    given = parser.parse_args(argv)
    if given.top_k < 1:
        parser.error(f"--top_k={given.top_k}: give 1 or more")
    try:
        checkpoints.locate(given.checkpoint)  # before TensorFlow is loaded
        with cli.quiet_start():  # TensorFlow is imported
            filler = MaskFiller.from_pretrained(given.checkpoint)
        for text in given.texts:
            print(_scored(filler, text) if given.score else _filled(filler, text, given.top_k))
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _scored(filler: MaskFiller, text: str) -> str:
    total, pieces = filler.score(text)
    return f"{total:10.3f}  {total / pieces:8.3f} a piece  {text}"


def _filled(filler: MaskFiller, text: str, top_k: int) -> str:
    masks = filler.fill(text, top_k)
    lines = [text]
    for number, candidates in enumerate(masks, 1):
        lines += [f"mask {number} of {len(masks)}:"] if len(masks) > 1 else []
        lines += [f"  {candidate.probability:.4f}  {candidate.token}" for candidate in candidates]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
