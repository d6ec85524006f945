"""Writes bert_tf/unicode_14.txt: the Unicode 14.0 data that the text rules rest on.

Run with Python 3.11, whose `unicodedata` and `str.lower` follow Unicode 14.0:

    python3.11 scripts/make_unicode_table.py

Each line is a property name and items `first[-last][=value.value...]`, all numbers hexadecimal.
"""

import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

TABLE = Path(__file__).parents[1] / "bert_tf" / "unicode_14.txt"
HEADER = """\
# Unicode 14.0.0 data for bert_tf.text_rules, made by scripts/make_unicode_table.py. Do not edit.
# Derived from the Unicode Character Database, (c) Unicode, Inc., Unicode License V3.
"""
CATEGORIES = ("Cc", "Cf", "Zs", "Zl", "Zp", "P", "Mn")
Value = tuple[int, ...] | None


def _ignorable(char: str) -> bool:
    """Case_Ignorable, asked of `str.lower`: does a capital sigma look through `char`?"""
    return not _cased(char) and f"A{char}\u03a3".lower()[-1] == "\u03c2"


def _cased(char: str) -> bool:
    """Cased and not Case_Ignorable: a capital sigma right behind `char` is word-final."""
    return f"{char}\u03a3".lower()[-1] == "\u03c2"


def _changed(char: str, result: str) -> Value:
    return None if result == char else tuple(map(ord, result))


def _decomposition(char: str) -> Value:
    if "\uac00" <= char <= "\ud7a3":
        return None  # Hangul syllables decompose by arithmetic
    return _changed(char, unicodedata.normalize("NFD", char))


def _compatibility(char: str) -> Value:
    """NFKD, where it is not NFD."""
    decomposed = unicodedata.normalize("NFKD", char)
    return _changed(unicodedata.normalize("NFD", char), decomposed)


def _combining_class(char: str) -> Value:
    return (unicodedata.combining(char),) if unicodedata.combining(char) else None


def properties() -> dict[str, Callable[[str], Value]]:
    """Property name -> function of a character: None (has it not), () (has it) or its value."""

    def has(test: Callable[[str], bool]) -> Callable[[str], Value]:
        return lambda char: () if test(char) else None

    def in_category(name: str) -> Callable[[str], bool]:
        return lambda char: unicodedata.category(char).startswith(name)

    return {name: has(in_category(name)) for name in CATEGORIES} | {
        "cased": has(_cased),
        "ignorable": has(_ignorable),
        "class": _combining_class,
        "lower": lambda char: _changed(char, char.lower()),
        "decomposition": _decomposition,
        "compatibility": _compatibility,
    }


def _items(value_of: Callable[[str], Value]) -> Iterator[str]:
    """Neighbouring code points of one value, as `first[-last][=value]`."""
    first, previous = 0, None
    for code_point in range(0x110001):
        value = value_of(chr(code_point)) if code_point < 0x110000 else None
        if value == previous:
            continue
        if previous is not None:
            last = code_point - 1
            span = f"{first:X}" if first == last else f"{first:X}-{last:X}"
            yield span + ("=" + ".".join(f"{part:X}" for part in previous) if previous else "")
        first, previous = code_point, value


def main() -> None:
    if unicodedata.unidata_version != "14.0.0":
        version = unicodedata.unidata_version
        sys.exit(f"this Python has Unicode {version}; run the script with Python 3.11 (14.0.0)")
    lines = [
        f"{name} {items}"
        for name, value_of in properties().items()
        for items in textwrap.wrap(" ".join(_items(value_of)), width=85, break_on_hyphens=False)
    ]
    TABLE.write_text(HEADER + "\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
