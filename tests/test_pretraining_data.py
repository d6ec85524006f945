"""create_pretraining_data.py: Google's bytes, and what else it can make of a corpus."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf.data import corpora, records
from bert_tf.data.corpora import Corpus, split_sentences
from bert_tf.data.example_bytes import RowEncoder, record
from bert_tf.data.pretraining_instances import InstanceMaker, InstanceSettings
from bert_tf.data.record_writer import open_records
from bert_tf.tasks import pretraining_data
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig
from bert_tf.tokenization import FullTokenizer

GOLDEN = Path(__file__).parent / "golden" / "pretraining_data"
LENGTH, MASKS = 64, 10


@pytest.fixture(scope="module")
def vocab(released_vocab):
    return str(released_vocab("bert-base-uncased"))


def flags(tmp_path, vocab, **changes):
    defaults = {
        "input_file": str(GOLDEN / "sample_text.txt"),
        "output_file": str(tmp_path / "out.tfrecord"),
        "vocab_file": vocab,
        "max_seq_length": LENGTH,
        "max_predictions_per_seq": MASKS,
        "dupe_factor": 2,
    }
    return PretrainingDataConfig(**defaults | changes)


def rows_of(path, length=LENGTH, masks=MASKS, dynamic=False):
    file = records.RecordFile(str(path), records.pretraining_spec(length, masks, dynamic))
    return file.batch(np.arange(len(file)))


# ------------------------------------------------------------------------------ Google's bytes


def recorded_order(path, lengths):
    """The features in the order in which they are in the file's examples."""
    start = path.read_bytes()[:4000]
    return sorted(
        lengths, key=lambda n: start.index(b"\n" + bytes([len(n)]) + n.encode() + b"\x12")
    )


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (["default"], {}),
        (
            ["wwm_a", "wwm_b"],
            {
                "max_seq_length": 96,
                "max_predictions_per_seq": 15,
                "dupe_factor": 3,
                "do_whole_word_mask": True,
                "random_seed": 99,
                "short_seq_prob": 0.3,
            },
        ),
    ],
)
def test_files_are_googles_byte_for_byte(tmp_path, vocab, monkeypatch, names, changes):
    files = [tmp_path / f"{name}.tfrecord" for name in names]
    config = flags(tmp_path, vocab, output_file=",".join(map(str, files)), **changes)
    lengths = pretraining_data._lengths(config)
    order = recorded_order(GOLDEN / files[0].name, lengths)
    monkeypatch.setattr(
        pretraining_data, "_lengths", lambda config: {name: lengths[name] for name in order}
    )
    pretraining_data.run(config)
    for file in files:
        assert file.read_bytes() == (GOLDEN / file.name).read_bytes()


def test_several_input_files_are_one(tmp_path, vocab):
    text = (GOLDEN / "sample_text.txt").read_text("utf-8")
    cut = text.index("\n", len(text) // 2) + 1
    (tmp_path / "1.txt").write_text(text[:cut], "utf-8")
    with gzip.open(tmp_path / "2.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text[cut:])
    pretraining_data.run(flags(tmp_path, vocab, output_file=str(tmp_path / "whole")))
    both = f"{tmp_path}/1.txt,{tmp_path}/2.*"
    pretraining_data.run(flags(tmp_path, vocab, input_file=both))
    assert (tmp_path / "out.tfrecord").read_bytes() == (tmp_path / "whole").read_bytes()


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=9),
    st.integers(0, 9),
    st.integers(0, 70000),
)
def test_rows_are_the_examples_that_tensorflow_reads(ids, weights, units):
    lengths = {"input_ids": 9, "masked_lm_weights": 9, "masking_units": 1, "labels": 1}
    data = RowEncoder(lengths, 70001)(
        {
            "input_ids": ids,
            "masked_lm_weights": [0] * weights,
            "masking_units": [units],
            "labels": b"\1",
        }
    )
    example = tf.train.Example.FromString(data)
    features = {name: feature for name, feature in example.features.feature.items()}
    assert list(features["input_ids"].int64_list.value) == ids + [0] * (9 - len(ids))
    expected = [1.0] * weights + [0.0] * (9 - weights)
    assert list(features["masked_lm_weights"].float_list.value) == expected
    assert list(features["masking_units"].int64_list.value) == [units]
    again = tf.train.Example()
    for name, feature in features.items():
        again.features.feature[name].CopyFrom(feature)
    assert len(again.SerializeToString()) == len(data)


