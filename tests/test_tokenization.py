"""The tokenizer equals Google's: recorded ids, every code point, and any string."""

import gzip
import importlib.util
import json
import pickle
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf import text_rules, tokenization
from bert_tf.tokenization import (
    BasicTokenizer,
    FullTokenizer,
    Piece,
    UnknownTokenError,
    WordpieceTokenizer,
)
from bert_tf.vocabulary import plain_contents, tokens_by_id

TESTS = Path(__file__).parent
GOLDEN = json.loads(gzip.decompress((TESTS / "golden" / "tokenization.json.gz").read_bytes()))
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
needs_same_unicode = pytest.mark.skipif(
    unicodedata.unidata_version != text_rules.UNICODE_VERSION,
    reason="Google's steps follow this Python's Unicode, which is another version",
)
# Unassigned, surrogate and most private-use code points are left to the slow test.
ASSIGNED = [code for code in range(0xF0000) if unicodedata.category(chr(code)) not in ("Cn", "Cs")]


def load_benchmark():
    path = TESTS.parent / "benchmarks" / "tokenization.py"
    spec = importlib.util.spec_from_file_location("tokenization_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Google's steps done plainly, with which the benchmark compares.
PlainTokenizer = load_benchmark().PlainTokenizer


def write_vocab(path, tokens):
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module")
def golden_tokenizer(tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            vocab = GOLDEN["vocabs"][name]
            path = tmp_path_factory.mktemp(name) / "vocab.txt"
            packed = TESTS / "golden" / "vocabs" / f"{vocab['file']}.gz"
            path.write_bytes(gzip.decompress(packed.read_bytes()))
            made[name] = FullTokenizer(path, vocab["do_lower_case"])
        return made[name]

    return make


@pytest.fixture(scope="module")
def every_character(tmp_path_factory):
    """A vocabulary in which each character has its own ids, so that no mistake hides in [UNK]."""
    tokens = (prefix + chr(code) for prefix in ("", "##") for code in ASSIGNED if code != ord("\n"))
    return write_vocab(tmp_path_factory.mktemp("every") / "vocab.txt", [*SPECIAL, *tokens])


# --- equal to Google's


def spans(pieces):
    """The starts of the pieces, and their ends."""
    return [piece.start for piece in pieces], [piece.end for piece in pieces]


@pytest.mark.parametrize("name", GOLDEN["vocabs"])
def test_recorded_ids_and_tokens(golden_tokenizer, name):
    tokenizer = golden_tokenizer(name)
    recorded = GOLDEN["tokens"][name]
    for text, ids in zip(GOLDEN["strings"], GOLDEN["ids"][name], strict=True):
        assert tokenizer.encode(text) == ids, ascii(text)
        assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) == ids
        pieces = tokenizer.tokenize_with_offsets(text)
        assert [piece.token for piece in pieces] == tokenizer.tokenize(text)
        assert tokenizer.encode_with_offsets(text) == (ids, *spans(pieces))
    for text, tokens in zip(GOLDEN["strings"], recorded, strict=False):
        assert tokenizer.tokenize(text) == tokens
    assert tokenizer.encode_batch(GOLDEN["strings"]) == GOLDEN["ids"][name]


@needs_same_unicode
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_every_assigned_code_point(every_character, do_lower_case):
    assert_equals_google_steps(every_character, do_lower_case, ASSIGNED)


@needs_same_unicode
@pytest.mark.slow
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_every_code_point(every_character, do_lower_case):
    assert_equals_google_steps(every_character, do_lower_case, range(0x110000))


def assert_equals_google_steps(vocab_file, do_lower_case, code_points):
    fast = FullTokenizer(vocab_file, do_lower_case)
    plain = PlainTokenizer(fast.vocab, do_lower_case)
    for start in range(0, len(code_points), 64):
        chars = list(map(chr, code_points[start : start + 64]))
        text = " ".join(chars) + " " + " ".join(f"a{char}b" for char in chars)
        assert fast.encode(text) == plain.encode(text), f"in {ascii(chars)}"


# Final sigma, accents, marks that move, blanks of all kinds, what is deleted, Hangul, CJK.
NASTY = "aZ ΣσΑ.'’-\u00ad\t\n\x0b\x1c\u2028\u3000\u0130ßé\u0301\u302e\u0323\U0001d165\U0001d16d"
NASTY += "\U0001d15e\U00016ff0\u0f73\u034f\u1715\u1b44中文，한가\uf900#[]\x00\x01\ufffd\ue000\ud800"
TEXTS = st.text() | st.text(NASTY, max_size=40) | st.text("aΣ'\u0301, ", max_size=20)


@needs_same_unicode
@settings(max_examples=300, deadline=None)
@given(text=TEXTS, do_lower_case=st.booleans())
def test_any_string_equals_google_steps(text, do_lower_case):
    plain = PlainTokenizer({}, do_lower_case)
    assert BasicTokenizer(do_lower_case).tokenize(text) == plain.words(text)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, name=st.sampled_from(["uncased", "chinese", "cased"]))
