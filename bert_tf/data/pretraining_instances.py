"""From the documents of a corpus to rows of masked words and next sentences.

google-research/bert's create_pretraining_data.py draws all its random numbers from one
`random.Random`; here they are drawn in the same order, so that the same flags and seed give the
same rows. A piece is its id; in a text that a segmenter has cut into words, one that continues a
word is its id plus `vocab_size`. Without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bert_tf.tokenization import Tokenizer

Document = list[list[int]]  # pieces of each sentence
SENTENCE_PAIRS = ("next_sentence", "sentence_order", "none")


@dataclasses.dataclass(frozen=True)
class InstanceSettings:
    """How documents become rows; the names are those of the flags."""

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float
    short_seq_prob: float
    do_whole_word_mask: bool
    max_ngram: int
    sentence_pairs: str
    dynamic_masking: bool

    @property
    def max_num_tokens(self) -> int:
        """Pieces that a row has room for beside [CLS] and [SEP]."""
        return self.max_seq_length - (2 if self.sentence_pairs == "none" else 3)


class Instance(NamedTuple):
    """A row that is not padded.

    Attributes:
      input_ids: masked, or not yet.
      length_a: pieces of segment 0, [CLS] and [SEP] included.
      next_sentence_label: 1 where the second part does not follow the first.
      positions, labels: of the masked pieces, ascending.
      units: of each piece, where they are masked in training.
    """

    input_ids: list[int]
    length_a: int
    next_sentence_label: int
    positions: list[int] = []
    labels: list[int] = []
    units: list[int] = []


class InstanceMaker:
    """Makes the rows of documents, drawing from one random generator.

    Args:
      segmented: whether pieces may be ids plus `vocab_size`.

    Attributes:
      dropped: how many texts were too short to be cut in two, where both parts are in order.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: InstanceSettings,
        rng: random.Random,
        segmented: bool = False,
    ):
        tokenizer.check_padding()
        if tokenizer.mask_token_id is None:
            raise ValueError(f"{tokenizer.vocab_file} has no [MASK], which masked pieces become")
        self._settings, self._rng, self._segmented = settings, rng, segmented
        self._pieces_alone = not settings.do_whole_word_mask and settings.max_ngram == 1
        self.dropped = 0
        self._cls, self._sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._mask_id = tokenizer.mask_token_id
        self._vocab_size = tokenizer.num_tokens
        self._words = list(tokenizer.vocab.values())  # of which one is drawn at random
        self._continues = _continuations(tokenizer)
        self._masked = _Masker(settings, rng, self._mask_id, self._words)

    def of_document(self, documents: Sequence[Document], index: int) -> Iterator[Instance]:
        """The rows of one document (create_instances_from_document).

        Args:
          documents: none is empty, nor a sentence of one; the random next sentences come from
            another one than the document itself, if ten draws find one.
        """
        settings, rng = self._settings, self._rng
        document, limit = documents[index], settings.max_num_tokens
        # Most rows are as long as they can be, few are short, as in later use.
        target = limit
        if rng.random() < settings.short_seq_prob:
            target = rng.randint(2, limit)
        chunk: Document = []
        length = i = 0
        while i < len(document):
            chunk.append(document[i])
            length += len(document[i])
            if i == len(document) - 1 or length >= target:
                a, b, label, unused = self._parts(chunk, target, documents, index)
                i -= unused
                if a:
                    yield self._instance(*self._truncated(a, b), label)
                chunk, length = [], 0
            i += 1

    def _parts(
        self, chunk: Document, target: int, documents: Sequence[Document], index: int
    ) -> tuple[list[int], list[int], int, int]:
        """The two parts of a row, its label, and how many sentences were not used after all."""
        rng, pairs = self._rng, self._settings.sentence_pairs
        if pairs == "none":
            fits = len(chunk) == 1 or sum(map(len, chunk)) <= self._settings.max_num_tokens
            return _joined(chunk if fits else chunk[:-1]), [], 0, int(not fits)
        if pairs == "sentence_order":
            return *self._in_order(chunk), 0
        a_end = 1
        if len(chunk) >= 2:
            a_end = 1 + _below(rng, len(chunk) - 1)
        a = _joined(chunk[:a_end])
        if len(chunk) > 1 and rng.random() >= 0.5:
            return a, _joined(chunk[a_end:]), 0, 0
        return a, self._random_next(target - len(a), documents, index), 1, len(chunk) - a_end

    def _in_order(self, chunk: Document) -> tuple[list[int], list[int], int]:
        """Two parts, in half of the rows the second one first (Lan et al., 2020, section 3.1)."""
        rng = self._rng
        if len(chunk) > 1:
            cut = 1 + _below(rng, len(chunk) - 1)
            a, b = _joined(chunk[:cut]), _joined(chunk[cut:])
        else:
            (only,) = chunk
            if len(only) < 2:
                self.dropped += 1
                return [], [], 0
            cut = rng.randint(1, len(only) - 1)
            a, b = only[:cut], only[cut:]
        return (b, a, 1) if rng.random() < 0.5 else (a, b, 0)

    def _random_next(self, length: int, documents: Sequence[Document], index: int) -> list[int]:
        """Sentences from a random place of another document, until they are so long."""
        rng = self._rng
        for _ in range(10):
            other = _below(rng, len(documents))
            if other != index:
                break
        document = documents[other]
        b: list[int] = []
        for sentence in itertools.islice(document, _below(rng, len(document)), None):
            b += sentence
            if len(b) >= length:
                break
        return b

    def _truncated(self, a: list[int], b: list[int]) -> tuple[list[int], list[int]]:
        """Both without what does not fit, taken from front or back (truncate_seq_pair)."""
        rand, limit = self._rng.random, self._settings.max_num_tokens
        length_a, length_b, start_a, start_b = len(a), len(b), 0, 0
        for _ in range(length_a + length_b - limit):
            from_front = rand() < 0.5
            if length_a > length_b:
                length_a -= 1
                start_a += from_front
            else:
                length_b -= 1
                start_b += from_front
        return a[start_a : start_a + length_a], b[start_b : start_b + length_b]

    def _instance(self, a: list[int], b: list[int], label: int) -> Instance:
        ids = [self._cls, *a, self._sep, *b]
        if b:
            ids.append(self._sep)
        segments = len(a) + 2, label
        if self._pieces_alone:
            places = [*range(1, len(a) + 1), *range(len(a) + 2, len(ids) - 1)]
            if not self._settings.dynamic_masking:
                return Instance(ids, *segments, *self._masked.pieces(ids, places))
            units = [[place] for place in places]
        else:
            units = self._units(ids)
        if self._segmented:
            ids = [code % self._vocab_size for code in ids]
        if not self._settings.dynamic_masking:
            return Instance(ids, *segments, *self._masked.units(ids, units))
        numbers = [0] * len(ids)
        for number, unit in enumerate(units, 1):
            for place in unit:
                numbers[place] = number
        return Instance(ids, *segments, units=numbers)

    def _units(self, ids: list[int]) -> list[list[int]]:
        """Places of what is masked together: whole words, or several pieces or words."""
        settings, special, continues = self._settings, (self._cls, self._sep), self._continues
        units: list[list[int]] = []
        for place, code in enumerate(ids):
            if code in special:
                continue
            if settings.do_whole_word_mask and continues[code] and units:
                units[-1].append(place)
            else:
                units.append([place])
        return units if settings.max_ngram == 1 else self._ngrams(units)

    def _ngrams(self, units: list[list[int]]) -> list[list[int]]:
        """Neighbouring units joined, n of them in proportion to 1/n (Lan et al., section 3.1)."""
        sizes = range(1, self._settings.max_ngram + 1)
        weights = [1 / n for n in sizes]
        groups, start = [], 0
        while start < len(units):
            (size,) = self._rng.choices(sizes, weights)
            groups.append(_joined(units[start : start + size]))
            start += size
        return groups