def test_records_are_tensorflows(tmp_path):
    path = str(tmp_path / "x")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"some data")
    assert Path(path).read_bytes() == record(b"some data")


# --------------------------------------------------------------------------------- what is masked


def test_what_a_row_says_is_true(tmp_path, vocab):
    counts = pretraining_data.run(flags(tmp_path, vocab, dupe_factor=5))
    rows = rows_of(tmp_path / "out.tfrecord")
    assert counts.rows == len(rows["input_ids"])
    assert counts.masked == rows["masked_lm_weights"].sum()
    real = rows["masked_lm_weights"] > 0
    masked = np.take_along_axis(rows["input_ids"], rows["masked_lm_positions"], 1)[real]
    labels = rows["masked_lm_ids"][real]
    shares = [(masked == 103).mean(), (masked == labels).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1], atol=0.06)
    assert 0.3 < rows["next_sentence_labels"].mean() < 0.9


def units_of(rows):
    """Of the first row: the positions of each unit."""
    numbers = rows["masking_units"][0]
    return [np.flatnonzero(numbers == n) for n in range(1, numbers.max() + 1)]


@pytest.mark.parametrize("max_ngram", [1, 3])
def test_units_cover_all_but_special_pieces(tmp_path, vocab, max_ngram):
    config = flags(
        tmp_path, vocab, dynamic_masking=True, do_whole_word_mask=True, max_ngram=max_ngram
    )
    pretraining_data.run(config)
    rows = rows_of(tmp_path / "out.tfrecord", dynamic=True)
    special = np.isin(rows["input_ids"], [0, 101, 102])
    np.testing.assert_array_equal(rows["masking_units"] == 0, special)
    tokenizer = FullTokenizer(vocab)
    words = []
    for unit in units_of(rows):
        tokens = [tokenizer.inv_vocab[i] for i in rows["input_ids"][0, unit]]
        words.append(sum(not token.startswith("##") for token in tokens))
    assert max(words[1:]) <= max_ngram
    assert (max_ngram == 1) == (max(words[1:]) == 1)


def test_chinese_words_are_masked_whole(tmp_path, released_vocab):
    pytest.importorskip("jieba")
    text = tmp_path / "zh.txt"
    text.write_text("北京是中国的首都。\n上海位于长江入海口。\n\n机器学习很有意思。\n", "utf-8")
    vocab = str(released_vocab("bert-base-chinese"))
    config = flags(
        tmp_path,
        vocab,
        input_file=str(text),
        do_whole_word_mask=True,
        word_segmenter="jieba",
        dynamic_masking=True,
        sentence_pairs="none",
        short_seq_prob=0.0,
    )
    pretraining_data.run(config)
    rows = rows_of(tmp_path / "out.tfrecord", dynamic=True)
    assert rows["input_ids"].max() < 21128
    tokenizer = FullTokenizer(vocab)
    units = [
        "".join(tokenizer.inv_vocab[i] for i in rows["input_ids"][row, numbers == unit])
        for row, numbers in enumerate(rows["masking_units"])
        for unit in range(1, numbers.max() + 1)
    ]
    assert {"北京", "中国", "首都", "长江"} <= set(units)


# ----------------------------------------------------------------------------- kinds of rows

DOCUMENTS = [[[10, 11, 12], [13, 14]], [[20, 21], [22], [23, 24, 25]], [[30, 31, 32, 33]]]


