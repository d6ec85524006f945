"""Finding a checkpoint's parts, and making a model of them."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import numpy_bert
import pytest

from bert_tf import checkpoints, heads
from bert_tf.checkpoints import google
from bert_tf.checkpoints.convert import convert
from bert_tf.config import BertConfig
from bert_tf.modeling import BertModel
from bert_tf.vocabulary import load_vocab

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
KERAS_BERT = GOLDEN / "keras_bert_test"
CHINESE = GOLDEN / "google_chinese"
TORCH = GOLDEN / "torch"
MINILM = Path(__file__).parent.parent / "downloads" / "all-MiniLM-L6-v2"
CONFIG = BertConfig.from_json_file(KERAS_BERT / "bert_config.json")


def test_locate_googles_layout():
    place = checkpoints.locate(CHINESE)
    assert place.weights == str(CHINESE / "bert_model.ckpt")
    assert place.config_file == str(CHINESE / "bert_config.json")
    assert place.vocab_file == str(CHINESE / "vocab.txt")
    assert checkpoints.locate(f"{CHINESE}/bert_model.ckpt") == place
    with pytest.raises(ValueError, match="data-00000-of-00001 is damaged.*the file is missing"):
        checkpoints.read(CHINESE)


@pytest.mark.parametrize(
    ("folder", "note", "vocabulary", "expected"),
    [
        ("uncased_L-2_H-4_A-2", {}, "A", True),
        ("multi_cased_L-2_H-4_A-2", {}, "a", False),
        ("bert-base-cased", {"do_lower_case": True}, "A", True),
        ("chinese_L-12_H-768_A-12", {}, "A", True),
        ("mine", {"do_lower_case": False}, "a", False),
        ("mine", {}, "[CLS]\na\n##a\nNASA\n\N{DOUBLE-STRUCK CAPITAL R}", True),
        ("mine", {}, "[CLS]\na\nA", False),
    ],
)
def test_lower_case_by_note_then_name_then_vocabulary(tmp_path, folder, note, vocabulary, expected):
    folder = tmp_path / folder
    folder.mkdir()
    (folder / "vocab.txt").write_text(vocabulary)
    (folder / "tokenizer_config.json").write_text(json.dumps(note))
    place = checkpoints.locate(folder)
    assert place.do_lower_case is expected and place.case_reason
    assert place.weights is None and place.config_file is None


@pytest.mark.parametrize("lower", [True, False])
def test_a_tokenizer_json_alone_says_vocabulary_and_casing(tmp_path, caplog, lower):
    for name in (
        "bert_config.json",
        "bert_model.ckpt.index",
        "bert_model.ckpt.data-00000-of-00001",
    ):
        shutil.copy(KERAS_BERT / name, tmp_path)
    tokens = (KERAS_BERT / "vocab.txt").read_text().split()
    theirs = {"type": "BertNormalizer", "lowercase": lower, "handle_chinese_chars": False}
    file = tmp_path / "tokenizer.json"
    content = {
        "normalizer": theirs,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "vocab": {token: i for i, token in enumerate(tokens)}},
    }
    file.write_text(json.dumps(content))
    place = checkpoints.locate(tmp_path)
    assert place.vocab_file == str(file)
    assert place.do_lower_case is lower and place.case_reason == f"lowercase in {file}"
    assert f"{file}: tokenize_chinese_chars=False" in caplog.text
    _, tokenizer = checkpoints.architecture(tmp_path)
    assert tokenizer.vocab == load_vocab(KERAS_BERT / "vocab.txt")
    convert(str(tmp_path), str(tmp_path / "other"), "huggingface")
    assert checkpoints.locate(tmp_path / "other").vocab_file == str(tmp_path / "other/vocab.txt")
    assert checkpoints.architecture(tmp_path / "other")[1].vocab == tokenizer.vocab
    # With a vocab.txt beside it, that counts.
    shutil.copy(KERAS_BERT / "vocab.txt", tmp_path)
    assert checkpoints.locate(tmp_path).vocab_file == str(tmp_path / "vocab.txt")


def test_locate_an_output_dir_and_its_moved_copy(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for step in (10, 20, 30):
        google.write(str(out / f"model.ckpt-{step}"), {"x": np.ones(1)})
    state = f'model_checkpoint_path: "{out}/model.ckpt-20"\n'
    (out / "checkpoint").write_text(state)
    assert checkpoints.locate(out).weights == str(out / "model.ckpt-20")
    moved = out.rename(tmp_path / "moved")
    assert checkpoints.locate(moved).weights == str(moved / "model.ckpt-20")
    (moved / "checkpoint").unlink()
    with pytest.raises(ValueError, match=r"several checkpoints \(model.ckpt-10, model.ckpt-20"):
        checkpoints.locate(moved)


def test_locate_sentence_transformers_subfolder(tmp_path):
    module = {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    (tmp_path / "modules.json").write_text(json.dumps([module]))
    (tmp_path / "0_Transformer").mkdir()
    shutil.copy(TORCH / "model.safetensors", tmp_path / "0_Transformer")
    place = checkpoints.locate(tmp_path)
    assert place.weights == str(tmp_path / "0_Transformer" / "model.safetensors")


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        *(
            ([{"path": path, "type": "x.Transformer"}], r"names the folder .* outside of its own")
            for path in ("..", ".", "/etc", "a/..", "..\\b", 5)
        ),
        (["0_Transformer"], "lists '0_Transformer', which is no module"),
        ({}, "holds no JSON list"),
    ],
)
def test_modules_that_are_none_or_lie_elsewhere(tmp_path, modules, message):
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=f"^{tmp_path}/modules.json {message}"):
        checkpoints.locate(tmp_path)


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({"strip_accents": False}, "strip_accents=False, but accents are stripped here exactly"),
        ({"do_lower_case": False, "strip_accents": True}, "strip_accents=True, but accents are"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars=False, but here every"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_class='BertJapaneseTokenizer'"),
        ({"tokenizer_class": "DistilBertTokenizerFast", "strip_accents": None}, None),
        ({"strip_accents": True, "tokenize_chinese_chars": True}, None),
        ({"do_lower_case": False, "strip_accents": False}, None),
    ],
)
def test_other_tokenizers_are_warned_of_once(tmp_path, caplog, values, warning):
    (tmp_path / "vocab.txt").write_text("a")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    with caplog.at_level("WARNING", logger="absl"):
        for _ in range(2):
            checkpoints.locate(tmp_path)
    expected = [f"{tmp_path}/tokenizer_config.json: {warning}"] if warning else []
    assert len(caplog.messages) == len(expected)
    assert all(x.startswith(y) for x, y in zip(caplog.messages, expected, strict=True))


def test_nothing_there_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint at /nowhere/bert_model.ckpt: neither"):
        checkpoints.read("/nowhere/bert_model.ckpt")
    with pytest.raises(ValueError, match="holds no weights; bert_model.ckpt.index, .* looked for"):
        checkpoints.read(tmp_path)
    shutil.copy(TORCH / "model.safetensors", tmp_path)
    with pytest.raises(ValueError, match=r"has no bert_config.json or config.json beside"):
        checkpoints.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_hf_dict()))
    with pytest.raises(ValueError, match=r"has no vocab.txt or spiece.model beside"):
        checkpoints.from_pretrained(tmp_path)


INPUTS = {
    "input_ids": np.array([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]], np.int32),
    "input_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32),
    "segment_ids": np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], np.int32),
}


@pytest.mark.parametrize("format", ["google", "huggingface", "keras"])
def test_from_pretrained_gives_one_model_in_every_format(tmp_path, format):
    config, tokenizer, model = checkpoints.from_pretrained(KERAS_BERT)
    assert config == CONFIG and tokenizer.vocab["[CLS]"] == 2
    expected = model(INPUTS)["sequence_output"]
    numpy = numpy_bert.sequence_output(checkpoints.read(KERAS_BERT), config, **INPUTS)
    np.testing.assert_allclose(expected, numpy, atol=1e-6)
    checkpoints.save(
        model, tmp_path / "out", format, vocab_file=tokenizer.vocab_file, do_lower_case=True
    )
    again_config, _, again = checkpoints.from_pretrained(tmp_path / "out")
    assert again_config.hidden_act == "gelu"
    np.testing.assert_array_equal(again(INPUTS)["sequence_output"], expected)


def test_a_checkpoint_without_pooler_gives_a_model_without_one(tmp_path):
    weights = checkpoints.read(KERAS_BERT, optimizer_state=False)
    weights = {n: x for n, x in weights.items() if "pooler" not in n}
    vocab_file = str(KERAS_BERT / "vocab.txt")
    checkpoints.save(weights, tmp_path, "google", config=CONFIG, vocab_file=vocab_file)
    _, _, model = checkpoints.from_pretrained(tmp_path)
    assert "pooled_output" not in model(INPUTS)
    report = checkpoints.load(heads.classifier(CONFIG, 2), tmp_path)
    assert "bert/pooler/dense/kernel" in report.missing


def test_minilm_equals_a_numpy_forward_pass():
    if not MINILM.exists():
        pytest.skip(f"no {MINILM}; scripts/quickstart.sh fetches it")
    config, tokenizer, model = checkpoints.from_pretrained(MINILM)
    assert config.hidden_act == "gelu_erf" and tokenizer.do_lower_case
    texts = ["A man is eating food.", "The girl is carrying a baby, slowly.", "deep learning"]
    rows = [[tokenizer.cls_token_id, *tokenizer.encode(x), tokenizer.sep_token_id] for x in texts]
    ids = np.array([row + [0] * (16 - len(row)) for row in rows], np.int32)
    inputs = {
        "input_ids": ids,
        "input_mask": (ids != 0).astype(np.int32),
        "segment_ids": np.zeros_like(ids),
    }

    def pooled(sequence):  # the mean over real tokens
        mask = inputs["input_mask"][..., None]
        return (np.asarray(sequence) * mask).sum(1) / mask.sum(1)

    ours = pooled(model(inputs)["sequence_output"])
    weights = checkpoints.read(MINILM)
    expected = pooled(numpy_bert.sequence_output(weights, config, **inputs))
    assert np.abs(ours - expected).max() < 1e-5


def test_a_sentencepiece_model_beside_the_weights(tmp_path, train_spm):
    model_file = train_spm("unigram", vocab_size=1000)
    config = dataclasses.replace(CONFIG, vocab_size=1000)
    bert = BertModel(config)
    bert(INPUTS)
    settings = {"do_lower_case": False, "keep_special_tokens": True}
    target = checkpoints.save(bert, tmp_path, "google", spm_model_file=model_file, **settings)
    assert sorted(os.listdir(tmp_path)) == [
        *("bert_config.json", "bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"),
        *("spiece.model", "tokenizer_config.json"),
    ]
    tokenizer = checkpoints.from_pretrained(target)[1]
    assert tokenizer.settings == settings | {"spm_model_file": str(tmp_path / "spiece.model")}
    shutil.copy(KERAS_BERT / "vocab.txt", tmp_path)  # left by another; tokenizer_class decides
    assert checkpoints.from_pretrained(tmp_path)[1].settings == tokenizer.settings


def test_names_of_sentencepiece_models(tmp_path, train_spm):
    lower, cased = (train_spm("unigram", normalization_rule_name=n) for n in ("nfkc_cf", "nfkc"))
    shutil.copy(lower, tmp_path / "30k-clean.model")
    place = checkpoints.locate(tmp_path)
    assert place.tokenizer_file == {"spm_model_file": str(tmp_path / "30k-clean.model")}
    assert place.do_lower_case and place.case_reason.startswith("no single capital letters in")
    shutil.copy(cased, tmp_path / "30k-clean.model")
    assert checkpoints.locate(tmp_path).do_lower_case is False
    shutil.copy(cased, tmp_path / "other.model")
    assert checkpoints.locate(tmp_path).tokenizer_file == {}  # which of the two?
    shutil.copy(lower, tmp_path / "spiece.model")
    assert checkpoints.locate(tmp_path).spm_model_file == str(tmp_path / "spiece.model")
    shutil.copy(KERAS_BERT / "vocab.txt", tmp_path)
    assert checkpoints.locate(tmp_path).tokenizer_file == {
        "vocab_file": str(tmp_path / "vocab.txt")
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tokenizer_class": "T5Tokenizer"}, "tokenizer_class='T5Tokenizer', but .* AlbertToken"),
        ({"do_lower_case": True, "keep_accents": True}, "keep_accents=True, but accents are kept"),
        ({"tokenizer_class": "AlbertTokenizerFast", "keep_accents": False}, None),
    ],
)
def test_sentencepiece_tokenizers_that_are_not_ours(tmp_path, caplog, train_spm, values, said):
    shutil.copy(train_spm("unigram", normalization_rule_name="nfkc_cf"), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    with caplog.at_level("WARNING", logger="absl"):
        checkpoints.locate(tmp_path)
    assert len(caplog.messages) == bool(said)
    assert all(re.search(said, message) for message in caplog.messages)