class _Masker:
    """Chooses pieces or units and masks them, in place (create_masked_lm_predictions).

    Both functions return the places that were masked, ascending, and what was there.
    """

    def __init__(
        self, settings: InstanceSettings, rng: random.Random, mask_id: int, words: list[int]
    ):
        self._prob, self._most = settings.masked_lm_prob, settings.max_predictions_per_seq
        self._rng, self._mask_id, self._words = rng, mask_id, words
        self._plans: dict[tuple[int, int], list[tuple[range, int, bool]]] = {}

    def _wanted(self, ids: list[int]) -> int:
        return min(self._most, max(1, round(len(ids) * self._prob)))

    def pieces(self, ids: list[int], places: list[int]) -> tuple[list[int], list[int]]:
        """Each piece by itself."""
        wanted = self._wanted(ids)
        self._shuffle(places, wanted)
        return self._mask(ids, places[:wanted])

    def units(self, ids: list[int], units: list[list[int]]) -> tuple[list[int], list[int]]:
        """All of a unit or nothing; one that would be too many is passed over."""
        wanted = self._wanted(ids)
        self._rng.shuffle(units)
        chosen: list[int] = []
        for unit in units:
            if len(chosen) >= wanted:
                break
            if len(chosen) + len(unit) <= wanted:
                chosen += unit
        return self._mask(ids, chosen)

    def _mask(self, ids: list[int], chosen: list[int]) -> tuple[list[int], list[int]]:
        whole = ids.copy()
        rand, words, mask_id = self._rng.random, self._words, self._mask_id
        for place in chosen:
            if rand() < 0.8:
                ids[place] = mask_id
            elif rand() >= 0.5:
                ids[place] = words[_below(self._rng, len(words))]
        chosen.sort()
        return chosen, [whole[place] for place in chosen]

    def _shuffle(self, items: list[int], kept: int) -> None:
        """What `random.shuffle` does to the first `kept`, with the same draws; half of the time.

        The others are left with whatever they held on the way.
        """
        draw = self._rng.getrandbits
        for places, bits, whole in self._plan(len(items), kept):
            if whole:
                for i in places:
                    while (j := draw(bits)) > i:
                        pass
                    items[i], items[j] = items[j], items[i]
            else:
                for i in places:
                    while (j := draw(bits)) > i:
                        pass
                    items[j] = items[i]

    def _plan(self, count: int, kept: int) -> list[tuple[range, int, bool]]:
        """The places from the last to the second, in runs for which as many bits are drawn.

        Those below `kept` are to be exchanged, from the others it is enough to take.
        """
        if (count, kept) not in self._plans:
            runs, high = [], count - 1
            while high > 0:
                bits = (high + 1).bit_length()
                low = max(1, (1 << bits - 1) - 1)  # the least place that draws so many
                if low < kept <= high:
                    low = kept
                runs.append((range(high, low - 1, -1), bits, high < kept))
                high = low - 1
            self._plans[count, kept] = runs
        return self._plans[count, kept]


def _below(rng: random.Random, n: int) -> int:
    """`rng.randrange(n)`, from the same draws, in a third of the time."""
    bits = n.bit_length()
    while (number := rng.getrandbits(bits)) >= n:
        pass
    return number


def _joined(parts: Sequence[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(parts))


def _continuations(tokenizer: Tokenizer) -> list[bool]:
    """Of every id, and of every id plus vocab_size: whether it continues a word."""
    inner = [False] * tokenizer.num_tokens
    for token, token_id in tokenizer.vocab.items():
        if tokenizer.tokenization == "sentencepiece":
            inner[token_id] = not token.startswith("\u2581")
        else:
            inner[token_id] = token.startswith("##")
    return inner + [True] * tokenizer.num_tokens