def test_engine_equals_specification(golden_tokenizer, text, name):
    tokenizer = golden_tokenizer(name)
    words = list(map(text_rules.spell, text_rules.words(text, tokenizer.do_lower_case)))
    assert tokenizer.basic_tokenizer.tokenize(text) == words
    pieces = tokenizer.wordpiece_tokenizer.tokenize(" ".join(words))
    assert tokenizer.tokenize(text) == pieces
    assert tokenizer.encode(text) == tokenizer.convert_tokens_to_ids(pieces)
    assert [piece.token for piece in tokenizer.tokenize_with_offsets(text)] == pieces


@given(data=st.binary() | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(deadline=None)
def test_bytes_are_decoded_leaving_out_what_is_malformed(golden_tokenizer, data):
    tokenizer = golden_tokenizer("uncased")
    text = data.decode("utf-8", "ignore")
    assert tokenizer.encode(data) == tokenizer.encode(text)
    assert tokenizer.tokenize_with_offsets(data) == tokenizer.tokenize_with_offsets(text)


# --- the classes by themselves


def test_basic_tokenizer():
    assert BasicTokenizer().tokenize("ah\u535a\u63a8zz") == ["ah", "\u535a", "\u63a8", "zz"]
    text = " \tHeLLo!how  \n Are yoU?  "
    assert BasicTokenizer(True).tokenize(text) == ["hello", "!", "how", "are", "you", "?"]
    assert BasicTokenizer(False).tokenize(text) == ["HeLLo", "!", "how", "Are", "yoU", "?"]
    assert BasicTokenizer(True).tokenize("H\u00e9llo") == ["hello"]
    assert BasicTokenizer().tokenize(b"a\xffb c") == ["ab", "c"]


def test_wordpiece_tokenizer():
    vocab = ["[UNK]", "[CLS]", "want", "##want", "##ed", "wa", "un", "runn", "##ing"]
    tokenizer = WordpieceTokenizer(vocab={token: index for index, token in enumerate(vocab)})
    assert tokenizer.tokenize("") == []
    assert tokenizer.tokenize("unwanted running") == ["un", "##want", "##ed", "runn", "##ing"]
    assert tokenizer.tokenize("unwantedX running") == ["[UNK]", "runn", "##ing"]
    # A word may itself begin with the sign of a continuing piece.
    assert tokenizer.tokenize(b"##ing") == ["##ing"]


def test_wordpiece_tokenizer_limits_the_characters_of_a_word():
    tokenizer = WordpieceTokenizer({"\u00e9", "##\u00e9"}, unk_token="?")
    assert tokenizer.tokenize("\u00e9" * 200) == ["\u00e9"] + ["##\u00e9"] * 199
    assert tokenizer.tokenize("\u00e9" * 201) == ["?"]
    tokenizer = WordpieceTokenizer({"a", "##a"}, max_input_chars_per_word=2)
    assert tokenizer.tokenize("aa aaa") == ["a", "##a", "[UNK]"]


def test_text_functions():
    assert tokenization.convert_to_unicode(b"caf\xc3\xa9\xff") == "café"
    assert tokenization.printable_text("café") == "café"
    assert tokenization.whitespace_tokenize(" a  b\n") == ["a", "b"]
    with pytest.raises(ValueError, match="Unsupported string type"):
        tokenization.convert_to_unicode(3)


def test_full_tokenizer(tmp_path):
    vocab = [*SPECIAL, "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","]
    tokenizer = FullTokenizer(write_vocab(tmp_path / "vocab.txt", vocab))
    tokens = tokenizer.tokenize("UNwant\u00e9d,running")
    assert tokens == ["un", "##want", "##ed", ",", "runn", "##ing"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [8, 5, 6, 11, 9, 10]
    assert tokenizer.convert_ids_to_tokens([8, 5, 6, 11, 9, 10]) == tokens
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id) == (0, 1)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (2, 3)
    assert tokenizer.mask_token_id is None
    assert tokenizer.num_tokens == 12


# --- spans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Un, wanted", [("un", 0, 2), (",", 2, 3), ("want", 4, 8), ("##ed", 8, 10)]),
        # Dropped characters inside a piece belong to it, those around it do not.
        ("\u200bU\u00adn\u200b \x00wa", [("un", 1, 4), ("wa", 7, 9)]),
        # Accents directly behind a piece belong to it, and only those.
        ("U\u0301n\u0301\u0301 wa", [("un", 0, 5), ("wa", 6, 8)]),
        ("un\u200b\u0301", [("un", 0, 2)]),
        ("wanted\u0301,\u0301", [("want", 0, 4), ("##ed", 4, 7), (",", 7, 9)]),
        # One character may become several.
        ("한", [("\u1112", 0, 1), ("##\u1161", 0, 1), ("##\u11ab", 0, 1)]),
        # An unknown word is one span.
        ("wa unQ\u0301 wa", [("wa", 0, 2), ("[UNK]", 3, 7), ("wa", 8, 10)]),
        ("wa\u3000\x0bun", [("wa", 0, 2), ("un", 4, 6)]),
    ],
)
def test_offsets(tmp_path, text, expected):
    vocab = [*SPECIAL, "want", "##ed", "wa", "un", ",", "\u1112", "##\u1161", "##\u11ab"]
    tokenizer = FullTokenizer(write_vocab(tmp_path / "vocab.txt", vocab))
    assert tokenizer.tokenize_with_offsets(text) == [Piece(*piece) for piece in expected]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, name=st.sampled_from(["uncased", "chinese", "cased"]))
