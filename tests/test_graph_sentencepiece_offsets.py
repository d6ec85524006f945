"""Pieces of SentencePiece and their spans in the graph are those of Python, for every string."""

import os

import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_graph_tokenizers import CODE_POINTS, cased_and_uncased, characters

from bert_tf.graph_sentencepiece_offsets import offset_tokenizer
from bert_tf.tokenization import create_tokenizer

kinds = pytest.mark.parametrize("kind", ["unigram", "bpe"])


class Pair:
    """The same tokenizer in Python and in the graph."""

    def __init__(self, path, do_lower_case):
        self.python = create_tokenizer(spm_model_file=path, do_lower_case=do_lower_case)
        self.graph = offset_tokenizer(self.python)

    def differences(self, texts):
        found = self.graph.tokenize_with_offsets(tf.constant(texts, tf.string))
        assert [x.dtype for x in found] == [tf.int32] * 3
        found = zip(*(x.to_list() for x in found), strict=True)
        wanted = map(self.python.encode_with_offsets, texts)
        return [text for text, a, b in zip(texts, found, wanted, strict=True) if a != b]


@pytest.fixture(scope="module")
def pair(spm_models):
    """kind, do_lower_case -> its Pair, made once."""
    made = {}

    def make(*key):
        if key not in made:
            made[key] = Pair(spm_models[key[0]], key[1])
        return made[key]

    return make


@cased_and_uncased
@kinds
def test_real_text(pair, real_lines, kind, lower):
    assert pair(kind, lower).differences(real_lines[::5]) == []


@cased_and_uncased
def test_code_points(pair, lower):
    texts = [f"{chr(c)} a{chr(c)}B{chr(c)}" for c in CODE_POINTS[::7]]
    assert pair("bpe", lower).differences(texts) == []


@settings(max_examples=150)
@given(
    texts=st.lists(st.text(characters, max_size=30), min_size=1, max_size=20),
    kind=st.sampled_from(["unigram", "bpe"]),
    lower=st.booleans(),
)
@example(
    texts=["", "\u0301", " ", "\u2581", "a \t\u2581 b\u0301\u3000", ""], kind="bpe", lower=True
)
def test_any_text(pair, texts, kind, lower):
    assert pair(kind, lower).differences(texts) == []


@settings(max_examples=60)
@given(
    parts=st.lists(st.text(characters, max_size=8).map(str.encode) | st.binary(), max_size=8),
    lower=st.booleans(),
)
def test_any_bytes(pair, parts, lower):
    # Cut anywhere, so that characters end in the middle.
    assert pair("bpe", lower).differences([b"".join(parts)[start:] for start in range(6)]) == []


def test_spans_by_example(pair):
    text = "Thé  ﬁlm, (e\u0301)"
    found = pair("bpe", True).graph.tokenize_with_offsets(tf.constant([text]))
    pieces = [text[a:b] for a, b in zip(*(x.to_list()[0] for x in found[1:]), strict=True)]
    # Both letters of the ligature come from one character; some blanks are pieces of their own.
    letters = [piece for piece in pieces if piece.strip()]
    assert "".join(letters).replace("ﬁﬁ", "ﬁ") == text.replace(" ", "")


def test_empty_batch(pair):
    found = pair("unigram", True).graph.tokenize_with_offsets(tf.zeros([0], tf.string))
    assert [x.to_list() for x in found] == [[], [], []]


@pytest.mark.skipif("BERT_TF_ALBERT_MODEL" not in os.environ, reason="no ALBERT model at hand")
@cased_and_uncased
def test_alberts_model(real_lines, lower):
    made = Pair(os.environ["BERT_TF_ALBERT_MODEL"], lower)
    assert made.differences(real_lines) == []
    assert made.differences([f"a{chr(c)}b" for c in CODE_POINTS]) == []


def test_special_tokens_are_refused(spm_models):
    tokenizer = create_tokenizer(spm_model_file=spm_models["bpe"], keep_special_tokens=True)
    with pytest.raises(ValueError, match="--keep_special_tokens cannot be exported"):
        offset_tokenizer(tokenizer)
