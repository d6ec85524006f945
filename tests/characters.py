"""Characters that tokenizers are tested with, and vocabularies of them."""

import unicodedata

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
# Planes 0 and 1, what is special in planes 2 and 14 (characters that decompose, signs that are
# deleted), and a part of the rest, which is Chinese, private or empty.
CODE_POINTS = sorted(
    {c for c in range(0x20000) if not 0xD800 <= c < 0xE000}
    | {*range(0x20000, 0x110000, 97), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE01F0)}
)
# Final sigma, accents, movable marks, blanks of all kinds, what is deleted, lone signs, Hangul.
NASTY = "aZ ΣσΑ.'’-\u00ad\t\n\x0b\x1c\u2028\u3000\u0130ßé\u0301\u302e\u0323\U0001d165\U0001d16d"
NASTY += "\U0001d15e\U00016ff0\u0f73\u034f\u1715\u1b44中文，한가\uf900#[]\x00\x01\ufffd\ue000\u0378"
# What a character is put into where it may meet sigmas, marks and its like.
CONTEXTS = (
    "{0}",
    "a{0}b",
    "{0} {0}{0}",
    "A{0}Σ{0} Σ{0}a b\u302e{0}\U0001d165c",
    "\U0001d16d{0}\u302e\u3099 Σ{0}{0}",
)


def assigned_code_points():
    """Every code point that means something to this Python, and CODE_POINTS."""
    every = (c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs"))
    return sorted({*every, *CODE_POINTS})


def write_vocab(path, tokens):
    path.write_text("\n".join([*SPECIAL_TOKENS, *tokens]) + "\n", encoding="utf-8", newline="")
    return path


def write_vocab_of_characters(path, code_points):
    """A vocabulary in which each character has its own ids, so that no mistake hides in [UNK]."""
    return write_vocab(path, (prefix + chr(c) for c in code_points for prefix in ("", "##")))
