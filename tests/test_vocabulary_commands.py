"""Vocabularies that are learned, extended and pruned, and the checkpoints that go with them."""

import collections
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_modeling import load_golden

from bert_tf import checkpoints, filesystem, heads
from bert_tf.data.corpora import Corpus
from bert_tf.tasks import vocabulary_editing, vocabulary_learning
from bert_tf.tasks.vocabulary_learning import learn
from bert_tf.tokenization import FullTokenizer
from bert_tf.vocabulary import __main__ as command
from bert_tf.vocabulary import load_vocab

EXAMPLES = Path(__file__).parent.parent / "examples"
WIKI = EXAMPLES / "wiki_en"


def write_vocab(path, tokens):
    path.write_text("".join(f"{token}\n" for token in tokens), "utf-8")
    return FullTokenizer(str(path))


# -------------------------------------------------------------------------------- learning


def plain_merges(words, count):
    """The definition, without an index: count all pairs anew for each piece."""
    spelled = {word: [word[0], *(f"##{c}" for c in word[1:])] for word in words}
    found = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, pieces in spelled.items():
            for pair in zip(pieces, pieces[1:], strict=False):
                pairs[pair] += words[word]
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], *pair))
        made = best[0] + best[1].removeprefix("##")
        found.append(made)
        for pieces in spelled.values():
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = [made]
                i += 1
    return found


@given(st.dictionaries(st.text("abc", min_size=1, max_size=7), st.integers(1, 9), min_size=1))
def test_merges_are_those_of_the_definition(words):
    tokens = learn(words, 10_000, num_unused=0)
    merged = [token for token in tokens if len(token.removeprefix("##")) > 1]
    expected = dict.fromkeys(p for p in plain_merges(words, 9999) if len(p.removeprefix("##")) > 1)
    assert merged[4 + 1 :] == list(expected)  # behind [PAD] to [MASK]


@settings(max_examples=50)
@given(texts=st.lists(st.text(max_size=60), max_size=5))
def test_no_word_of_the_corpus_is_unknown(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("learn")
    (folder / "corpus").write_bytes("\n".join(texts).encode(errors="ignore"))
    words, _ = vocabulary_learning.count_words(Corpus([str(folder / "corpus")], "text"), True)
    if not words:
        with pytest.raises(ValueError, match="the corpus holds no words"):
            learn(words, 100)
        return
    tokenizer = write_vocab(folder / "vocab.txt", learn(words, 10_000))
    assert tokenizer.num_tokens == len(tokenizer.vocab)  # none is there twice
    for text in texts:
        words_of_text = tokenizer.basic_tokenizer.tokenize(text.encode(errors="ignore"))
        for word in words_of_text:
            assert len(word) > 200 or "[UNK]" not in tokenizer.tokenize(word)


def test_reserved_tokens_have_googles_ids(released_vocab):
    words = {"hello": 5, "yellow": 4, "北": 3}
    tokens = learn(words, 1100, num_unused=994)
    google = list(load_vocab(str(released_vocab("bert-base-uncased"))))
    assert tokens[:999] == google[:999]
    assert {"h", "##h", "北", "hello", "yellow"} <= set(tokens)
    assert "##北" not in tokens  # it always stands alone


def test_processes_and_runs_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary_learning, "_BLOCK", 200_000)
    found = []
    for workers in (1, 2):
        corpus = Corpus([str(WIKI / "dev.txt.gz")], "google")
        words, forgotten = vocabulary_learning.count_words(corpus, True, workers)
        found.append(learn(words, 2000))
    assert found[0] == found[1]
    assert forgotten == 0
    assert len(found[0]) == 2000


def test_rare_words_are_forgotten_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary_learning, "MOST_WORDS", 2)
    (tmp_path / "x").write_text("a a a b b c d")
    words, forgotten = vocabulary_learning.count_words(Corpus([str(tmp_path / "x")], "text"), True)
    assert (words, forgotten) == ({"a": 3, "b": 2}, 2)


def test_held_out_text_is_cut_as_well_as_by_googles_vocabulary(tmp_path, released_vocab):
    def measure(tokenizer):
        text = [line for line in Corpus([str(WIKI / "dev.txt.gz")], "google").texts()]
        words = [w for line in text for w in tokenizer.basic_tokenizer.tokenize(line)]
        pieces = [tokenizer.tokenize(word) for word in words]
        unknown = sum("[UNK]" in p for p in pieces)
        return sum(map(len, pieces)) / len(words), unknown / len(words)

    corpus = Corpus([str(WIKI / "train.txt.gz")], "google")
    words, _ = vocabulary_learning.count_words(corpus, True)
    tokenizer = write_vocab(tmp_path / "vocab.txt", learn(words, 8000, character_coverage=0.9999))
    pieces, unknown = measure(tokenizer)
    googles, _ = measure(FullTokenizer(str(released_vocab("bert-base-uncased"))))
    assert pieces < 1.3 and unknown < 0.001
    assert googles < pieces


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 20}, r"--vocab_size=20 is less than the 110 tokens"),
        ({"words": {}}, "the corpus holds no words"),
    ],
)
def test_what_cannot_be_learned(changes, message):
    with pytest.raises(ValueError, match=message):
        learn(**{"words": {"abc": 2}, "vocab_size": 200} | changes)