def instances(documents, vocab, seed=0, **changes):
    defaults = {
        "max_seq_length": 10,
        "max_predictions_per_seq": 2,
        "masked_lm_prob": 0.0,
        "short_seq_prob": 0.0,
        "do_whole_word_mask": False,
        "max_ngram": 1,
        "sentence_pairs": "next_sentence",
        "dynamic_masking": True,
    }
    maker = InstanceMaker(
        FullTokenizer(vocab), InstanceSettings(**defaults | changes), random.Random(seed)
    )
    return [x for i in range(len(documents)) for x in maker.of_document(documents, i)], maker


def parts(instance):
    ids = instance.input_ids[1:-1]
    cut = instance.length_a - 2
    return ids[:cut], ids[cut + 1 :]


def test_order_of_sentences(vocab):
    labels = set()
    for seed in range(20):
        rows, _ = instances(DOCUMENTS, vocab, seed, sentence_pairs="sentence_order")
        for row in rows:
            a, b = parts(row)
            assert row.next_sentence_label == (a[0] > b[0])
            assert a[0] // 10 == b[0] // 10  # of one document
            labels.add(row.next_sentence_label)
    assert labels == {0, 1}


@pytest.mark.parametrize("length", [6, 7, 8, 10])
def test_single_texts_hold_the_whole_corpus(vocab, length):
    rows, _ = instances(DOCUMENTS, vocab, sentence_pairs="none", max_seq_length=length)
    assert max(len(row.input_ids) for row in rows) <= length
    pieces = sorted(i for row in rows for i in row.input_ids[1:-1])
    assert pieces == sorted(i for document in DOCUMENTS for s in document for i in s)
    assert all(row.length_a == len(row.input_ids) for row in rows)
    assert not any(row.next_sentence_label for row in rows)


def test_what_cannot_be_cut_in_two_is_counted(vocab):
    rows, maker = instances([[[7]]], vocab, sentence_pairs="sentence_order")
    assert (rows, maker.dropped) == ([], 1)


def test_random_next_sentences_are_of_another_document(vocab):
    for seed in range(20):
        for row in instances(DOCUMENTS, vocab, seed)[0]:
            a, b = parts(row)
            assert row.next_sentence_label == (a[0] // 10 != b[0] // 10)


# ---------------------------------------------------------------------------- several workers


@pytest.fixture
def small_blocks(monkeypatch):
    """Worker processes import the module anew: the size is told to this one, which cuts."""
    monkeypatch.setattr(pretraining_data, "BLOCK", 1500)


def test_workers_make_the_same_rows_however_many(tmp_path, vocab, small_blocks):
    found = []
    for workers in (2, 3):
        names = [tmp_path / f"{workers}-{i}.tfrecord.gz" for i in range(2)]
        config = flags(tmp_path, vocab, num_workers=workers, output_file=",".join(map(str, names)))
        counts = pretraining_data.run(config)
        found.append([name.read_bytes() for name in names])
        assert counts.documents == 3 + counts.documents_cut
    assert found[0] == found[1]
    plain = gzip.decompress(found[0][0])
    (tmp_path / "plain").write_bytes(plain)
    np.testing.assert_array_equal(
        rows_of(tmp_path / "plain")["input_ids"], rows_of(names[0])["input_ids"]
    )


@given(sizes=st.lists(st.lists(st.integers(1, 900), min_size=1, max_size=5), max_size=12))
def test_blocks_hold_every_sentence_and_two_documents(sizes):
    documents = [["x" * n for n in sentences] for sentences in sizes]
    before, pretraining_data.BLOCK = pretraining_data.BLOCK, 1000
    try:
        counts = pretraining_data.Counts()
        blocks = list(pretraining_data.blocks(documents, counts))
    finally:
        pretraining_data.BLOCK = before
    assert [s for b in blocks for d in b for s in d] == [s for d in documents for s in d]
    assert sum(map(len, blocks)) == len(documents) + counts.documents_cut
    if len(blocks) > 1:
        assert min(map(len, blocks)) >= 2


# -------------------------------------------------------------------------------- reading texts


def read(tmp_path, content, form):
    path = tmp_path / "corpus"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    corpus = Corpus([str(path)], form)
    return list(corpus.documents()), corpus


def test_plain_text(tmp_path):
    text = "\ufeffOne sentence. And another one?\nMore of it.\n\n\n  A second document.  \n"
    documents, _ = read(tmp_path, text, "text")
    assert documents == [
        ["One sentence.", "And another one?", "More of it."],
        ["A second document."],
    ]


def test_json_lines(tmp_path):
    rows = [{"text": "One. Two.\nThree."}, {"text": ""}, {"text": "Four.", "id": 7}]
    documents, _ = read(tmp_path, "\n".join(map(json.dumps, rows)), "jsonl")
    assert documents == [["One.", "Two.", "Three."], ["Four."]]


def test_chinese_sentences():
    text = "北京是中国的首都。它很大！“你好吗？”她问。2020年，GDP为3.5万亿……是吗"
    assert split_sentences(text) == [
        "北京是中国的首都。",
        "它很大！",
        "“你好吗？”",
        "她问。",
        "2020年，GDP为3.5万亿……",
        "是吗",
    ]


@given(st.text(max_size=300))
def test_no_character_of_a_paragraph_is_lost(text):
    found = "".join(split_sentences(text))
    assert "".join(found.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("jsonl", '{"text": "a"}\n[1]', "corpus:2: expected a JSON object"),
        ("jsonl", '{"txt": "a"}', "corpus:1: column 'text' is missing.*Did you mean 'txt'"),
        ("jsonl", '{"text": ["a"]}', "corpus:1: column 'text' must be text or a number"),
        ("google", "a".encode("utf-16"), "corpus:1: the file is UTF-16; save it as UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path, form, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content, form)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", "a".encode("utf-16"), r"bad\.txt:1: the file is UTF-16"),
        ("bad.gz", b"plain text", r"bad\.gz: cannot be unpacked \(Not a gzipped file"),
        ("bad.gz", gzip.compress(b"some text")[:-9], r"bad\.gz: cannot be unpacked \(Compressed"),
    ],
)
def test_every_file_is_opened_before_the_first_is_read(
    name, content, message, tmp_path, vocab, monkeypatch
):
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(Corpus, "documents", lambda self: pytest.fail("the work has begun"))
    files = f"{GOLDEN}/sample_text.txt,{tmp_path}/{name}"
    with pytest.raises(ValueError, match=message):
        pretraining_data.run(flags(tmp_path, vocab, input_file=files))
    assert not (tmp_path / "out.tfrecord").exists()


