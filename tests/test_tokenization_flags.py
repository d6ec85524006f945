"""--tokenization, --spm_model_file and --keep_special_tokens, from the flags to what is left."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bert_tf import checkpoints
from bert_tf.config import BertConfig
from bert_tf.tasks import classification, pretrained
from bert_tf.tasks.classification_config import ClassificationConfig

TINY = Path(__file__).parent / "tiny"
SPAM = Path(__file__).parent.parent / "examples" / "spam"


@pytest.fixture(scope="module")
def model_file(train_spm):
    return str(train_spm("unigram", vocab_size=1000))


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    config = json.loads((TINY / "bert_config.json").read_text()) | {"vocab_size": 1000}
    path = tmp_path_factory.mktemp("config") / "bert_config.json"
    path.write_text(json.dumps(config))
    return str(path)


def config(output_dir, **changes):
    values = {
        "task_name": "csv",
        "data_dir": str(SPAM),
        "text_a_column": "message",
        "label_column": "label",
        "id_column": "id",
        "output_dir": str(output_dir),
        "max_seq_length": 32,
        "train_batch_size": 16,
        "num_train_epochs": 1,
    }
    return ClassificationConfig(**values | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_file, config_file):
    """A run with a SentencePiece model that keeps special tokens, and its folder."""
    folder = tmp_path_factory.mktemp("spam")
    run = config(
        folder,
        bert_config_file=config_file,
        tokenization="sentencepiece",
        spm_model_file=model_file,
        keep_special_tokens=True,
        do_train=True,
        do_predict=True,
        export_dir=str(folder / "export"),
    )
    return classification.run(run), folder


TEXT = "Win the [MASK] NOW[SEP]Crème"


def test_what_a_run_leaves_tokenizes_as_it_did(trained, model_file):
    result, folder = trained
    for place in (folder, result["final_model"]):
        settings = checkpoints.from_pretrained(place)[1].settings
        spm_model_file = Path(settings.pop("spm_model_file"))
        assert spm_model_file.parent == Path(place)
        assert spm_model_file.read_bytes() == Path(model_file).read_bytes()
        assert settings == {"do_lower_case": True, "keep_special_tokens": True}
        assert not Path(place, "vocab.txt").exists()


def test_the_export_tokenizes_as_the_final_model(trained):
    result, _ = trained
    tokenizer = checkpoints.from_pretrained(result["final_model"])[1]
    ids = [tokenizer.cls_token_id, *tokenizer.encode(TEXT), tokenizer.sep_token_id]
    assert tokenizer.mask_token_id in ids and ids.count(tokenizer.sep_token_id) == 2
    loaded = tf.saved_model.load(result["export"])
    row = loaded.tokenize(tf.constant([TEXT]), tf.constant([""]))
    np.testing.assert_array_equal(row["input_ids"], [ids])
    assert Path(result["export"], "assets", "spiece.model").exists()


def test_predicting_later_needs_no_flag(trained, tmp_path, capsys):
    result, _ = trained
    later = config(tmp_path, init_checkpoint=result["final_model"], do_predict=True)
    again = classification.run(later)
    assert Path(again["predictions"]).read_text() == Path(result["predictions"]).read_text()
    assert "spiece.model, lower-cased (do_lower_case in" in (said := capsys.readouterr().out)
    assert "), special tokens kept" in said


def test_flags_win_over_the_files(trained, tmp_path):
    result, _ = trained
    flags = {"keep_special_tokens": False, "do_lower_case": False, "do_predict": True}
    run = config(tmp_path, init_checkpoint=result["final_model"], **flags)
    tokenizer = pretrained.architecture(run, run.init_checkpoint)[1]
    assert not tokenizer.keep_special_tokens and not tokenizer.do_lower_case


def test_literal_special_tokens_in_wordpiece_runs(tmp_path, released_vocab):
    vocab_file = released_vocab("bert-base-uncased")
    values = BertConfig.from_json_file(TINY / "bert_config.json").to_dict()
    path = tmp_path / "bert_config.json"
    path.write_text(json.dumps(values | {"vocab_size": 30522}))
    flags = {"bert_config_file": str(path), "vocab_file": str(vocab_file), "do_train": True}
    for keep in (None, True):
        run = config(tmp_path, keep_special_tokens=keep, **flags)
        made, tokenizer = pretrained.architecture(run, None)
        assert (tokenizer.mask_token_id in tokenizer.encode("a [MASK]")) == bool(keep)
        pretrained.save_description(str(tmp_path / str(keep)), made, tokenizer, ["a"], {})
        note = json.loads((tmp_path / str(keep) / "tokenizer_config.json").read_text())
        wanted = {"do_lower_case": True} | ({"keep_special_tokens": True} if keep else {})
        assert note == wanted


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_file": "a", "spm_model_file": "b"}, "--vocab_file=a and --spm_model_file=b token"),
        (
            {"vocab_file": "a", "tokenization": "sentencepiece"},
            "--vocab_file=a is for --tokenization=wordpiece, not for sentencepiece; leave one",
        ),
        (
            {"spm_model_file": "b", "tokenization": "wordpiece"},
            "--spm_model_file=b is for --tokenization=sentencepiece, not for wordpiece; leave one",
        ),
        ({"tokenization": "sentencepiece"}, "--spm_model_file is needed: no checkpoint is given"),
        ({"spm_model_file": "typo.model"}, "--spm_model_file=typo.model: there is no such file"),
        (
            {"spm_model_file": str(TINY / "vocab.txt")},
            "vocab.txt is not a SentencePiece model, or not a whole one",
        ),
    ],
)
def test_bad_flags_are_one_clear_error(tmp_path, config_file, changes, message):
    with pytest.raises(ValueError, match=message):
        run = config(tmp_path, bert_config_file=config_file, do_train=True, **changes)
        classification.run(run)


def test_a_model_of_another_size(tmp_path, model_file):
    run = config(
        tmp_path,
        bert_config_file=str(TINY / "bert_config.json"),
        spm_model_file=model_file,
        do_train=True,
    )
    with pytest.raises(ValueError, match=r"spiece.model has 1000 tokens, but .*bert_config.json"):
        classification.run(run)