def test_offsets_do_not_depend_on_where_chunks_are_cut(golden_tokenizer, text, name):
    tokenizer = golden_tokenizer(name)
    assert tokenizer.tokenize_with_offsets(text) == tokenizer._pieces._locate_all(text)


def test_offsets_of_cased_text_keep_accents_apart(tmp_path):
    vocab = write_vocab(tmp_path / "vocab.txt", [*SPECIAL, "E", "##\u0301", ",", "\u0301"])
    pieces = FullTokenizer(vocab, do_lower_case=False).tokenize_with_offsets("E\u0301 ,\u0301")
    assert pieces == [("E", 0, 1), ("##\u0301", 1, 2), (",", 3, 4), ("\u0301", 4, 5)]


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_the_text_of_a_span_gives_its_word(golden_tokenizer, text):
    tokenizer = golden_tokenizer("uncased")
    if tokenizer.basic_tokenizer.is_contextual(text):
        return
    for word in text_rules.words(text, True):
        sources = [source for _, source in word]
        span = text[min(sources) : max(sources) + 1]
        assert text_rules.spell(word) in tokenizer.basic_tokenizer.tokenize(span)
    for piece in tokenizer.tokenize_with_offsets(text):
        assert 0 <= piece.start < piece.end <= len(text)


# --- vocabularies and their errors


