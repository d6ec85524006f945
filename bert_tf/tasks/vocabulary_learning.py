"""A WordPiece vocabulary for a corpus: `python -m bert_tf.vocabulary learn`. Without TensorFlow.

Words are counted as our tokenizer splits them. From single characters on, the two neighbouring
pieces that stand together most often in the words become one, again and again, until there are
enough (Sennrich et al., 2016, section 3.2, with WordPiece's `##`; Google never published its own
learner). Of pairs that are equally frequent the one whose text comes first is taken, so the same
corpus gives the same vocabulary, however many processes count.
"""

from __future__ import annotations

import collections
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bert_tf import text_rules
from bert_tf.data.corpora import Corpus
from bert_tf.parallel import ordered_map
from bert_tf.wordpiece import MAX_WORD_CHARACTERS, BasicTokenizer

MASK = "[MASK]"
_GOOGLES_UNUSED = 99  # between [PAD] and [UNK], so that [UNK] to [MASK] are 100 to 103
_BLOCK = 4_000_000  # characters of text that a process counts at once
MOST_WORDS = 3_000_000  # that are remembered, some 500 MB

Pair = tuple[int, int]


def count_words(
    corpus: Corpus, do_lower_case: bool, workers: int = 1
) -> tuple[collections.Counter[str], int]:
    """How often each word occurs, and how many occurrences were forgotten.

    When there are more than `MOST_WORDS` different ones, the rarest are forgotten.
    """
    blocks = ((block, do_lower_case) for block in _blocks(corpus.texts()))
    counted = map(_count, blocks) if workers == 1 else ordered_map(_count, blocks, workers)
    words: collections.Counter[str] = collections.Counter()
    forgotten = 0
    for counts in counted:
        words.update(counts)
        least = 1
        while len(words) > MOST_WORDS:
            rare = [word for word, count in words.items() if count <= least]
            forgotten += sum(words.pop(word) for word in rare)
            least += 1
    return words, forgotten


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if size >= _BLOCK:
            yield block
            block, size = [], 0
    yield block


def _count(block: tuple[Sequence[str], bool]) -> dict[str, int]:
    texts, do_lower_case = block
    basic = BasicTokenizer(do_lower_case)
    chunks: collections.Counter[str] = collections.Counter()
    for text in texts:
        chunks.update(basic.chunks(text))
    words: collections.Counter[str] = collections.Counter()
    for chunk, count in chunks.items():
        for word in basic.words(chunk):
            words[word] += count
    return dict(words)


def learn(
    words: Mapping[str, int],
    vocab_size: int,
    num_unused: int = _GOOGLES_UNUSED,
    character_coverage: float = 1.0,
    min_count: int = 2,
) -> list[str]:
    """The tokens of a vocabulary, in the order of their ids.

    Args:
      words: word -> how often it occurs.
      vocab_size: of the vocabulary; it has fewer if the words do not give so many pieces.
      num_unused: of its tokens are [unused0] and so on.
      character_coverage: the share of the characters of the words that single pieces cover, the
        most frequent first; words with others are unknown.
      min_count: the least number of places where two pieces stand together to become one.

    Raises: ValueError if there are no words, or the single characters alone are too many.
    """
    alphabet = _alphabet(words, character_coverage)
    tokens = _reserved(num_unused) + _single(alphabet)
    if not alphabet:
        raise ValueError("the corpus holds no words")
    if len(tokens) > vocab_size:
        raise ValueError(
            f"--vocab_size={vocab_size} is less than the {len(tokens)} tokens that there are "
            f"before any are joined ({num_unused} unused, {len(alphabet)} different characters); "
            f"give more, or a smaller --character_coverage than {character_coverage}"
        )
    known = {
        word: count
        for word, count in words.items()
        if len(word) <= MAX_WORD_CHARACTERS and alphabet.issuperset(word)
    }
    there = set(tokens)
    for piece in _Merger(known).pieces(min_count):
        if len(tokens) == vocab_size:
            break
        if piece not in there:
            there.add(piece)
            tokens.append(piece)
    return tokens


