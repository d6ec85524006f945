"""BERT's basic tokenization, and ALBERT's folding, as rules over one pinned Unicode table.

The definition is that of `BasicTokenizer` in google-research/bert `tokenization.py`. Google's code
asks the running Python about Unicode, so its answers change with Python's version. Here they come
from `unicode_14.txt` (made by scripts/make_unicode_table.py), so that a saved model means the same
text everywhere. `words` is the specification, written for clarity; every faster engine (the Python
tokenizer, the graph tokenizer) is made from `replacement` and tested against it. `folded` and
`fold` are the same for what ALBERT lower-cases before a SentencePiece model reads it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

UNICODE_VERSION = "14.0.0"

Value = tuple[int, ...]


def _read_table(path: Path) -> dict[str, dict[int, Value]]:
    """Property name -> code point -> value; `()` where having the property is all there is."""
    table: dict[str, dict[int, Value]] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("#"):
            continue
        name, *items = line.split()
        values = table.setdefault(name, {})
        for item in items:
            span, _, parts = item.partition("=")
            first, _, last = span.partition("-")
            value = tuple(int(part, 16) for part in parts.split(".")) if parts else ()
            for code_point in range(int(first, 16), int(last or first, 16) + 1):
                values[code_point] = value
    return table


_TABLE = _read_table(Path(__file__).with_name("unicode_14.txt"))

_LINE_BLANKS = frozenset(map(ord, "\t\n\r"))
# What `str.split` splits on.
WHITESPACE = frozenset({*range(0x09, 0x0E), *range(0x1C, 0x20), 0x85}).union(
    _TABLE["Zs"], _TABLE["Zl"], _TABLE["Zp"]
)
# Removed without splitting, even where `str.split` would split (form feed, next line, ...).
DELETED = frozenset({0x00, 0xFFFD}).union(_TABLE["Cc"], _TABLE["Cf"]) - _LINE_BLANKS
BLANKS = WHITESPACE - DELETED
# All that is no letter, digit or space in ASCII, and the Unicode categories P*.
PUNCTUATION = frozenset({*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)}).union(
    _TABLE["P"]
)
ACCENTS = frozenset(_TABLE["Mn"])
CJK_BLOCKS = (
    range(0x4E00, 0xA000),
    range(0x3400, 0x4DC0),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0xF900, 0xFB00),
    range(0x2F800, 0x2FA20),
)
_CJK_EDGES = sorted(edge for block in CJK_BLOCKS for edge in (block.start, block.stop))

# A capital sigma becomes a final one behind a CASED and not before a CASED character of its chunk;
# CASE_IGNORABLE characters in between do not count.
CAPITAL_SIGMA, SMALL_SIGMA, FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2
CASED = frozenset(_TABLE["cased"])
CASE_IGNORABLE = frozenset(_TABLE["ignorable"])

_LOWER = _TABLE["lower"]
DECOMPOSITION = _TABLE["decomposition"]
_COMPATIBILITY = {**DECOMPOSITION, **_TABLE["compatibility"]}
COMBINING_CLASS = {code_point: value[0] for code_point, value in _TABLE["class"].items()}
_HANGUL = range(0xAC00, 0xD7A4)
# Combining marks that lower-casing keeps and that canonical order may move, so that text with one
# of them is more than the sum of its characters.
REORDERING_MARKS = frozenset(COMBINING_CLASS) - ACCENTS

# The code points that `fold` may change.
FOLDED = frozenset().union(_COMPATIBILITY, _HANGUL, _LOWER, COMBINING_CLASS, WHITESPACE)
# The code points that `folded` makes a capital sigma of, before it lower-cases them by context.
SIGMAS = frozenset({CAPITAL_SIGMA}).union(
    code_point for code_point, parts in _COMPATIBILITY.items() if CAPITAL_SIGMA in parts
)
_BLANK = ord(" ")

# A code point, and the index in the text of the character that it came from.
Character = tuple[int, int]
Chunk = list[Character]


def words(text: str, do_lower_case: bool) -> list[Chunk]:
    """The words and punctuation marks of `text`, as `BasicTokenizer.tokenize` splits it."""
    found: list[Chunk] = []
    characters = zip(map(ord, text), range(len(text)), strict=True)
    for chunk in _split_blanks(_space_cjk(_clean(characters))):
        if do_lower_case:
            chunk = _strip_accents(_lower(chunk))
        found += _split_punctuation(chunk)
    return found


def spell(word: Chunk) -> str:
    """The text of a word."""
    return "".join(chr(code_point) for code_point, _ in word)


def replacement(code_point: int, do_lower_case: bool) -> str:
    """What `words` makes of a code point between letters.

    "" if it is deleted, " " if it separates words, text with a blank on both sides if it stands
    alone, and else the text that takes its place, most often the character itself. The rules that
    look at neighbours are left out: a capital sigma gives the small one, a reordering mark itself.
    """
    if code_point not in _touched():
        return chr(code_point)
    if is_cjk(code_point) and code_point not in DECOMPOSITION:
        return f" {chr(code_point)} "  # `words` says the same, at length, of 80,000 characters
    found = words(f"x{chr(code_point)}x", do_lower_case)
    return " ".join(map(spell, found))[1:-1]


def is_cjk(code_point: int) -> bool:
    """Whether the definition sets the code point apart as a Chinese character."""
    return bisect_right(_CJK_EDGES, code_point) % 2 == 1


@cache
def _touched() -> frozenset[int]:
    """The code points that some rule speaks of; all others stay as they are."""
    named = (_LOWER, DECOMPOSITION, ACCENTS, PUNCTUATION, DELETED, BLANKS, _HANGUL)
    return frozenset().union(*named, *CJK_BLOCKS)


def folded(text: str) -> Chunk:
    """`text` as ALBERT makes it for a lower-cased SentencePiece model.

    That is `preprocess_text` of google-research/albert `tokenization.py`: compatibility
    decomposition (NFKD) without combining marks, of whatever category, then `str.lower`. Whitespace
    in a row becomes one blank, here after the decomposition, which can make blanks of its own.
    """
    parts = [
        (part, source)
        for source, character in enumerate(text)
        for part in map(ord, fold(ord(character), do_lower_case=False))
    ]
    result: Chunk = []
    for is_blank, run in groupby(parts, key=lambda character: character[0] == _BLANK):
        characters = list(run)
        result += characters[:1] if is_blank else _lower(characters)
    start = 1 if result[:1] and result[0][0] == _BLANK else 0
    end = len(result) - 1 if result[start:] and result[-1][0] == _BLANK else len(result)
    return result[start:end]


def fold(code_point: int, do_lower_case: bool = True) -> str:
    """What `folded` makes of a code point between letters, blanks unjoined.

    The rule that looks at neighbours is left out: a capital sigma gives the small one.
    """
    if code_point in WHITESPACE:
        return " "
    parts = _COMPATIBILITY.get(code_point) or _decompose(code_point)
    kept = [part for part in parts if part not in COMBINING_CLASS]
    if do_lower_case:
        kept = [lower for part in kept for lower in _LOWER.get(part, (part,))]
    return "".join(map(chr, kept))


def _clean(characters: Iterable[Character]) -> Iterator[Character]:
    return (character for character in characters if character[0] not in DELETED)


def _space_cjk(characters: Iterable[Character]) -> Iterator[Character]:
    for character in characters:
        if is_cjk(character[0]):
            blank = (ord(" "), character[1])
            yield from (blank, character, blank)
        else:
            yield character


def _split_blanks(characters: Iterable[Character]) -> Iterator[Chunk]:
    for is_blank, chunk in groupby(characters, key=lambda character: character[0] in BLANKS):
        if not is_blank:
            yield list(chunk)


def _lower(chunk: Chunk) -> Chunk:
    """`str.lower` of the whole chunk."""
    lowered: Chunk = []
    for position, (code_point, source) in enumerate(chunk):
        if code_point == CAPITAL_SIGMA and _is_word_final(chunk, position):
            lowered.append((FINAL_SIGMA, source))
        else:
            lowered += [(part, source) for part in _LOWER.get(code_point, (code_point,))]
    return lowered


def _is_word_final(chunk: Chunk, position: int) -> bool:
    def first_is_cased(characters: Chunk) -> bool:
        counted = (code for code, _ in characters if code not in CASE_IGNORABLE)
        return next(counted, None) in CASED

    return first_is_cased(chunk[:position][::-1]) and not first_is_cased(chunk[position + 1 :])


def _strip_accents(chunk: Chunk) -> Chunk:
    """The chunk in Unicode's canonical decomposition (NFD), without its non-spacing marks."""
    decomposed = [(part, source) for code, source in chunk for part in _decompose(code)]
    ordered: Chunk = []
    # Canonical order: marks between two characters of class 0 are sorted by class.
    for _, run in groupby(decomposed, key=lambda character: character[0] in COMBINING_CLASS):
        ordered += sorted(run, key=lambda character: COMBINING_CLASS.get(character[0], 0))
    return [character for character in ordered if character[0] not in ACCENTS]


def _decompose(code_point: int) -> Value:
    if code_point not in _HANGUL:
        return DECOMPOSITION.get(code_point, (code_point,))
    # The Unicode Standard, section 3.12: 19 leads x 21 vowels x 28 tails.
    lead_and_vowel, tail = divmod(code_point - _HANGUL.start, 28)
    lead, vowel = divmod(lead_and_vowel, 21)
    jamo = (0x1100 + lead, 0x1161 + vowel)
    return (*jamo, 0x11A7 + tail) if tail else jamo


def _split_punctuation(chunk: Chunk) -> Iterator[Chunk]:
    for is_mark, run in groupby(chunk, key=lambda character: character[0] in PUNCTUATION):
        characters = list(run)
        yield from ([mark] for mark in characters) if is_mark else (characters,)
