"""The tokenizer in the graph gives the ids of the Python one, for every string and byte string."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from characters import (
    CODE_POINTS,
    CONTEXTS,
    NASTY,
    assigned_code_points,
    write_vocab,
    write_vocab_of_characters,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf.graph_packing import pack_pairs
from bert_tf.graph_tokenization import GraphTokenizer
from bert_tf.packing import pack
from bert_tf.tokenization import FullTokenizer

GOLDEN = Path(__file__).parent / "golden"


class Pair:
    """The two tokenizers of one vocabulary."""

    def __init__(self, vocab_file, do_lower_case):
        self.python = FullTokenizer(vocab_file, do_lower_case)
        self.graph = GraphTokenizer(vocab_file, do_lower_case)

    def differences(self, texts):
        found = self.graph(tf.constant(texts, tf.string)).to_list()
        assert len(found) == len(texts)
        wanted = self.python.encode_batch(texts)
        return [text for text, a, b in zip(texts, found, wanted, strict=True) if a != b]


@pytest.fixture(scope="module")
def golden():
    return json.loads(gzip.decompress((GOLDEN / "tokenization.json.gz").read_bytes()))


def pair_of_characters(code_points, folder, do_lower_case):
    return Pair(write_vocab_of_characters(folder / "vocab.txt", code_points), do_lower_case)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def every_character(request, tmp_path_factory):
    return pair_of_characters(CODE_POINTS, tmp_path_factory.mktemp("vocab"), request.param)


@pytest.fixture(scope="module")
def uncased(released_vocab):
    return Pair(released_vocab("bert-base-uncased"), True)


@pytest.mark.parametrize(
    ("key", "name", "do_lower_case"),
    [
        ("uncased", "bert-base-uncased", True),
        ("cased", "bert-base-cased", False),
        ("multi_cased", "bert-base-multilingual-cased", False),
        ("chinese", "bert-base-chinese", True),
    ],
)
def test_golden_ids(golden, released_vocab, key, name, do_lower_case):
    graph = GraphTokenizer(released_vocab(name), do_lower_case)
    assert graph(tf.constant(golden["strings"])).to_list() == golden["ids"][key]


@pytest.mark.parametrize("template", ["{0}", "a{0}b"], ids=["alone", "between letters"])
def test_every_code_point(every_character, template):
    assert every_character.differences([template.format(chr(c)) for c in CODE_POINTS]) == []


@pytest.mark.slow
@pytest.mark.parametrize("do_lower_case", [True, False], ids=["uncased", "cased"])
def test_every_assigned_code_point_in_contexts(tmp_path, do_lower_case):
    assigned = assigned_code_points()
    pair = pair_of_characters(assigned, tmp_path, do_lower_case)
    for template in CONTEXTS:
        assert pair.differences([template.format(chr(c)) for c in assigned]) == []


characters = st.sampled_from(NASTY) | st.characters(exclude_categories=["Cs"])


@settings(max_examples=150)
@given(st.lists(st.text(characters, max_size=30), max_size=20))
def test_any_text(every_character, texts):
    assert every_character.differences(texts) == []


@settings(max_examples=150)
@given(st.lists(st.text(characters, max_size=8).map(str.encode) | st.binary(), max_size=8))
def test_any_bytes(every_character, parts):
    # Cut anywhere, so that characters end in the middle.
    texts = [b"".join(parts)[start:] for start in range(6)]
    assert every_character.differences(texts) == []


def test_malformed_sequences_of_every_kind(uncased):
    # One byte of each class that UTF-8 tells apart, in all triples; Python says what is malformed.
    kinds = bytes.fromhex("61 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ed ef f0 f1 f4 f5 ff")
    triples = [bytes([a, b, c]) for a in kinds for b in kinds for c in kinds]
    texts = [b"x" + head + tail + b"y" for head in triples for tail in (b"", b"\x80", b"\xbf")]
    decoded = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore").numpy()
    assert decoded.tolist() == [text.decode("utf-8", "ignore").encode() for text in texts]
    assert uncased.differences(texts[::7]) == []


def test_words_of_more_than_200_characters(uncased):
    for letter in ("a", "é", "\u0e01", "\U00010400"):
        texts = [letter * n + tail for n in (199, 200, 201, 801) for tail in ("", "!", " b 中")]
        assert uncased.differences(texts) == []
    assert uncased.graph(["a" * 201]).to_list() == [[uncased.python.unk_token_id]]
    assert len(uncased.graph(["a" * 200]).to_list()[0]) > 1


def test_vocabulary_with_repeated_empty_and_odd_lines(tmp_path):
    odd = [
        "a",
        "##b",
        "b",
        "a",
        " ",
        "\u2028",
        "##\u2028",
        "##",
        "a b",
        "\x00",
        "\x01",
        "##\x012",
        "b",
    ]
    pair = Pair(write_vocab(tmp_path / "vocab.txt", odd), True)
    assert pair.graph(["a b ab", "##", "a" * 300]).to_list() == [[7, 16, 7, 5], [1, 1], [1]]
    assert pair.differences(["", " ", "a\u2028b", "\x00\x01", "##b", "a b", "[UNK]"]) == []


def test_vocabulary_without_a_special_token(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[CLS]\n[SEP]\na\n")
    with pytest.raises(ValueError, match=r"vocab\.txt.*\[UNK\]"):
        GraphTokenizer(path)


def test_empty_batch(uncased):
    ids = uncased.graph(tf.zeros([0], tf.string))
    assert ids.dtype == tf.int32
    assert ids.to_list() == []


def test_in_a_dataset(uncased, golden):
    data = tf.data.Dataset.from_tensor_slices(golden["strings"]).batch(50).map(uncased.graph)
    assert [ids for batch in data for ids in batch.to_list()] == golden["ids"]["uncased"]


def test_saved_model_in_a_process_without_us(uncased, golden, tmp_path):
    tf.saved_model.save(uncased.graph, str(tmp_path))
    code = (
        "import json, sys, tensorflow as tf, tensorflow_text\n"
        "module = tf.saved_model.load(sys.argv[1])\n"
        "print(json.dumps(module(tf.constant(json.load(sys.stdin))).to_list()))\n"
        "assert 'bert_tf' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        input=json.dumps(golden["strings"]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == golden["ids"]["uncased"]


def test_no_python_function_inside(uncased):
    graph = uncased.graph.__call__.get_concrete_function().graph.as_graph_def()
    functions = [function.node_def for function in graph.library.function]
    ops = {node.op for nodes in (graph.node, *functions) for node in nodes}
    assert {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"} <= ops
    assert not [op for op in ops if "PyFunc" in op]


rows = st.lists(st.integers(1000, 30000), max_size=12)


@settings(max_examples=40)
@given(st.lists(st.tuples(rows, rows), max_size=8), st.integers(3, 30))
def test_pack_pairs_as_in_python(pairs, max_seq_length):
    a, b = (tf.ragged.constant([pair[k] for pair in pairs], tf.int32, 1) for k in (0, 1))
    packed = pack_pairs(a, b, 101, 102, max_seq_length)
    wanted = [pack(*pair, cls_id=101, sep_id=102, max_seq_length=max_seq_length) for pair in pairs]
    assert_packed(packed, wanted)


@settings(max_examples=20)
@given(st.lists(rows, max_size=8), st.integers(2, 30))
def test_pack_pairs_without_a_second_text(texts, max_seq_length):
    packed = pack_pairs(tf.ragged.constant(texts, tf.int32, 1), None, 101, 102, max_seq_length)
    wanted = [pack(a, None, cls_id=101, sep_id=102, max_seq_length=max_seq_length) for a in texts]
    assert_packed(packed, wanted)


def assert_packed(packed, wanted):
    longest = max((len(ids) for ids, _ in wanted), default=0)

    def padded(row):
        return row + [0] * (longest - len(row))

    assert [tensor.dtype for tensor in packed] == [tf.int32] * 3
    assert [tensor.shape for tensor in packed] == [(len(wanted), longest)] * 3
    input_ids, input_mask, segment_ids = (tensor.numpy().tolist() for tensor in packed)
    assert input_ids == [padded(ids) for ids, _ in wanted]
    assert input_mask == [padded([1] * len(ids)) for ids, _ in wanted]
    assert segment_ids == [padded(segments) for _, segments in wanted]


def test_pack_pairs_without_room():
    a = tf.ragged.constant([[1]], tf.int32)
    with pytest.raises(ValueError, match="max_seq_length=2 has no room.*use 3 or more"):
        pack_pairs(a, a, 101, 102, 2)