def test_command_needs_no_tensorflow(tmp_path):
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = None;"
        "runpy.run_module('bert_tf.vocabulary', run_name='__main__', alter_sys=True)"
    )
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"text": "so so so good good"}))
    command = [
        *(sys.executable, "-c", code, "learn", f"--input={tmp_path}/*.jsonl"),
        *("--input_format=jsonl", "--vocab_size=500", f"--output={tmp_path}/new/vocab.txt"),
        "--num_workers=1",
    ]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "The corpus gives" in ran.stdout
    assert {"so", "good"} <= set(load_vocab(str(tmp_path / "new" / "vocab.txt")))


# --------------------------------------------------------------------------------- editing

LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
TOKENS = [
    *("[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."),
    *LETTERS,
    *(f"##{x}" for x in LETTERS),
    *("the", "cat", "##fish", "dog", "##gy", "un", "##used", "sat", "mat", "on"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model of Google's, with its head for masked words and slots of an optimizer."""
    folder = tmp_path_factory.mktemp("edited")
    config, _, reader = load_golden("gelu")
    tokens = TOKENS + [f"x{i}" for i in range(config.vocab_size - len(TOKENS))]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith(("bert/", "cls/"))]
    tensors = {name: reader.get_tensor(name) for name in names}
    tensors |= {f"{name}/adam_m": tensors[name] for name in names[:2]}
    checkpoints.save(
        tensors,
        str(folder / "model" / "bert_model.ckpt"),
        "google",
        config=config,
        vocab_file=str(folder / "vocab.txt"),
        do_lower_case=True,
    )
    return folder / "model"


def outputs(path, text):
    """The last layer, and the scores of every token at the first position, by token."""
    config, tokenizer = checkpoints.architecture(path)
    model = heads.pretraining(config)
    checkpoints.load(model, path)
    ids = [tokenizer.cls_token_id, *tokenizer.encode(text), tokenizer.sep_token_id]
    ids = tf.constant([ids])
    inputs = {
        "input_ids": ids,
        "input_mask": tf.ones_like(ids),
        "segment_ids": tf.zeros_like(ids),
        "masked_lm_positions": tf.constant([[1]]),
    }
    scores = model(inputs)["masked_lm_logits"].numpy()[0, 0]
    sequence = model.bert({n: x for n, x in inputs.items() if "masked" not in n})
    return sequence["sequence_output"].numpy(), scores, tokenizer


def test_extending(folder, tmp_path, capsys):
    words = "catfish,dog,Doggy,unusedly,zebra"
    command.main(
        ["extend", f"--checkpoint={folder}", f"--words={words}", f"--output_dir={tmp_path}"]
    )
    printed = capsys.readouterr().out
    assert "catfish: was cat ##fish" in printed
    assert "already there: dog" in printed
    assert "4 new tokens, 2 of them in place of [unusedN]" in printed

    config, tokenizer = checkpoints.architecture(tmp_path)
    assert config.vocab_size == 103 == tokenizer.num_tokens
    assert tokenizer.tokenize("catfish doggy unusedly zebra") == [
        *("catfish", "doggy", "unusedly", "zebra")
    ]
    assert (tokenizer.vocab["catfish"], tokenizer.vocab["zebra"]) == (1, 102)
    old, new = checkpoints.read(folder), checkpoints.read(tmp_path)
    assert not [name for name in new if "adam" in name]
    before = FullTokenizer(str(folder / "vocab.txt"))
    for word in ("catfish", "zebra"):
        for name in vocabulary_editing.ROWS:
            row = new[name][tokenizer.vocab[word]]
            expected = old[name][before.encode(word)].astype(np.float64).mean(axis=0)
            np.testing.assert_allclose(row, expected, rtol=1e-6)


def test_other_texts_give_what_they_gave_before(folder, tmp_path):
    vocabulary_editing.extend(str(folder), ["catfish", "doggy", "zebra"], str(tmp_path))
    text = "the cat sat on the dog. unused mat"
    sequence, scores, tokenizer = outputs(folder, text)
    after, new_scores, new_tokenizer = outputs(tmp_path, text)
    np.testing.assert_array_equal(after, sequence)
    same = [token for token in tokenizer.vocab if token in new_tokenizer.vocab]
    np.testing.assert_allclose(
        [new_scores[new_tokenizer.vocab[token]] for token in same],
        [scores[tokenizer.vocab[token]] for token in same],
        atol=1e-5,
    )


def test_extending_and_pruning_a_model_with_rows_to_spare(folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    lines = (model / "vocab.txt").read_text().split("\n")[:-4]
    (model / "vocab.txt").write_text("\ufeff" + "\n".join(lines) + "\n\n")
    old = checkpoints.read(model)
    words = ["catfish", "doggy", "zebra"]  # two of them in place of [unusedN]
    vocabulary_editing.extend(str(model), words, str(tmp_path / "extended"))
    config, tokenizer = checkpoints.architecture(tmp_path / "extended")
    assert (config.vocab_size, tokenizer.num_tokens) == (101, 99)
    assert tokenizer.vocab["zebra"] == 98 and tokenizer.tokenize("the zebra") == ["the", "zebra"]
    new = checkpoints.read(tmp_path / "extended")
    for name in vocabulary_editing.ROWS:
        np.testing.assert_array_equal(new[name][99:], old[name][99:])
    done = vocabulary_editing.prune(str(model), {"the": 1, "cat": 1}, str(tmp_path / "pruned"))
    config, tokenizer = checkpoints.architecture(tmp_path / "pruned")
    assert config.vocab_size == tokenizer.num_tokens == done.kept == 101 - done.dropped


def test_pruning(folder, tmp_path, capsys):
    text = "the cat sat. the doggy sat sat"
    (tmp_path / "corpus.txt").write_text(text)
    output = tmp_path / "small"
    arguments = [
        *("prune", f"--checkpoint={folder}", f"--input={tmp_path}/corpus.txt"),
        *(f"--output_dir={output}", "--num_workers=1"),
    ]
    command.main(arguments)
    assert "left out" in capsys.readouterr().out
    _, tokenizer = checkpoints.architecture(output)
    assert {"the", "cat", "sat", "##gy", "[MASK]", "z", "##z"} <= set(tokenizer.vocab)
    assert not {"mat", "##fish", "[unused0]"} & set(tokenizer.vocab)
    sequence, scores, before = outputs(folder, text)
    after, new_scores, _ = outputs(output, text)
    np.testing.assert_array_equal(after, sequence)
    np.testing.assert_allclose(
        new_scores, [scores[before.vocab[token]] for token in tokenizer.vocab], atol=1e-5
    )
    command.main([*arguments, "--min_count=2"])
    printed = capsys.readouterr().out
    assert "2 words of the corpus are cut in another way now" in printed  # cat, doggy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--words=New York"], "'New York' is 2 words for this tokenizer"),
        ([], "give --words or --words_file"),
        (["--words_file=nowhere"], "nowhere"),
    ],
)
def test_bad_words_are_named(folder, tmp_path, arguments, message):
    base = ["extend", f"--checkpoint={folder}", f"--output_dir={tmp_path / 'out'}"]
    with pytest.raises(SystemExit, match=message):
        command.main([*base, *arguments])
    assert not (tmp_path / "out").exists()


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "new" / "x"
    filesystem.write_whole(path, b"old")

    def fail(*args):
        raise OSError("no space")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        filesystem.write_whole(path, b"new")
    assert [p.name for p in path.parent.iterdir()] == ["x"]
    assert path.read_bytes() == b"old"


