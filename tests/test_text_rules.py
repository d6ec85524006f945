"""The pinned Unicode table, and the rules where they are easy to get wrong."""

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf import text_rules
from bert_tf.text_rules import fold, folded, replacement, spell, words

ROOT = Path(__file__).parent.parent
ALL = range(0x110000)
SAME_UNICODE = unicodedata.unidata_version == text_rules.UNICODE_VERSION
needs_same_unicode = pytest.mark.skipif(
    not SAME_UNICODE, reason=f"this Python has Unicode {unicodedata.unidata_version}"
)


def split(text, do_lower_case=True):
    return [spell(word) for word in words(text, do_lower_case)]


@needs_same_unicode
def test_categories_are_those_of_unicode_14():
    category_of = [unicodedata.category(chr(code)) for code in ALL]

    def having(*names):
        return {code for code in ALL if category_of[code].startswith(names)}

    blanks = set(map(ord, "\t\n\r"))
    ascii_marks = {code for code in range(33, 127) if not chr(code).isalnum()}
    assert having("Mn") == text_rules.ACCENTS
    assert having("P") | ascii_marks == text_rules.PUNCTUATION
    assert having("Cc", "Cf") - blanks | {0, 0xFFFD} == text_rules.DELETED
    assert having("Z") | blanks == text_rules.BLANKS


@needs_same_unicode
def test_mappings_are_those_of_unicode_14():
    chars = list(map(chr, ALL))
    lower = {ord(char): tuple(map(ord, char.lower())) for char in chars if char.lower() != char}
    assert lower == text_rules._LOWER
    classes = {ord(char): unicodedata.combining(char) for char in chars}
    assert {code: n for code, n in classes.items() if n} == text_rules.COMBINING_CLASS
    decomposed = ((char, unicodedata.normalize("NFD", char)) for char in chars)
    for char, parts in decomposed:
        if parts != char:
            assert tuple(map(ord, parts)) == text_rules._decompose(ord(char))
        else:
            assert ord(char) not in text_rules.DECOMPOSITION
    for char in chars:
        letters = unicodedata.normalize("NFKD", char)
        kept = "".join(c for c in letters if not unicodedata.combining(c))
        if ord(char) not in text_rules.FOLDED:
            assert kept.lower() == char and not char.isspace()
        elif not char.isspace():
            assert fold(ord(char), do_lower_case=False) == kept
            assert fold(ord(char)) == kept.lower()


@needs_same_unicode
def test_casing_around_a_sigma_is_that_of_unicode_14():
    def makes_final(text):
        return {code for code in ALL if text.format(chr(code)).lower().endswith("ς")}

    assert makes_final("{}Σ") == text_rules.CASED
    assert makes_final("A{}Σ") == text_rules.CASED | text_rules.CASE_IGNORABLE


def test_str_split_of_this_python_splits_on_the_pinned_whitespace():
    # The fast engine calls `str.split`, whatever the version of Python.
    assert {code for code in ALL if not chr(code).split()} == text_rules.WHITESPACE


