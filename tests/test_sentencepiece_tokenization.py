"""The SentencePiece tokenizer: what the library gives, ALBERT's lower-casing, spans, bad files."""

import os
import pickle

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf import sentencepiece_tokenization, text_rules
from bert_tf.sentencepiece_tokenization import SentencePieceTokenizer
from bert_tf.tokenization import (
    FullTokenizer,
    UnknownTokenError,
    create_tokenizer,
    validate_vocab_size,
)

# Final sigma, what decomposes to a sigma or begins with a blank, marks, blanks of all kinds.
NASTY = "aZ ΣσΑ.'Ϲ𝚺¨\u00b4ﬁ½\u00ad\t\n\x0b\x1c\u2028\u3000\u0130ßé\u0301\u302e\u0323\U0001d15e\x00"
NASTY += "中文，한\uf900#[]\ufffd\ue000\u0378\u2581"
TEXTS = st.text() | st.text(NASTY, max_size=40) | st.text("aΣ'\u0301, ", max_size=20)


@pytest.fixture(scope="module")
def tokenizers(spm_models):
    """kind, do_lower_case -> a tokenizer."""
    return {
        (kind, lower): SentencePieceTokenizer(path, lower)
        for kind, path in spm_models.items()
        for lower in (True, False)
    }


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_model_is_the_librarys(tokenizers, spm_models, real_lines, kind):
    model = sentencepiece.SentencePieceProcessor(model_file=str(spm_models[kind]))
    cased, lower = tokenizers[kind, False], tokenizers[kind, True]
    assert cased.encode_batch(real_lines) == model.encode(real_lines)
    folded = [text_rules.spell(text_rules.folded(line)) for line in real_lines]
    assert lower.encode_batch(real_lines) == model.encode(folded)
    assert lower.num_tokens == len(model) == 3000
    assert lower.vocab["▁the"] == model.piece_to_id("▁the")


@settings(max_examples=300)
@given(text=TEXTS)
def test_lower_casing_is_the_specification(tokenizers, text):
    folded = text_rules.spell(text_rules.folded(text))
    assert tokenizers["bpe", True].encode(text) == tokenizers["bpe", False].encode(folded)


def test_what_a_text_becomes(tokenizers):
    lower, cased = tokenizers["unigram", True], tokenizers["unigram", False]
    assert lower.tokenize("  The   CRÈME\n") == lower.tokenize("the creme")
    assert lower.encode("the") == [lower.vocab["▁the"]] == cased.encode(b"th\xffe")
    assert cased.tokenize("The") != cased.tokenize("the")
    assert lower.encode("") == lower.encode(" \u3000\n") == []
    assert lower.encode("\ud800the") == lower.encode("\ufffdthe")
    # Literal names are text, as in Google's code.
    assert lower.mask_token_id not in lower.encode("[MASK] [SEP]")
    tokens = lower.tokenize("The park. 公园 \u0e01")
    assert lower.convert_tokens_to_ids(tokens) == lower.encode("The park. 公园 \u0e01")
    assert lower.convert_ids_to_tokens([0, 1, 2, 3, 4]) == [
        *("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    ]
    with pytest.raises(UnknownTokenError, match="spiece.model: 'nothing of ours' is not in"):
        lower.convert_tokens_to_ids(["nothing of ours"])


def test_the_factory_makes_either(spm_models, released_vocab):
    made = create_tokenizer(spm_model_file=spm_models["bpe"], do_lower_case=False)
    assert isinstance(made, SentencePieceTokenizer) and not made.do_lower_case
    assert create_tokenizer(**made.settings).encode("The park") == made.encode("The park")
    wordpiece = create_tokenizer(vocab_file=released_vocab("bert-base-cased"))
    assert isinstance(wordpiece, FullTokenizer) and wordpiece.do_lower_case
    assert create_tokenizer(**wordpiece.settings).settings == wordpiece.settings
    for files in ({}, {"vocab_file": "a", "spm_model_file": "b"}):
        with pytest.raises(ValueError, match="vocab_file=.* and spm_model_file=.*: give one"):
            create_tokenizer(**files)


def test_tokenizers_can_be_sent_to_other_processes(tokenizers):
    tokenizer = tokenizers["bpe", True]
    text = "The ΑΣ 公园"
    assert pickle.loads(pickle.dumps(tokenizer)).encode(text) == tokenizer.encode(text)


# --- spans


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("The state", ["The", "state"]),
        ("  Thé\u0301 \u00a0STATE ", ["Thé\u0301", "STATE"]),
        ("the ﬁ", ["the", "ﬁ", "ﬁ"]),  # each piece of a character spans the whole of it
        ("the \u0e01", ["the", " ", "\u0e01", "\u0e01", "\u0e01"]),  # as bytes
        ("(the", ["", "(", "the"]),  # the blank that the model puts in front
    ],
)
def test_spans(tokenizers, text, spans):
    pieces = tokenizers["bpe", True].tokenize_with_offsets(text)
    assert [text[start:end] for _, start, end in pieces] == spans


