"""What `--google_exact` restores of run_squad.py: answers by words instead of by characters.

Google's program splits the passage at spaces into words, knows of each piece which word it came
from, and of the characters nothing. Hence its way back to the text, by searching the words for the
pieces' spelling. In a language without spaces the passage is one word, and these searches go wrong:
that is why they are not the default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from bert_tf.tokenization import BasicTokenizer

if TYPE_CHECKING:
    from bert_tf.data.squad_files import Answer
    from bert_tf.data.squad_windows import PassagePieces, Tokenizer

_BLANKS = " \t\r\n\u202f"
_WORD = re.compile(f"[^{_BLANKS}]+")


class Words:
    """The words of a passage (`doc_tokens`), and the ways between characters, words and pieces.

    Attributes:
      words: the text between spaces.
      of_character: int64, for each character the word that it is in, or that is before it.
      of_piece: int64, for each piece its word (`tok_to_orig_index`).
    """

    def __init__(self, text: str, piece_starts: np.ndarray):
        self.words = _WORD.findall(text)
        characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        blank = np.isin(characters, [ord(character) for character in _BLANKS])
        begins = ~blank & np.append(True, blank)[:-1]
        self.of_character = begins.cumsum() - 1
        self.of_piece = self.of_character[piece_starts]

    def first_piece(self, word: int) -> int:
        """The piece with which a word begins (`orig_to_tok_index`)."""
        return int(np.searchsorted(self.of_piece, word))


def label(pieces: PassagePieces, answer: Answer, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """The first and last piece of the answer as Google's program finds them; None if not.

    `read_squad_examples` takes the words of the annotated characters, `_improve_answer_span` in
    them the first place that has the pieces of the answer. It tries every part of the words there
    (cubic in their length); as the pieces must be equal, this is a search for their sequence.
    """
    words = pieces.words
    try:
        first = int(words.of_character[answer.start])
        last = int(words.of_character[answer.end - 1])
    except IndexError:
        return None
    if not words.words or " ".join(answer.text.split()) not in " ".join(
        words.words[first : last + 1]
    ):
        return None
    start = words.first_piece(first % len(words.words))  # -1, before all words, is the last one
    end = words.first_piece(last + 1) - 1
    wanted, there = tokenizer.encode(answer.text), pieces.ids[start : end + 1]
    at = _as_text(there).find(_as_text(wanted)) if wanted else -1
    return (start, end) if at < 0 else (start + at, start + at + len(wanted) - 1)


def _as_text(ids: Sequence[int]) -> str:
    """One character for each id, for the linear search that `str.find` is."""
    return "".join(map(chr, ids))


def answer_text(
    tokens: Sequence[str], words: Sequence[str], basic: BasicTokenizer, verbose: bool = False
) -> str:
    """The text of an answer, of its pieces and the words that they came from."""
    spelled = " ".join(tokens).replace(" ##", "").replace("##", "")
    return final_text(" ".join(spelled.split()), " ".join(words), basic, verbose)


def final_text(pred_text: str, orig_text: str, basic: BasicTokenizer, verbose: bool = False) -> str:
    """The part of `orig_text` whose tokenized form is `pred_text`: Google's `get_final_text`.

    The whole of `orig_text` if there is no such part, or if tokenizing changed the number of
    characters that are not spaces, so that the two texts cannot be laid side by side; `verbose`
    logs it.
    """
    tokenized = " ".join(basic.tokenize(orig_text))
    first = tokenized.find(pred_text)
    kept = [position for position, char in enumerate(orig_text) if char != " "]
    if not pred_text or first < 0 or len(kept) != len(tokenized) - tokenized.count(" "):
        if verbose:
            logging.warning("Unable to find text: %r in %r", pred_text, orig_text)
        return orig_text
    last = first + len(pred_text) - 1
    start, end = (kept[at - tokenized.count(" ", 0, at)] for at in (first, last))
    return orig_text[start : end + 1]