def test_bytes_that_are_not_text_are_left_out_and_counted(tmp_path):
    documents, corpus = read(tmp_path, b"caf\xe9 noir\ngood\n", "google")
    assert documents == [["caf noir", "good"]]
    assert corpus.bad_bytes == 1
    assert corpus.warning().startswith("1 of 2 lines hold bytes that are not UTF-8")
    assert "give --encoding=cp1252" in corpus.warning()
    again = Corpus(corpus.files, "google", "cp1252")
    assert list(again.documents()) == [["café noir", "good"]] and again.warning() is None
    with pytest.raises(ValueError, match="corpus:1: --encoding=ascii is not that of this line"):
        list(Corpus(corpus.files, "google", "ascii").documents())


@settings(max_examples=30)
@given(content=st.binary(max_size=300), form=st.sampled_from(["google", "text"]))
def test_any_file_is_read_or_refused(tmp_path_factory, vocab, content, form):
    folder = tmp_path_factory.mktemp("any")
    (folder / "x.txt").write_bytes(content)
    config = flags(folder, vocab, input_file=f"{folder}/x.txt", input_format=form)
    try:
        counts = pretraining_data.run(config)
    except ValueError as error:
        reasons = ("no text in 1 files", "UTF-16", "is no text file, but")
        assert any(reason in str(error) for reason in reasons)
        assert sorted(path.name for path in folder.iterdir()) == ["x.txt"]
    else:
        assert len(rows_of(folder / "out.tfrecord")["input_ids"]) == counts.rows > 0