@needs_same_unicode
@pytest.mark.slow
def test_the_script_makes_the_table_that_is_here(tmp_path):
    path = ROOT / "bert_tf" / "unicode_14.txt"
    script = (ROOT / "scripts" / "make_unicode_table.py").read_text("utf-8")
    code = f"{script.split('if __name__')[0]}\nTABLE = Path({str(tmp_path / 'table')!r})\nmain()"
    code = code.replace("Path(__file__).parents[1]", "Path()")
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "table").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("char", "uncased", "cased"),
    [
        ("a", "a", "a"),
        ("A", "a", "A"),
        ("é", "e", "é"),
        ("\u0301", "", "\u0301"),  # combining acute accent
        ("İ", "i", "İ"),
        ("ß", "ß", "ß"),  # lower(), not case folding
        ("Σ", "σ", "Σ"),
        ("ガ", "カ", "ガ"),
        ("한", "\u1112\u1161\u11ab", "한"),
        ("中", " 中 ", " 中 "),
        ("\uf900", " 豈 ", " \uf900 "),
        ("々", "々", "々"),  # not in the CJK blocks of the definition
        ("\U0002ceb0", "\U0002ceb0", "\U0002ceb0"),  # nor is Extension F
        (",", " , ", " , "),
        ("，", " ， ", " ， "),
        ("$", " $ ", " $ "),
        ("€", "€", "€"),  # a symbol outside ASCII is no punctuation
        ("≠", " = ", "≠"),  # decomposes to = and an accent
        ("\u037e", " ; ", " \u037e "),
        ("\t", " ", " "),
        ("\u00a0", " ", " "),
        ("\u2028", " ", " "),
        ("\x0b", "", ""),
        ("\x85", "", ""),
        ("\u200b", "", ""),
        ("\u00ad", "", ""),
        ("\x00", "", ""),
        ("\ufffd", "", ""),
        ("\ue000", "\ue000", "\ue000"),  # private use is kept
        ("\u0378", "\u0378", "\u0378"),  # and so is what Unicode 14 does not assign
        ("\ud800", "\ud800", "\ud800"),
    ],
)
def test_replacement(char, uncased, cased):
    assert replacement(ord(char), do_lower_case=True) == uncased
    assert replacement(ord(char), do_lower_case=False) == cased


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_replacement_is_what_the_specification_says(do_lower_case):
    # Without the marks, which move when they are side by side.
    untouched = set(ALL) - text_rules._touched() - text_rules.REORDERING_MARKS
    kept = "".join(map(chr, sorted(untouched)))
    assert split(kept, do_lower_case) == [kept]
    for mark in text_rules.REORDERING_MARKS:
        assert replacement(mark, do_lower_case) == chr(mark)
    for block in text_rules.CJK_BLOCKS:
        text = "".join(map(chr, block))
        expected = "".join(replacement(code, do_lower_case) for code in block).split()
        assert split(text, do_lower_case) == expected


@pytest.mark.parametrize(
    ("text", "uncased"),
    [
        ("ΟΔΟΣ ΣΟΣ, Σ", ["οδος", "σος", ",", "σ"]),
        ("ΑΣ'Α ΑΣ' ΑΣ-Α", ["ασ", "'", "α", "ας", "'", "ας", "-", "α"]),
        ("Α\u00adΣ Α中Σ", ["ας", "α", "中", "σ"]),
        # Class 216 comes before class 226; the accent between them (class 220) is dropped.
        ("x\U0001d16d\u0323\U0001d165", ["x\U0001d165\U0001d16d"]),
        # An accent of class 0 keeps the marks on its two sides apart.
        ("x\U0001d16d\u034f\U0001d165", ["x\U0001d16d\U0001d165"]),
        ("\u0301", []),
        ("a\x0bb\x1cc\x85d", ["abcd"]),
        ("[MASK]", ["[", "mask", "]"]),
    ],
)
def test_rules_that_look_at_neighbours(text, uncased):
    assert split(text) == uncased


def test_words_know_where_their_characters_came_from():
    sources = [[source for _, source in word] for word in words(" İs\u00ad한, E\u0301", True)]
    assert sources == [[1, 2, 4, 4, 4], [5], [7]]


def albert(text):
    """`preprocess_text` of google-research/albert, by this Python's Unicode."""
    text = unicodedata.normalize("NFKD", " ".join(text.split()))
    return "".join(c for c in text if not unicodedata.combining(c)).lower()


@needs_same_unicode
@settings(max_examples=300)
@given(st.text(st.sampled_from("aΣϹ𝚺'.\u0301\u0345 \u3000\x1c¨ﬁ½İ한\u00adZ") | st.characters()))
def test_folding_is_alberts(text):
    # A decomposition may begin with a blank; SentencePiece models join blanks anyway.
    assert spell(folded(text)) == " ".join(albert(text).split())


def test_folding_by_example():
    assert spell(folded(" Ａ\tΟΔΟΣ, ΣΑ  Crème½ İ ")) == "a οδος, σα creme1⁄2 i"
    assert folded("\u3000É \n\u0301ﬁ ") == [(101, 1), (32, 2), (102, 5), (105, 5)]
    assert folded(" ") == folded("") == []
