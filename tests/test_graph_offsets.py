"""Ids and spans from the graph are those of the Python tokenizer, for every string and bytes."""

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

from bert_tf import text_rules
from bert_tf.graph_offsets import OffsetTokenizer, cut
from bert_tf.graph_tokenization import GraphTokenizer
from bert_tf.graph_windows import pack_question_windows
from bert_tf.tokenization import FullTokenizer

GOLDEN = Path(__file__).parent / "golden"
# Characters that have a case, a class or a fate of their own; a third of them, and some others.
NAMED = {*text_rules.ACCENTS, *text_rules.COMBINING_CLASS, *text_rules.DECOMPOSITION}
NAMED |= {*text_rules.DELETED, *text_rules.BLANKS, *text_rules.PUNCTUATION, *text_rules.CASED}
SAMPLE = sorted({*sorted(NAMED)[::3], *CODE_POINTS[::97], *map(ord, NASTY)})
MORE_CONTEXTS = (*CONTEXTS, "{0}\u0301 中\u0301{0}\u0323\u0301!\u0301", "\u0301{0}\u00ad\u0301")


def in_python(tokenizer, texts):
    """[ids, starts, ends], each a list for each text."""
    located = map(tokenizer.tokenize_with_offsets, texts)
    columns = [list(zip(*pieces, strict=True)) or [(), (), ()] for pieces in located]
    return [
        [[tokenizer.vocab[token] for token in tokens], list(starts), list(ends)]
        for tokens, starts, ends in columns
    ]


def test_a_tokenizer_that_nothing_else_holds(released_vocab):
    vocab = released_vocab("bert-base-chinese")
    ids, starts, ends = OffsetTokenizer(vocab).tokenize_with_offsets(tf.constant(["中 b"]))
    assert [x.to_list() for x in (starts, ends)] == [[[0, 2]], [[1, 3]]]
    assert ids.to_list() == GraphTokenizer(vocab)(tf.constant(["中 b"])).to_list()


class Pair:
    """The two tokenizers of one vocabulary."""

    def __init__(self, vocab_file, do_lower_case):
        self.python = FullTokenizer(vocab_file, do_lower_case)
        self.graph = OffsetTokenizer(vocab_file, do_lower_case)

    def in_graph(self, texts):
        found = self.graph.tokenize_with_offsets(tf.constant(texts, tf.string))
        assert [tensor.dtype for tensor in found] == [tf.int32] * 3
        return [list(row) for row in zip(*(x.to_list() for x in found), strict=True)]

    def differences(self, texts):
        found, wanted = self.in_graph(texts), in_python(self.python, texts)
        return [text for text, a, b in zip(texts, found, wanted, strict=True) if a != b]


