"""Graph tokenizers of both kinds give the ids of the Python ones; special tokens pass, if asked."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf.graph_tokenizers import graph_tokenizer
from bert_tf.tokenization import create_tokenizer

CODE_POINTS = sorted(
    {c for c in range(0x20000) if not 0xD800 <= c < 0xE000}
    | {*range(0x20000, 0x110000, 97), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE01F0)}
)
NASTY = "aZ ΣσΑ.'Ϲ𝚺¨ﬁ½\u00ad\t\n\x0b\x1c\u2028\u3000\u0130ßé\u0301\u302e\u0323\U0001d15e\x00"
NASTY += "中文，한\uf900#[]()\ufffd\ue000\u0378\u2581\x01"
characters = st.sampled_from(NASTY) | st.characters(exclude_categories=["Cs"])
# A model's special tokens, what nearly is one, and what may stand around them.
LITERALS = ["[MASK]", "[SEP]", "[CLS]", "[PAD]", "[UNK]", "[unused1]", "<pad>", "<unk>"]
NEARLY = ["[mask]", "[MA", "SK]", "[", "]", "[ MASK ]", "[MA\x00SK]", "[unused]", "[unused1", "##"]
AROUND = [
    "",
    " ",
    "a",
    "The",
    "!",
    "中",
    "\u0301",
    "Σ",
    "ΑΣ",
    "(",
    "\u0e01",
    "\x01",
    "##a",
    "[[",
    "]]",
]


class Pair:
    """The same tokenizer in Python and in the graph."""

    def __init__(self, **settings):
        self.python = create_tokenizer(**settings)
        self.graph = graph_tokenizer(self.python)

    def differences(self, texts):
        found = self.graph(tf.constant(texts, tf.string)).to_list()
        wanted = self.python.encode_batch(texts)
        return [text for text, a, b in zip(texts, found, wanted, strict=True) if a != b]


@pytest.fixture(scope="module")
def pair(spm_models, released_vocab):
    """tokenizer's name, do_lower_case, keep_special_tokens -> its Pair, made once."""
    files = {kind: {"spm_model_file": path} for kind, path in spm_models.items()}
    files["wordpiece"] = {"vocab_file": released_vocab("bert-base-uncased")}
    made = {}

    def make(name, do_lower_case=True, keep_special_tokens=False):
        key = name, do_lower_case, keep_special_tokens
        if key not in made:
            flags = dict(do_lower_case=do_lower_case, keep_special_tokens=keep_special_tokens)
            made[key] = Pair(**files[name], **flags)
        return made[key]

    return make


cased_and_uncased = pytest.mark.parametrize("lower", [True, False], ids=["uncased", "cased"])
NAMES = ["wordpiece", "unigram", "bpe"]


# --- SentencePiece


@cased_and_uncased
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_real_text(pair, real_lines, kind, lower):
    assert pair(kind, lower).differences(real_lines) == []


@cased_and_uncased
def test_every_code_point(pair, lower):
    # A model with byte fallback, which tells all characters apart, and changes none.
    # Cased text goes into it as it is.
    texts = [f"{chr(c)} a{chr(c)}B" for c in CODE_POINTS[:: 1 if lower else 9]]
    assert pair("bpe", lower).differences(texts) == []


@settings(max_examples=150)
@given(
    texts=st.lists(st.text(characters, max_size=30), max_size=20),
    kind=st.sampled_from(["unigram", "bpe"]),
    lower=st.booleans(),
)
def test_any_text(pair, texts, kind, lower):
    assert pair(kind, lower).differences(texts) == []


@settings(max_examples=100)
@given(
    parts=st.lists(st.text(characters, max_size=8).map(str.encode) | st.binary(), max_size=8),
    lower=st.booleans(),
)
def test_any_bytes(pair, parts, lower):
    # Cut anywhere, so that characters end in the middle.
    assert pair("bpe", lower).differences([b"".join(parts)[start:] for start in range(6)]) == []


@pytest.mark.skipif("BERT_TF_ALBERT_MODEL" not in os.environ, reason="no ALBERT model at hand")
@cased_and_uncased
def test_alberts_model(real_lines, lower):
    made = Pair(spm_model_file=os.environ["BERT_TF_ALBERT_MODEL"], do_lower_case=lower)
    assert made.differences(real_lines) == []
    assert made.differences([f"a{chr(c)}b" for c in CODE_POINTS]) == []


def test_empty_batch(pair):
    ids = pair("unigram").graph(tf.zeros([0], tf.string))
    assert ids.dtype == tf.int32 and ids.to_list() == []