def _reserved(num_unused: int) -> list[str]:
    """As in Google's vocabularies."""
    unused = [f"[unused{i}]" for i in range(num_unused)]
    first, rest = unused[:_GOOGLES_UNUSED], unused[_GOOGLES_UNUSED:]
    return ["[PAD]", *first, "[UNK]", "[CLS]", "[SEP]", MASK, *rest]


def _alphabet(words: Mapping[str, int], coverage: float) -> set[str]:
    counts: collections.Counter[str] = collections.Counter()
    for word, count in words.items():
        for char in word:
            counts[char] += count
    wanted, found = coverage * sum(counts.values()), 0
    alphabet: set[str] = set()
    for char, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if found >= wanted:
            break
        alphabet.add(char)
        found += count
    return alphabet


def _single(alphabet: set[str]) -> list[str]:
    """Every character as a piece, and with `##` those that do not stand alone."""
    chars = sorted(alphabet)
    inside = [char for char in chars if text_rules.replacement(ord(char), False) == char]
    return chars + [f"##{char}" for char in inside]


class _Merger:
    """Words as lists of pieces, of which pairs are joined."""

    def __init__(self, words: Mapping[str, int]):
        self._texts: list[str] = []  # of each piece
        self._ids: dict[str, int] = {}
        self._words: list[list[int]] = []
        self._counts: list[int] = []  # of each word
        self._pairs: dict[Pair, int] = collections.defaultdict(int)
        self._places: dict[Pair, list[int]] = collections.defaultdict(list)
        for word, count in sorted(words.items()):
            if len(word) > 1:
                spelled = [word[0], *(f"##{char}" for char in word[1:])]
                self._words.append([self._id(piece) for piece in spelled])
                self._counts.append(count)
        for number, pieces in enumerate(self._words):
            for pair in zip(pieces, pieces[1:], strict=False):
                self._pairs[pair] += self._counts[number]
                self._places[pair].append(number)
        self._heap = [self._entry(pair) for pair in self._pairs]
        heapq.heapify(self._heap)

    def _id(self, text: str) -> int:
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text)
        return self._ids[text]

    def _entry(self, pair: Pair) -> tuple[int, str, str, Pair]:
        """The most frequent pair first, then the one whose text comes first."""
        first, second = (self._texts[piece] for piece in pair)
        return -self._pairs[pair], first, second, pair

    def pieces(self, min_count: int) -> Iterator[str]:
        """What is joined, one piece after another, until no pair occurs so often."""
        while self._heap:
            count, *_, pair = heapq.heappop(self._heap)
            now = self._pairs.get(pair, 0)
            if now < min_count:
                continue
            if -count != now:  # it has become rarer since
                heapq.heappush(self._heap, self._entry(pair))
                continue
            text = self._texts[pair[0]] + self._texts[pair[1]].removeprefix("##")
            self._join(pair, self._id(text))
            yield text

    def _join(self, pair: Pair, piece: int) -> None:
        """Puts `piece` in the place of the pair, in every word that has it."""
        more: set[Pair] = set()
        for number in self._places.pop(pair):
            old, count = self._words[number], self._counts[number]
            new = _joined(old, pair, piece)
            if len(new) == len(old):
                continue  # noted twice, or it lost the pair to another
            for gone in zip(old, old[1:], strict=False):
                self._pairs[gone] -= count
            for there in zip(new, new[1:], strict=False):
                self._pairs[there] += count
                if piece in there:
                    self._places[there].append(number)
                    more.add(there)
            self._words[number] = new
        for there in more:
            heapq.heappush(self._heap, self._entry(there))


def _joined(pieces: list[int], pair: Pair, piece: int) -> list[int]:
    first, second = pair
    new: list[int] = []
    i, last = 0, len(pieces) - 1
    while i <= last:
        if pieces[i] == first and i < last and pieces[i + 1] == second:
            new.append(piece)
            i += 2
        else:
            new.append(pieces[i])
            i += 1
    return new