def test_vocabulary_lines_end_at_newlines_alone(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\n a \n\u2028\nb\x0bc\n##\u2028\na\nlast".encode())
    vocab = tokenization.load_vocab(path)
    assert vocab == {"[PAD]": 0, "a": 5, "": 2, "b\x0bc": 3, "##": 4, "last": 6}


def test_a_byte_order_mark_and_empty_lines_at_the_end_are_no_tokens(tmp_path):
    path = tmp_path / "vocab.txt"
    for end in ("", "\n", "\n\n\r\n"):
        path.write_bytes(f"\ufeff[PAD]\r\n\na\n \n{end}".encode())
        assert list(map(str.strip, tokens_by_id(path))) == ["[PAD]", "", "a", ""]
        assert tokenization.load_vocab(path) == {"[PAD]": 0, "": 3, "a": 2}
        assert plain_contents(path) == b"[PAD]\r\n\na\n \n"


def tokenizer_json(**changes):
    """The file that `tokenizers` writes for BERT's tokenizer, with few tokens."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "want", "##ed", "\u4e2d"]
    special = [{"id": i, "content": t, "special": True} for i, t in enumerate(tokens[:5])]
    return {
        "version": "1.0",
        "added_tokens": [*special, {"id": 9, "content": "later", "special": False}],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: i for i, token in enumerate(tokens)},
        },
    } | changes


def test_a_tokenizer_json_is_a_vocabulary(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json()))
    tokenizer = FullTokenizer(path)
    assert tokenizer.tokenize("Wanted 中 later") == ["want", "##ed", "中", "later"]
    assert tokenizer.encode("wanted") == [5, 6] and tokenizer.num_tokens == 10
    expected = "[PAD] [UNK] [CLS] [SEP] [MASK] want ##ed 中  later ".replace(" ", "\n")
    assert plain_contents(path).decode() == expected
    model = {name: x for name, x in tokenizer_json()["model"].items() if name != "type"}
    path.write_text(json.dumps(tokenizer_json(model=model)))  # as older versions wrote it
    assert FullTokenizer(path).vocab == tokenizer.vocab


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": {"type": "BPE", "vocab": {}}},
            "found model BPE, normalizer BertNormalizer, .*vocab.txt",
        ),
        ({"normalizer": None}, "normalizer none, pre_tokenizer BertPreTokenizer; expected"),
        (
            {"pre_tokenizer": {"type": ["Split"] * 99}},
            "pre_tokenizer none; expected",
        ),
        ({"model": {"type": "WordPiece"}}, "has no vocab whose pieces"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 10**9}}}, "'a' has no id from 0 to 13"),
        ({"model": {"type": "WordPiece", "vocab": {"a": "1"}}}, "'a' has no id from 0 to 13"),
    ],
)
def test_tokenizers_of_another_kind_are_refused(tmp_path, changes, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json(**changes)))
    with pytest.raises(ValueError, match=f"tokenizer.json.*{message}"):
        FullTokenizer(path)


@pytest.mark.parametrize("content", ["[" * 200000, "[]", "{"])
def test_a_damaged_tokenizer_json_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="tokenizer.json (is not valid JSON|holds no JSON object)"):
        FullTokenizer(path)


def test_rows_ask_for_padding_and_the_tokenizer_does_not(tmp_path):
    # The vocabulary of Google's own test, which has no [PAD].
    vocab = ["[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ","]
    tokenizer = FullTokenizer(write_vocab(tmp_path / "vocab.txt", vocab))
    tokens = tokenizer.tokenize("UNwant\u00e9d,running")
    assert tokens == ["un", "##want", "##ed", ",", "runn", "##ing"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [7, 4, 5, 10, 8, 9]
    assert tokenizer.pad_token_id is None and tokenizer.cls_token_id == 1
    with pytest.raises(ValueError, match=r"vocab.txt lacks \[PAD\], which rows are filled up with"):
        tokenizer.check_model(len(vocab))


def test_chinese_vocabulary_is_not_shifted(golden_tokenizer):
    tokenizer = golden_tokenizer("chinese")
    assert tokenizer.num_tokens == 21128
    assert (tokenizer.vocab[""], tokenizer.vocab["##"]) == (343, 13502)
    assert tokenizer.mask_token_id == 103


def test_unknown_tokens_are_named(tmp_path):
    path = write_vocab(tmp_path / "vocab.txt", SPECIAL)
    tokenizer = FullTokenizer(path)
    with pytest.raises(UnknownTokenError) as caught:
        tokenizer.convert_tokens_to_ids(["[CLS]", "cat"])
    assert str(caught.value).startswith(f"{path}: 'cat' is not in the vocabulary of 4 entries; use")
    with pytest.raises(ValueError, match="vocab.txt: 4 is not in the vocabulary"):
        tokenizer.convert_ids_to_tokens([4])
    with pytest.raises(KeyError):
        tokenization.convert_by_vocab({"a": 1}, ["b"])
    assert tokenization.convert_tokens_to_ids({"a": 1}, ["a", "a"]) == [1, 1]
    assert tokenization.convert_ids_to_tokens({1: "a"}, [1]) == ["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\n", r"vocab.txt lacks \[SEP\].*vocab.txt that belongs"),
        (b"", r"lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        (b"[PAD]\t7\n[CLS]\t1\n", r"token<TAB>id.*keep the first column"),
        (b"[PAD]\n\xff\xfe\n", "vocab.txt is not UTF-8"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        FullTokenizer(path)


def test_vocabulary_of_another_size():
    tokenization.validate_vocab_size("vocab.txt", 10, 10)
    message = "vocab.txt has 12 tokens, but config.json has vocab_size=11; use the vocabulary"
    with pytest.raises(ValueError, match=message):
        tokenization.validate_vocab_size("vocab.txt", 12, 11, "config.json")


def test_embeddings_with_rows_to_spare_are_said_once(caplog):
    for _ in range(2):
        tokenization.validate_vocab_size("my_vocab.txt", 30522, 30528, "config.json")
    (message,) = [m for m in caplog.messages if "my_vocab.txt" in m]
    assert "vocab_size=30528: rows of the embeddings from 30522 on are not used" in message


@pytest.mark.parametrize(
    ("do_lower_case", "checkpoint", "fits"),
    [
        (True, "gs://bert/uncased_L-12_H-768_A-12/bert_model.ckpt", True),
        (False, "gs://bert/uncased_L-12_H-768_A-12/bert_model.ckpt", False),
        (False, "x/multi_cased_L-12_H-768_A-12/bert_model.ckpt", True),
        (True, "x/multi_cased_L-12_H-768_A-12/bert_model.ckpt", False),
        (False, "chinese_L-12_H-768_A-12/bert_model.ckpt", False),
        (True, "x/my_cased_model/bert_model.ckpt", True),
        (True, "x/cased_L-12_H-768_A-12/model.ckpt-3", True),
        (True, None, True),
    ],
)
def test_casing_of_released_checkpoints(do_lower_case, checkpoint, fits):
    if fits:
        tokenization.validate_case_matches_checkpoint(do_lower_case, checkpoint)
        return
    with pytest.raises(ValueError, match=f"--do_lower_case={not do_lower_case}.*comment out"):
        tokenization.validate_case_matches_checkpoint(do_lower_case, checkpoint)


# --- what the engine remembers


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenization, "_REMEMBERED_CHUNKS", 5)
    vocab = [*SPECIAL, *map(str, range(10)), *(f"##{n}" for n in range(10))]
    tokenizer = FullTokenizer(write_vocab(tmp_path / "vocab.txt", vocab))
    wordpiece = WordpieceTokenizer(vocab)
    for word in map(str, range(100)):
        assert tokenizer.tokenize(word) == wordpiece.tokenize(word)
        assert [p.token for p in tokenizer.tokenize_with_offsets(word)] == tokenizer.tokenize(word)
        assert len(tokenizer._ids) <= 5
        assert len(tokenizer._pieces) <= 5
    tokenizer.encode("1" * 33)
    assert max(map(len, tokenizer._ids)) <= 32


def test_answers_are_not_shared(golden_tokenizer):
    tokenizer = golden_tokenizer("uncased")
    ids = tokenizer.encode("embeddings")
    tokenizer.encode("embeddings").append(0)
    assert tokenizer.encode("embeddings") == ids


def test_tokenizers_can_be_sent_to_other_processes(golden_tokenizer):
    tokenizer = golden_tokenizer("chinese")
    text = "中文 embeddings, ΑΣ 한"
    ids = tokenizer.encode(text)
    assert pickle.loads(pickle.dumps(tokenizer)).encode(text) == ids