@pytest.fixture(scope="module")
def strings():
    return json.loads(gzip.decompress((GOLDEN / "tokenization.json.gz").read_bytes()))["strings"]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def sampled_characters(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    return Pair(write_vocab_of_characters(path, SAMPLE), request.param)


@pytest.fixture(scope="module")
def uncased(released_vocab):
    return Pair(released_vocab("bert-base-uncased"), True)


@pytest.mark.parametrize(
    ("name", "do_lower_case"),
    [
        ("bert-base-multilingual-cased", False),
        pytest.param("bert-base-cased", False, marks=pytest.mark.slow),
        pytest.param("bert-base-chinese", True, marks=pytest.mark.slow),
    ],
)
def test_texts_in_many_languages(strings, released_vocab, name, do_lower_case):
    assert Pair(released_vocab(name), do_lower_case).differences(strings) == []


def test_texts_in_many_languages_uncased(uncased, strings):
    assert uncased.differences(strings) == []


def test_an_example(uncased):
    # The accents go with their letters, behind a piece too; an [UNK] spans its word.
    text = "Thé e\u0301a, \u3000unaffable中 \U0001f642x"
    pieces = [text[start:end] for start, end in zip(*uncased.in_graph([text])[0][1:], strict=True)]
    assert pieces == ["Thé", "e\u0301a", ",", "una", "ffa", "ble", "中", "\U0001f642x"]


@pytest.mark.parametrize("template", MORE_CONTEXTS)
def test_sampled_code_points_in_contexts(sampled_characters, template):
    assert sampled_characters.differences([template.format(chr(c)) for c in SAMPLE]) == []


@pytest.mark.slow
@pytest.mark.parametrize("do_lower_case", [True, False], ids=["uncased", "cased"])
def test_every_assigned_code_point_in_contexts(tmp_path, do_lower_case):
    assigned = assigned_code_points()
    vocab = write_vocab_of_characters(tmp_path / "vocab.txt", assigned)
    pair = Pair(vocab, do_lower_case)
    for template in MORE_CONTEXTS:
        for start in range(0, len(assigned), 20000):
            part = assigned[start : start + 20000]
            assert pair.differences([template.format(chr(c)) for c in part]) == []


characters = st.sampled_from(NASTY) | st.characters(exclude_categories=["Cs"])


@settings(max_examples=60)
@given(st.lists(st.text(characters, max_size=30), max_size=20))
def test_any_text(sampled_characters, texts):
    assert sampled_characters.differences(texts) == []


@settings(max_examples=60)
@given(st.lists(st.text(characters, max_size=8).map(str.encode) | st.binary(), max_size=8))
def test_any_bytes(uncased, parts):
    # Cut anywhere, so that characters end in the middle.
    assert uncased.differences([b"".join(parts)[start:] for start in range(6)]) == []


def test_words_of_more_than_200_characters(uncased):
    for letter in ("a", "é", "\u0e01", "\U00010400", "한"):
        texts = [
            f"{letter * n}{tail}" for n in (66, 67, 199, 200, 201, 801) for tail in ("", "! 中")
        ]
        assert uncased.differences(texts) == []
    assert uncased.in_graph(["x " + "a" * 201]) == [[[1060, 100], [0, 2], [1, 203]]]


def test_vocabulary_with_repeated_empty_and_odd_lines(tmp_path):
    odd = ["a", "##b", "b", "a", " ", "\u2028", "##\u2028", "##", "a b", "\x00", "##\x012", "b"]
    pair = Pair(write_vocab(tmp_path / "vocab.txt", odd), True)
    assert pair.differences(["", " ", "a\u2028b", "\x00\x01", "##b", "a b ab", "[UNK]"]) == []


def test_empty_batch(uncased):
    assert uncased.in_graph([]) == []


@settings(max_examples=60)
@given(st.lists(st.text(characters, max_size=20), max_size=5), st.data())
def test_cut_counts_characters(texts, data):
    spans = []
    for text in texts:
        start = data.draw(st.integers(0, max(len(text) - 1, 0)))
        spans.append((start, data.draw(st.integers(start, len(text)))))
    wanted = [text[start:end].encode() for text, (start, end) in zip(texts, spans, strict=True)]
    starts, ends = (tf.constant([span[k] for span in spans], tf.int32) for k in (0, 1))
    assert cut(tf.constant(texts, tf.string), starts, ends).numpy().tolist() == wanted


def test_cut_of_malformed_text_and_of_many_spans():
    texts = tf.constant([b"\xffa\xe4\xb8b\xe4\xb8\xadc\xc3", "", "xyz"])
    starts, ends = tf.constant([1, 0, 1]), tf.constant([4, 0, 3])
    assert cut(texts, starts, ends).numpy().tolist() == ["b中c".encode(), b"", b"yz"]
    starts = tf.ragged.constant([[0, 2], [], [1]], tf.int32)
    ends = tf.ragged.constant([[2, 3], [], [2]], tf.int32)
    assert cut(texts, starts, ends).to_list() == [[b"ab", "中".encode()], [], [b"y"]]


class Windowed(tf.Module):
    """Questions and contexts to windows, their pieces' spans, and the texts of the pieces."""

    def __init__(self, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * 2)
    def __call__(self, questions, contexts):
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(contexts)
        question_ids, _, _ = self.tokenizer.tokenize_with_offsets(questions)
        settings = dict(max_seq_length=24, doc_stride=5, max_query_length=8)
        windows = pack_question_windows(question_ids, ids, cls_id=101, sep_id=102, **settings)
        tables = {
            name: tensor.to_tensor(-1) for name, tensor in (("starts", starts), ("ends", ends))
        }
        tables["pieces"] = cut(contexts, starts, ends).to_tensor()
        return {**tables, **{f"windows/{k}": v for k, v in windows._asdict().items()}}


def test_saved_model_in_a_process_without_us(uncased, strings, tmp_path):
    module = Windowed(uncased.graph)
    tf.saved_model.save(module, str(tmp_path))
    code = (
        "import json, sys, tensorflow as tf, tensorflow_text\n"
        "module = tf.saved_model.load(sys.argv[1])\n"
        "found = module(*map(tf.constant, json.load(sys.stdin)))\n"
        "print(json.dumps({k: str(v.numpy().tolist()) for k, v in found.items()}))\n"
        "assert 'bert_tf' not in sys.modules\n"
    )
    some = strings[::8]
    texts = [some[::-1], some]
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = module(*map(tf.constant, texts))
    assert json.loads(ran.stdout) == {k: str(v.numpy().tolist()) for k, v in wanted.items()}
    assert len(wanted["windows/examples"]) > len(some)
    # The tables make up most of what is saved beside the vocabulary's automaton.
    assert (tmp_path / "saved_model.pb").stat().st_size < 2_500_000


def test_no_python_function_inside(uncased):
    function = uncased.graph.tokenize_with_offsets.get_concrete_function()
    graph = function.graph.as_graph_def()
    functions = [function.node_def for function in graph.library.function]
    ops = {node.op for nodes in (graph.node, *functions) for node in nodes}
    assert "FastWordpieceTokenizeWithOffsets" in ops
    assert not [op for op in ops if "PyFunc" in op]