# --- special tokens in a text


def test_special_tokens_by_example(pair):
    kept = pair("wordpiece", keep_special_tokens=True).python
    text = "Paris is[MASK]a [SEP]!\u0301 [mask] [unused3] [unused]"
    assert kept.tokenize(text) == [
        *("paris", "is", "[MASK]", "a", "[SEP]", "!", "[", "mask", "]", "[unused3]"),
        *("[", "unused", "]"),
    ]
    assert kept.tokenize_with_offsets(text)[:6] == [
        *(("paris", 0, 5), ("is", 6, 8), ("[MASK]", 8, 14), ("a", 14, 15)),
        *(("[SEP]", 16, 21), ("!", 21, 23)),
    ]
    kept = pair("unigram", keep_special_tokens=True).python
    assert kept.tokenize("The[MASK] the<pad>") == ["▁the", "[MASK]", "▁the", "<pad>"]
    assert "[PAD]" not in kept.special_tokens


@pytest.mark.parametrize("name", NAMES)
@cased_and_uncased
def test_literals_are_text_unless_kept(pair, name, lower):
    plain = pair(name, lower).python
    user_defined = {"[unused1]"} if name == "bpe" else set()  # the model itself knows that one
    special = set(plain.special_tokens.values()) - {plain.unk_token_id}
    for literal in set(LITERALS) - user_defined:
        assert special.isdisjoint(plain.encode(f"a{literal} b"))


@pytest.mark.parametrize("name", NAMES)
@cased_and_uncased
def test_special_tokens_in_every_context(pair, name, lower):
    plain, kept = pair(name, lower).python, pair(name, lower, keep_special_tokens=True)
    special = kept.python.special_tokens
    assert {"[MASK]", "[SEP]", "[CLS]"} < special.keys() == set(special)
    texts = []
    for before, literal, after in itertools.product(AROUND, LITERALS + NEARLY, AROUND):
        texts.append(f"{before}{literal}{after}")
        if literal in special:
            wanted = [*plain.encode(before), special[literal], *plain.encode(after)]
            assert kept.python.encode(texts[-1]) == wanted
    assert kept.differences(texts) == []


mixtures = st.lists(
    st.sampled_from(LITERALS + NEARLY + AROUND) | st.text(characters, max_size=4), max_size=8
).map("".join)


@settings(max_examples=200)
@given(texts=st.lists(mixtures, max_size=8), name=st.sampled_from(NAMES), lower=st.booleans())
def test_any_mixture_with_special_tokens(pair, texts, name, lower):
    kept = pair(name, lower, keep_special_tokens=True)
    assert kept.differences(texts) == []
    for text in texts:
        tokens = kept.python.tokenize(text)
        assert kept.python.convert_tokens_to_ids(tokens) == kept.python.encode(text)
        pieces = kept.python.tokenize_with_offsets(text)
        assert [piece.token for piece in pieces] == tokens
        for token, start, end in pieces:
            if token in kept.python.special_tokens and token not in ("[UNK]", "<unk>"):
                assert text[start:end] == token


@settings(max_examples=50)
@given(data=st.lists(mixtures.map(str.encode) | st.binary(max_size=3), max_size=6).map(b"".join))
def test_any_bytes_with_special_tokens(pair, data):
    for name in NAMES:
        assert pair(name, keep_special_tokens=True).differences([data]) == []


TEXTS = ["The state of [MASK].", "", "公园 ΑΣ[SEP]é", "[UNK]"]


@pytest.mark.parametrize("name", NAMES)
def test_in_a_dataset(pair, name):
    made = pair(name, keep_special_tokens=True)
    data = tf.data.Dataset.from_tensor_slices(TEXTS).batch(3).map(made.graph)
    assert [ids for batch in data for ids in batch.to_list()] == made.python.encode_batch(TEXTS)


def test_saved_models_in_a_process_without_us(pair, tmp_path):
    made = [pair(name, keep_special_tokens=True) for name in NAMES]
    folders = [str(tmp_path / name) for name in NAMES]
    for one, folder in zip(made, folders, strict=True):
        tf.saved_model.save(one.graph, folder)
    code = (
        "import json, sys, tensorflow as tf, tensorflow_text\n"
        "texts = tf.constant(json.load(sys.stdin))\n"
        "print(json.dumps([tf.saved_model.load(f)(texts).to_list() for f in sys.argv[1:]]))\n"
        "assert 'bert_tf' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, *folders]
    text = json.dumps(TEXTS)
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == [one.python.encode_batch(TEXTS) for one in made]