def test_a_line_of_a_megabyte_is_cut_into_rows(tmp_path, vocab):
    (tmp_path / "x.txt").write_text("word " * 200_000)
    config = flags(
        tmp_path,
        vocab,
        input_file=f"{tmp_path}/x.txt",
        input_format="text",
        sentence_pairs="none",
        dupe_factor=1,
        short_seq_prob=0.0,
    )
    counts = pretraining_data.run(config)
    assert counts.pieces == 200_000
    assert counts.rows == -(-200_000 // (LENGTH - 2))


# ---------------------------------------------------------------------------- the whole program


def test_an_interrupted_run_leaves_nothing(tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "b")]
    (tmp_path / "a.77.partial").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), open_records(paths) as writer:
        writer.write(b"x")
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_remote_files(vocab, tmp_path):
    gfile = tf.io.gfile
    gfile.makedirs("ram://corpus")
    with gfile.GFile("ram://corpus/text.txt.gz", "wb") as file:
        file.write(gzip.compress((GOLDEN / "sample_text.txt").read_bytes()))
    output = "ram://rows/a.tfrecord,ram://rows/b.tfrecord.gz"
    config = flags(tmp_path, vocab, input_file="ram://corpus/t*", output_file=output)
    assert pretraining_data.run(config).documents == 3
    assert gfile.listdir("ram://rows") == ["a.tfrecord", "b.tfrecord.gz"]
    pretraining_data.run(flags(tmp_path, vocab, output_file=f"{tmp_path}/a,{tmp_path}/b"))
    spec = records.pretraining_spec(LENGTH, MASKS)
    files = [records.RecordFile(path, spec) for path in (*output.split(","), f"{tmp_path}/b")]
    for name, values in files[1].batch([0, 5]).items():
        np.testing.assert_array_equal(values, files[2].batch([0, 5])[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_file": "nowhere*"}, r"--input_file=nowhere\*: there is no file"),
        ({"dupe_factor": 0}, "--dupe_factor=0: give 1 or more"),
        ({"max_seq_length": 4}, "--max_seq_length=4 leaves no room"),
        ({"masked_lm_prob": 1.5}, "--masked_lm_prob=1.5: give a share"),
        ({"vocab_file": None}, "give one of --vocab_file and --spm_model_file"),
        ({"word_segmenter": "jieba"}, "--do_whole_word_mask=true"),
        ({"output_file": "a,,b"}, "a name is empty or there twice"),
    ],
)
def test_bad_flags_are_named(tmp_path, vocab, changes, message):
    with pytest.raises(ValueError, match=message):
        pretraining_data.run(flags(tmp_path, vocab, **changes))


def test_the_corpus_is_not_replaced(tmp_path, vocab):
    """Under its own name, by a link, or one of several files that a pattern finds."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes((GOLDEN / "sample_text.txt").read_bytes())
    (tmp_path / "link").symlink_to(corpus)
    (tmp_path / "same").hardlink_to(corpus)
    for output in ("corpus.txt", "link", "same", "x/../corpus.txt", "new,corpus.txt"):
        names = ",".join(str(tmp_path / name) for name in output.split(","))
        changes = {"input_file": f"{tmp_path}/*.txt", "output_file": names}
        with pytest.raises(ValueError, match=r"--output_file: .* is read.*give another name"):
            pretraining_data.run(flags(tmp_path, vocab, **changes))
    with pytest.raises(ValueError, match=r"--output_file: .*vocab.* is read"):
        pretraining_data.run(flags(tmp_path, vocab, output_file=vocab))
    assert corpus.read_bytes() == (GOLDEN / "sample_text.txt").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "link", "same"]


def test_script_makes_rows_without_tensorflow(tmp_path, vocab):
    code = (
        "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv[:] = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [
        *(sys.executable, "-c", code, "create_pretraining_data.py"),
        f"--input_file={GOLDEN}/sample_text.txt",
        f"--output_file={tmp_path}/new/out.tfrecord",
        f"--vocab_file={vocab}",
    ]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "3 documents, 31 sentences, 1019 pieces" in ran.stdout
    assert len(rows_of(tmp_path / "new" / "out.tfrecord", 128, 20)["input_ids"])


def test_corpus_forms_are_those_of_the_flag():
    assert corpora.INPUT_FORMATS == ("google", "text", "jsonl")
