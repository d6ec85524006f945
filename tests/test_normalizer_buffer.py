"""The buffer makes TF.Text's op write what the map says, for every code point."""

import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from hypothesis import given
from hypothesis import strategies as st

from bert_tf import normalizer_buffer

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def normalize(replacements, texts):
    buffer = tf.constant(normalizer_buffer.build(replacements))
    normalizer = tf_text.FastBertNormalizer(model_buffer=buffer)
    return [text.decode() for text in normalizer.normalize(tf.constant(texts)).numpy()]


def test_every_code_point_between_others():
    # Every third one changes: to nothing, to itself between blanks, to what many share.
    replacements = {c: ("", f" {chr(c)} ", "shared")[c // 3 % 3] for c in CODE_POINTS if c % 3 == 0}
    texts = [f"\x01{chr(c)}\U0010fffd" for c in CODE_POINTS]
    assert normalize(replacements, texts) == [
        f"\x01{replacements.get(c, chr(c))}\U0010fffd" for c in CODE_POINTS
    ]


characters = st.characters(exclude_categories=["Cs"])


@given(st.dictionaries(characters, st.text(characters, max_size=15)), st.text(characters))
def test_any_map(replacements, text):
    text += "".join(replacements)
    by_code_point = {ord(char): to for char, to in replacements.items()}
    assert normalize(by_code_point, [text]) == [text.translate(by_code_point)]


def test_a_replacement_too_long_for_the_format():
    longest = "x" * 63
    assert normalize({0x41: longest}, ["AB"]) == [longest + "B"]
    with pytest.raises(ValueError, match="U\\+0041 becomes 64 bytes"):
        normalizer_buffer.build({0x41: longest + "x"})