@settings(max_examples=200)
@given(text=TEXTS, kind=st.sampled_from(["unigram", "bpe"]), lower=st.booleans())
def test_spans_lie_in_the_text_in_order(tokenizers, text, kind, lower):
    tokenizer = tokenizers[kind, lower]
    pieces = tokenizer.tokenize_with_offsets(text)
    assert [piece.token for piece in pieces] == tokenizer.tokenize(text)
    assert all(0 <= start <= end <= len(text) for _, start, end in pieces)
    starts = [start for _, start, _ in pieces]
    assert starts == sorted(starts)
    assert all(start < end for token, start, end in pieces if token.strip("▁"))
    if kind == "bpe":  # this model drops nothing
        covered = {i for _, start, end in pieces for i in range(start, end)}
        left_out = {char for i, char in enumerate(text) if i not in covered}
        folded = {text_rules.fold(ord(char)) if lower else char for char in left_out}
        assert not "".join(folded).strip()


# --- special tokens and bad files


def test_special_tokens_by_their_usual_names(train_spm):
    path = train_spm("unigram", control_symbols=["<cls>", "<sep>", "<mask>"], bos_id=2, eos_id=3)
    tokenizer = SentencePieceTokenizer(path, keep_special_tokens=True)
    assert list(tokenizer.special_tokens) == ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>"]
    assert tokenizer.tokenize("<s><cls>The<mask>") == [
        *tokenizer.tokenize("<s>"),
        *("<cls>", "▁the", "<mask>"),
    ]
    path = train_spm(
        "unigram", control_symbols=[], bos_id=2, eos_id=3, pad_piece="[PAD]", unk_piece="[UNK]"
    )
    tokenizer = SentencePieceTokenizer(path)
    ids = tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id
    assert tokenizer.convert_ids_to_tokens(ids) == ["[PAD]", "[UNK]", "<s>"]
    assert tokenizer.inv_vocab[tokenizer.sep_token_id] == "</s>"
    assert tokenizer.mask_token_id is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"pad_id": -1, "unk_id": 0},
            r"no token for padding: none of its 3000 pieces is <pad> or \[PAD\]; use the model",
        ),
        ({"control_symbols": ["[CLS]"]}, r"no token for \[SEP\].* <sep> or </s>;.*spm_train"),
    ],
)
def test_a_model_without_a_special_token(train_spm, options, message):
    with pytest.raises(ValueError, match=f"spiece.model has {message}"):
        SentencePieceTokenizer(train_spm("unigram", **options))


def ends_of_fields(data):
    """Where the fields of a serialized message end."""
    position = 0
    while position < len(data):
        position, size, shift = position + 1, 0, 0  # the key has one byte here
        while True:
            byte = data[position]
            size |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                break
        position += size
        yield position


def test_files_that_are_no_whole_model(spm_models, tmp_path, monkeypatch):
    data = spm_models["unigram"].read_bytes()
    path = tmp_path / "other.model"
    ends = list(ends_of_fields(data))
    assert ends[-1] == len(data)
    cuts = [0, 1, 1000, len(data) - 1, ends[0], ends[100], *ends[-4:-1]]
    bad = [data[:cut] for cut in cuts]
    bad += [data.replace("▁state".encode(), b"\xffbroken", 1), b"[PAD]\n[UNK]\n", b"\x00" * 99]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="other.model is not a SentencePiece model, or not a"):
            SentencePieceTokenizer(path)
    with pytest.raises(FileNotFoundError, match="nowhere.model"):
        SentencePieceTokenizer(tmp_path / "nowhere.model")
    monkeypatch.setattr(sentencepiece_tokenization, "MAX_MODEL_BYTES", 10)
    with pytest.raises(ValueError, match=r"other.model has 99 bytes, more than any .*is 10\)"):
        SentencePieceTokenizer(path)


def test_a_vocabulary_of_another_size(tokenizers):
    tokenizer = tokenizers["bpe", True]
    with pytest.raises(ValueError, match="spiece.model has 3000 tokens, but .* vocab_size=2999"):
        validate_vocab_size(tokenizer.vocab_file, tokenizer.num_tokens, 2999)


@pytest.mark.skipif("BERT_TF_ALBERT_MODEL" not in os.environ, reason="no ALBERT model at hand")
def test_alberts_model(real_lines):
    path = os.environ["BERT_TF_ALBERT_MODEL"]
    tokenizer = SentencePieceTokenizer(path, do_lower_case=True)
    assert tokenizer.num_tokens == 30000
    assert tokenizer.tokenize("The Crème!") == ["▁the", "▁cre", "me", "!"]
    assert list(tokenizer.special_tokens.values()) == [0, 1, 2, 3, 4]
    model = sentencepiece.SentencePieceProcessor(model_file=path)
    folded = [text_rules.spell(text_rules.folded(line)) for line in real_lines]
    assert tokenizer.encode_batch(real_lines) == model.encode(folded)
