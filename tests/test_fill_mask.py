"""The words behind masks, and how likely a text is; in Python, on the command line and exported."""

import math
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the ops of the text model
from test_modeling import load_golden

from bert_tf import checkpoints, fill_mask
from bert_tf.checkpoints.files import write_file
from bert_tf.export import program
from bert_tf.export.export_config import ExportConfig
from bert_tf.fill_mask import MaskFiller

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
PIECES = [*SPECIAL, ".", *LETTERS, *(f"##{x}" for x in LETTERS), *"北京是中国的首都。é"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model of Google's with a vocabulary of letters."""
    folder = tmp_path_factory.mktemp("masked")
    config, _, reader = load_golden("gelu")
    vocab = folder / "words.txt"
    pieces = PIECES + [f"[unused{i}]" for i in range(config.vocab_size - len(PIECES))]
    vocab.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith(("bert/", "cls/pred"))]
    tensors = {name: reader.get_tensor(name) for name in names}
    path = str(folder / "model" / "bert_model.ckpt")
    checkpoints.save(
        tensors, path, "google", config=config, vocab_file=str(vocab), do_lower_case=True
    )
    return folder / "model"


@pytest.fixture(scope="module")
def filler(folder):
    return MaskFiller.from_pretrained(folder)


def test_candidates_are_those_of_the_whole_distribution(filler):
    masks = filler.fill("a [MASK] of [MASK].", top_k=101)
    assert len(masks) == 2
    for candidates in masks:
        shares = [candidate.probability for candidate in candidates]
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
    assert masks[0] != masks[1]
    assert [c[:3] for c in masks] == filler.fill("a [MASK] of [MASK].", top_k=3)


@pytest.fixture(scope="module")
def padded(folder, tmp_path_factory):
    """The same with three rows of embeddings that the vocabulary has no token for."""
    copy = tmp_path_factory.mktemp("padded") / "model"
    shutil.copytree(folder, copy)
    lines = (copy / "vocab.txt").read_text("utf-8").split("\n")[:-4]
    (copy / "vocab.txt").write_text("\ufeff" + "\n".join(lines) + "\n\n", encoding="utf-8")
    return copy


def test_a_row_without_a_token_is_no_candidate(filler, padded):
    text = "a [MASK] of [MASK]."
    full = filler.fill(text, top_k=101)
    other = MaskFiller.from_pretrained(padded)
    lost = filler.tokenizer.vocab.keys() - other.tokenizer.vocab.keys()
    assert len(lost) == 3
    assert other.fill(text, top_k=101) == [[c for c in row if c.token not in lost] for row in full]
    assert other.score("abc de") == filler.score("abc de")


def test_a_score_is_the_sum_over_the_pieces(filler):
    text = "abc de"
    total, pieces = filler.score(text)
    ids = filler.tokenizer.encode(text)
    assert pieces == len(ids) == 5
    parts = filler.tokenizer.convert_ids_to_tokens(ids)
    by_hand = 0.0
    for i, piece in enumerate(parts):
        masked = [2, *ids[:i], 4, *ids[i + 1 :], 3]
        shares = np.exp(filler.log_probs([masked], [[i + 1]])[0, 0])
        by_hand += math.log(shares[filler.tokenizer.vocab[piece]])
    assert total == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda filler: filler.fill("no mask"), r"has no \[MASK\]; put one"),
        (lambda filler: filler.fill("[MASK] " * 99), "has 99 pieces, but the model takes 38"),
        (lambda filler: filler.score(" "), "an empty text has no likelihood"),
    ],
)
def test_bad_texts_are_refused(filler, call, message):
    with pytest.raises(ValueError, match=message):
        call(filler)


def test_a_checkpoint_without_the_head_is_refused(folder, tmp_path):
    tensors = checkpoints.read(folder)
    kept = {name: value for name, value in tensors.items() if name.startswith("bert/")}
    for file in ("bert_config.json", "vocab.txt", "tokenizer_config.json"):
        write_file(str(tmp_path / file), (folder / file).read_bytes())
    checkpoints.save(kept, str(tmp_path / "bert_model.ckpt"), "google")
    with pytest.raises(ValueError, match="has no head for masked words: cls/predictions"):
        MaskFiller.from_pretrained(tmp_path)


def test_command_line(folder, filler, capsys):
    fill_mask.main(["--checkpoint", str(folder), "--top_k=2", "a [MASK].", "[MASK] [MASK]"])
    lines = capsys.readouterr().out.splitlines()
    (first,) = filler.fill("a [MASK].", 2)
    assert lines[0] == "a [MASK]."
    assert lines[1] == f"  {first[0].probability:.4f}  {first[0].token}"
    assert "mask 2 of 2:" in lines
    fill_mask.main(["--checkpoint", str(folder), "--score", "a b"])
    assert capsys.readouterr().out.split()[0] == f"{filler.score('a b')[0]:.3f}"
    with pytest.raises(SystemExit):
        fill_mask.main(["--checkpoint", str(folder), "no mask"])
    assert r"has no [MASK]" in capsys.readouterr().err


def test_exported_model_answers_as_python(padded, tmp_path):
    filler = MaskFiller.from_pretrained(padded)
    config = ExportConfig(
        checkpoint=str(padded), export_dir=str(tmp_path / "export"), max_seq_length=20
    )
    path = program.run(config)  # verified on the tricky samples
    assets = list((tmp_path / "export").glob("text/*/assets/*"))
    assert [file.name for file in assets] == ["vocab.txt"]
    assert assets[0].read_text("utf-8").splitlines()[0] == "[PAD]"
    loaded = tf.saved_model.load(path).signatures
    texts = ["a [MASK] b", "[MASK] [MASK]", "none"]
    words = loaded["serving_default"](text=tf.constant(texts))
    assert words["positions"].numpy().tolist() == [[2, -1], [1, 2], [-1, -1]]
    for row, text in enumerate(texts[:2]):
        for mask, candidates in enumerate(filler.fill(text)):
            tokens = [token.decode() for token in words["tokens"].numpy()[row, mask]]
            assert tokens == [candidate.token for candidate in candidates]
            np.testing.assert_allclose(
                words["probabilities"].numpy()[row, mask],
                [candidate.probability for candidate in candidates],
                atol=1e-5,
            )
    scores = loaded["score"](text=tf.constant(["abc de", "", "z"]))
    assert scores["pieces"].numpy().tolist() == [5, 0, 1]
    expected = [filler.score("abc de")[0], 0, filler.score("z")[0]]
    np.testing.assert_allclose(scores["pseudo_log_likelihood"].numpy(), expected, rtol=1e-5)