def test_what_is_read_is_not_replaced(folder, tmp_path):
    corpus = tmp_path / "vocab.txt"
    corpus.write_text("some words\n")
    (tmp_path / "link").symlink_to(corpus)
    refused = pytest.raises(SystemExit, match=r"error: --output.*: .* is read.*give another name")
    for output in (corpus, tmp_path / "link", tmp_path / "." / ".." / tmp_path.name / "vocab.txt"):
        with refused:
            command.main(
                ["learn", f"--input={corpus}", f"--output={output}", "--vocab_size=99"],
            )
    tiny = shutil.copytree(folder, tmp_path / "tiny")
    before = {file.name: file.read_bytes() for file in tiny.iterdir()}
    with refused:
        command.main(["extend", f"--checkpoint={tiny}", "--words=film", f"--output_dir={tiny}"])
    with refused:
        command.main(["prune", f"--checkpoint={tiny}", f"--input={corpus}", f"--output_dir={tiny}"])
    with refused:  # the corpus has the name that the vocabulary gets
        command.main(
            ["prune", f"--checkpoint={tiny}", f"--input={corpus}", f"--output_dir={tmp_path}"]
        )
    assert {file.name: file.read_bytes() for file in tiny.iterdir()} == before
    assert corpus.read_text() == "some words\n"
