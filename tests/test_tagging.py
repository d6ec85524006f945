"""Tagging tasks: files to labels, to rows of the model, and predictions back to files."""

import dataclasses
import json
import re

import numpy as np
import pytest
from conlleval import conlleval
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report

from bert_tf.data import records
from bert_tf.data.tag_schemes import TagSet
from bert_tf.data.tagging import KINDS, TaggedFile, TaggingExample, TaggingTask, rarest_labels
from bert_tf.data.tagging_features import stitch, window_rows
from bert_tf.data.text_files import BadRow, BadRows
from bert_tf.data.windows import max_context, window_bounds
from bert_tf.tokenization import FullTokenizer

SENTENCES = [("Ada", "met", "Bob", "Lee", "."), ("In", "Rome", "!")]
LABELS = [("B-PER", "O", "B-PER", "I-PER", "O"), ("O", "B-LOC", "O")]
FILES = {
    "conll": "Ada S-PER\nmet O\nBob B-PER\nLee E-PER\n. O\n\nIn O\nRome S-LOC\n! O\n",
    "tsv": "text\tlabel\nAda met Bob Lee .\tS-PER O B-PER E-PER O\nIn Rome !\tO S-LOC O\n",
    "jsonl": '{"text": "Ada met Bob Lee.", "label": [[0, 3, "PER"], [8, 15, "PER"]]}\n'
    '{"text": "In Rome!", "label": [{"start": 3, "end": 7, "label": "LOC"}]}\n',
    "cluener": '{"text": "Ada met Bob Lee.", "label": {"PER": {"Ada": [[0, 2]], "Bob Lee": '
    '[[8, 14]]}}}\n{"text": "In Rome!", "label": {"LOC": {"Rome": [[3, 6]]}}}\n',
}
ENDING = {"conll": ".txt", "tsv": ".tsv", "jsonl": ".jsonl", "cluener": ".json"}


@pytest.fixture(scope="module")
def tokenizer(released_vocab):
    return FullTokenizer(released_vocab("bert-base-uncased"))


def save(folder, kind, text, split="train"):
    (folder / (split + ENDING[kind])).write_text(text, "utf-8")
    return TaggingTask(kind).path(str(folder), split)


@pytest.mark.parametrize("kind", KINDS)
def test_four_forms_of_two_sentences(tmp_path, kind, tokenizer):
    task, path = TaggingTask(kind), save(tmp_path, kind, FILES[kind])
    tag_set = task.tag_set(path)
    assert tag_set.labels == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
    file = task.read(path, tag_set, tokenizer)
    assert [example.words for example in file.examples] == SENTENCES
    assert [example.labels for example in file.examples] == LABELS
    scheme = "" if kind in ("jsonl", "cluener") else ", BIOES tags"
    assert str(file) == f"{path}: 2 sentences, 8 words{scheme}"
    assert file.scores(LABELS) == {
        **{"f1": 1.0, "precision": 1.0, "recall": 1.0, "support": 3, "accuracy": 1.0},
        "types": {
            "LOC": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "support": 1},
            "PER": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "support": 2},
        },
    }
    worse = file.scores([("B-PER", "O", "B-PER", "O", "O"), ("O", "B-PER", "O")])
    assert worse["precision"] == worse["recall"] == 1 / 3 and worse["accuracy"] == 6 / 8

    # A file with the predictions is read as the original.
    (tmp_path / "again").mkdir()
    again = save(tmp_path / "again", kind, file.predictions(LABELS))
    reread = TaggingTask(kind, label_column="predicted" if kind == "tsv" else "label")
    assert reread.read(again, tag_set, tokenizer).scores(LABELS)["f1"] == 1.0

    untagged = task.read(path, tag_set, tokenizer, tagged=False)
    assert [example.words for example in untagged.examples] == SENTENCES
    assert untagged.predictions(LABELS) == file.predictions(LABELS)
    with pytest.raises(ValueError, match="0 sentences and predictions for 2"):
        untagged.scores(LABELS)


def test_parts_of_speech_and_word_segmentation(tmp_path, tokenizer):
    task, path = TaggingTask("conll"), save(tmp_path, "conll", "a DT\nb NN\n")
    tag_set = task.tag_set(path)
    assert tag_set == TagSet("none", ("DT", "NN"))
    file = task.read(path, tag_set, tokenizer)
    assert str(file).endswith("1 sentences, 2 words, a class for each tag")
    assert file.scores([("DT", "DT")]) == {"accuracy": 0.5}
    assert file.predictions([("NN", "DT")]) == "a DT NN\nb NN DT\n"

    path = save(tmp_path, "conll", "北 B\n京 E\n人 S\n")
    file = task.read(path, task.tag_set(path), tokenizer)
    assert [e.labels for e in file.examples] == [("B", "I", "B")]
    scores = file.scores([("B", "I", "I")])
    assert scores == {"f1": 0, "precision": 0, "recall": 0, "support": 2, "accuracy": 2 / 3}
    assert file.predictions([("B", "I", "I")]) == "北 B B\n京 E M\n人 S E\n"


def test_what_was_repaired_is_said(tmp_path, tokenizer):
    task = TaggingTask("conll", tag_scheme="IOB2")
    path = save(tmp_path, "conll", "a I-X\nb I-X\nc B-Y\nd I-X\n")
    file = task.read(path, task.tag_set(path), tokenizer)
    assert [e.labels for e in file.examples] == [("B-X", "I-X", "B-Y", "B-X")]
    assert "IOB2 tags, 2 tags out of order, read as conlleval reads them" in str(file)


def test_misaligned_entities_are_widened_counted_and_never_found(tmp_path, tokenizer):
    task = TaggingTask("jsonl")
    path = save(tmp_path, "jsonl", '{"text": "Nonsmokers x", "label": [[3, 10, "P"]]}\n')
    file = task.read(path, task.tag_set(path), tokenizer)
    assert [e.labels for e in file.examples] == [("B-P", "O")]
    assert str(file).endswith("2 words, 1 entities do not begin and end with a word")
    scores = file.scores([("B-P", "O")])
    assert (scores["f1"], scores["accuracy"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("conll", "", r"txt: no sentences in this file"),
        ("conll", "\n\n-DOCSTART- O\n\n# a = b\n\n", r"txt: no sentences in this file"),
        ("tsv", "text\tlabel\n", r"tsv: no sentences in this file"),
        ("tsv", "", r"tsv:1: column 'label' is missing"),
        ("jsonl", "", r"jsonl:1: not a JSON object"),
        ("jsonl", '{"text": "\\u200b ", "label": []}', r"jsonl:1: there is no word in the text"),
        (
            "jsonl",
            '{"text": "a", "label": [[0, 1, "Z"]]}',
            r"jsonl:1: unknown tag 'B-Z'\. Did you mean",
        ),
        ("conll", "a B-X\nb O\n\nc B-Z\n", r"txt:4: unknown tag 'B-Z'\. Did you mean 'B-X'"),
        ("tsv", "text\tlabel\na\tE-X\n", r"tsv:2: unknown tag 'E-X': IOB2 has O and the"),
    ],
)
def test_bad_files(tmp_path, tokenizer, kind, text, message):
    tag_set = TagSet("IOB2", ("O", "B-X", "I-X"))
    path = save(tmp_path, kind, text)
    with pytest.raises(ValueError, match=message):
        TaggingTask(kind).read(path, tag_set, tokenizer)


GOLD = ["O", "B-PER", "I-PER", "B-DATE", "I-DATE", "E-LOC"]
GUESS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
tagged_words = st.tuples(st.sampled_from(GOLD), st.sampled_from(GUESS))


@given(st.lists(st.lists(tagged_words, min_size=1, max_size=8), min_size=1, max_size=4))
def test_tags_that_training_has_not_seen_are_missed(sentences):
    """As seqeval and conlleval count them, from the tags as they stand in the file."""
    sentences = [[("B-PER", "O")], *sentences]  # seqeval reports no file without entities
    tag_set = TagSet("IOB2", ("O", "B-LOC", "B-PER", "I-LOC", "I-PER"))
    gold = [[a for a, _ in words] for words in sentences]
    guess = [[b for _, b in words] for words in sentences]
    examples = [
        TaggingExample(1, ("w",) * len(tags), tuple(tag_set.to_labels(tags, evaluated=True)))
        for tags in gold
    ]
    scores = TaggedFile("x", TaggingTask("conll"), tag_set, examples).scores(guess)
    report = classification_report(gold, guess, output_dict=True, zero_division=0)
    official = conlleval("\n\n".join("\n".join(map(" ".join, words)) for words in sentences))
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "support": "support"}
    for name, theirs in names.items():
        assert scores[name] == pytest.approx(report["micro avg"][theirs], abs=1e-12)
        assert scores[name] == pytest.approx(official[name], abs=1e-12)
        for kind, values in scores["types"].items():
            assert values[name] == pytest.approx(report[kind][theirs], abs=1e-12)


def test_unknown_tags_are_taken_for_evaluation_and_said(tmp_path, tokenizer):
    tag_set = TagSet("IOB2", ("O", "B-PER", "I-PER"))
    path = save(tmp_path, "conll", "Ada B-PER\nran O\nMonday B-DATE\nat X\n")
    with pytest.raises(ValueError, match=r"txt:1: unknown tag 'X'|txt:1: unknown tag 'B-DATE'"):
        TaggingTask("conll").read(path, tag_set, tokenizer)
    file = TaggingTask("conll").read(path, tag_set, tokenizer, evaluated=True)
    assert file.examples[0].labels == ("B-PER", "O", "B-DATE", "X")
    assert file.doubts() == [
        "2 of 4 words have a tag that the model has not learnt: B-DATE (1), X (1); they count as "
        "missed, and the loss leaves out their rows"
    ]
    scores = file.scores([("B-PER", "O", "O", "O")])
    assert (scores["recall"], scores["precision"], scores["accuracy"]) == (0.5, 1.0, 0.5)
    ids = {"O": 0, "B-PER": 1, "I-PER": 2}
    windows = [window for _, window in window_rows(file.examples, tokenizer, ids, 5, 2)]
    assert [window.learnt for window in windows] == [False, False]
    path = save(tmp_path, "conll", "a B-X\n")
    tags = TaggingTask("conll").read(path, TagSet("none", ("NN", "DT")), tokenizer, evaluated=True)
    assert tags.unknown == {"B-X": 1}


def test_columns_are_those_of_the_training_file(tmp_path, tokenizer):
    train = save(tmp_path, "conll", "EU NNP B-NP B-ORG\nran VBZ B-VP O\n")
    task = TaggingTask("conll")
    task = dataclasses.replace(task, layout=task.columns(train))
    tag_set = task.tag_set(train)
    test = save(tmp_path, "conll", "EU NNP B-NP\nran VBZ B-VP\n", "test")
    assert not task.is_tagged(test)
    assert task.read(test, tag_set, tokenizer, tagged=False).examples[0].words == ("EU", "ran")
    with pytest.raises(ValueError, match=r"test\.txt: there are 3 columns, but 4 in the training"):
        task.read(test, tag_set, tokenizer)
    more = save(tmp_path, "conll", "EU NNP B-NP B-ORG B-X\n", "dev")
    assert task.is_tagged(more) and task.read(more, tag_set, tokenizer).examples[0].labels
    named = dataclasses.replace(task, tag_column=2)
    assert named.is_tagged(test)
    for text in ("EU\nran\n", ""):
        assert not task.is_tagged(save(tmp_path, "conll", text, "test"))


@pytest.mark.parametrize(
    ("kind", "text", "doubt"),
    [
        ("tsv", "text\tlabel\na,b\tO,B-X\nc,d\tO,O\n", "2 of 2 sentences have one word only; ther"),
        ("conll", "a O\n\nb X\n\nc d\n", "3 of 3 sentences have one word only; there must be bla"),
        ("jsonl", '{"text": "a", "label": [[0, 1, "X"]]}\n', "1 of 1 sentences have one word only"),
        ("conll", "a O\nb O\x03B-X\n", r"the class 'O\\x03B-X' holds a control character; what"),
        ("conll", "a O\nb B-X\n" * 501, "all 1002 words are one sentence; is nothing between"),
    ],
)
def test_what_is_hardly_meant_so_is_said(tmp_path, tokenizer, kind, text, doubt):
    path = save(tmp_path, kind, text)
    tag_set = TagSet("none", ("O", "X", "d", "O,B-X", "O,O", "O\x03B-X", "B-X"))
    (found,) = TaggingTask(kind).read(path, tag_set, tokenizer).doubts()
    assert re.match(doubt, found)


@pytest.mark.parametrize("kind", KINDS)
def test_files_in_another_encoding(tmp_path, tokenizer, kind):
    path = save(tmp_path, kind, "")
    text = FILES[kind].replace("Bob", "Bøb")
    with open(path, "w", encoding="cp1252") as file:
        file.write(text)
    task = TaggingTask(kind, encoding="cp1252")
    assert task.is_tagged(path)
    file = task.read(path, task.tag_set(path), tokenizer)
    assert file.examples[0].words == ("Ada", "met", "Bøb", "Lee", ".")
    assert file.scores(LABELS)["f1"] == 1.0
    assert "Bøb" in file.predictions(LABELS)
    with pytest.raises(ValueError, match="is not UTF-8"):
        TaggingTask(kind).tag_set(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sentence_that_is_not_utf8_is_a_bad_row(tmp_path, tokenizer, kind):
    """Left out where bad rows are; a line that is copied all the same becomes UTF-8."""
    path, task, bad = save(tmp_path, kind, FILES[kind]), TaggingTask(kind), BadRows(skip=True)
    with open(path, "wb") as file:
        file.write(FILES[kind].encode().replace(b"met", b"m\xe9t"))
    with pytest.raises(BadRow, match=r":[12]: byte 0xe9 is not UTF-8 text; save the file as UTF-8"):
        task.tag_set(path)
    tag_set = task.tag_set(path, BadRows(skip=True).add)
    found = task.read(path, tag_set, tokenizer, on_bad=bad.add)
    assert [example.words for example in found.examples] == SENTENCES[1:] and len(bad.found) == 1
    written = found.predictions(LABELS[1:])
    assert ("m\ufffdt" in written.encode().decode()) == (kind in ("conll", "tsv"))


def test_ranges_of_conll_u_are_counted(tmp_path, tokenizer):
    text = "1-2\tal\t_\n1\ta\tX\n2\tel\tY\n"
    task = TaggingTask("conll", word_column=1)
    path = save(tmp_path, "conll", text)
    file = task.read(path, task.tag_set(path), tokenizer)
    assert str(file).endswith(
        "2 words, a class for each tag, 1 lines with CoNLL-U's ranges and empty nodes skipped"
    )
    assert file.predictions([("Y", "X")]) == "1-2\tal\t_\t_\n1\ta\tX\tY\n2\tel\tY\tX\n"


def test_the_rarest_label_of_a_sentence():
    labels = [("O", "B-X"), ("O", "B-X", "B-Y"), ("O", "O")]
    assert rarest_labels([TaggingExample(1, ("w",), tags) for tags in labels]) == [
        "B-X",
        "B-Y",
        "O",
    ]


def test_bad_rows_are_left_out_if_someone_counts_them(tmp_path, tokenizer):
    tag_set, bad = TagSet("IOB2", ("O", "B-X", "I-X")), []
    path = save(tmp_path, "conll", "a B-X\n\nb B-Z\n\nc\n\nd O\n")
    file = TaggingTask("conll").read(path, tag_set, tokenizer, on_bad=bad.append)
    assert [e.words for e in file.examples] == [("a",), ("d",)]
    assert sorted(error.line for error in bad) == [3, 5]


def test_tasks_and_their_files(tmp_path):
    assert TaggingTask("conll").path("x", "dev") == "x/dev.conll"
    for split, name in (("train", "eng.train"), ("dev", "eng.testa"), ("test", "deu.testb")):
        (tmp_path / name).touch()
        assert TaggingTask("conll").path(str(tmp_path), split) == str(tmp_path / name)
    (tmp_path / "dev.txt").touch()
    assert TaggingTask("conll").path(str(tmp_path), "dev") == str(tmp_path / "dev.txt")
    with pytest.raises(ValueError, match=r"Task not found: conl\. Did you mean 'conll'"):
        TaggingTask("conl")
    with pytest.raises(ValueError, match="--tag_scheme=IOB2: jsonl has no tags"):
        TaggingTask("jsonl", tag_scheme="IOB2")
    with pytest.raises(ValueError, match="unknown tag scheme 'BIO'"):
        TaggingTask("conll", tag_scheme="BIO")
    path = save(tmp_path, "conll", "a O\n")
    with pytest.raises(ValueError, match=r"two labels or more; this file has \['O'\]"):
        TaggingTask("conll").tag_set(path)
    with pytest.raises(ValueError, match="train.tsv: cannot be read"):
        TaggingTask("tsv").tag_set(TaggingTask("tsv").path(str(tmp_path), "train"))


# ----------------------------------------------------------------------------- rows


def rows_of(sentences, tokenizer, max_seq_length, doc_stride=128, labels=("O", "B-X")):
    examples = [TaggingExample(1, tuple(w), None if t is None else tuple(t)) for w, t in sentences]
    ids = {label: number for number, label in enumerate(labels)}
    pairs = list(window_rows(examples, tokenizer, ids, max_seq_length, doc_stride))
    return examples, [row for row, _ in pairs], [window for _, window in pairs]


def test_a_row(tokenizer, tmp_path):
    words, tags = ("Unaffable", "\u200b", "ate"), ("B-X", "O", "B-X")
    _, rows, (window,) = rows_of([(words, tags)], tokenizer, 9)
    tokens = tokenizer.convert_ids_to_tokens(rows[0]["input_ids"])
    assert " ".join(tokens) == "[CLS] una ##ffa ##ble [UNK] ate [SEP] [PAD] [PAD]"
    assert rows[0]["input_mask"] == [1] * 7 + [0] * 2
    assert rows[0]["segment_ids"] == [0] * 9
    assert rows[0]["label_ids"] == [0, 1, 0, 0, 0, 1, 0, 0, 0]
    assert rows[0]["label_mask"] == [0, 1, 0, 0, 1, 1, 0, 0, 0]
    assert (list(window.positions), list(window.words)) == ([1, 4, 5], [0, 1, 2])
    path = str(tmp_path / "x.tf_record")
    spec = records.tagging_spec(9)
    records.write(path, rows, spec)
    batch = records.RecordFile(path, spec).batch([0])
    assert {name: value[0].tolist() for name, value in batch.items()} == rows[0]


def test_one_very_long_word_makes_no_row_without_a_word(tokenizer):
    word = "x" * 60  # 31 pieces or so
    examples, rows, windows = rows_of([((word, "a"), ("B-X", "O"))], tokenizer, 8, 2)
    assert len(tokenizer.encode(word)) > 20
    assert all(sum(row["label_mask"]) for row in rows)
    outputs = [np.array(row["label_ids"]) for row in rows]
    assert stitch(examples, windows, outputs, ("O", "B-X")) == [["B-X", "O"]]


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "nonsmokers", "\u200b", "é", "."]), min_size=1, max_size=30),
        min_size=1,
        max_size=3,
    ),
    st.integers(3, 12),
    st.integers(1, 12),
)
def test_every_word_has_one_prediction_its_own(tokenizer, sentences, max_seq_length, doc_stride):
    labels = [str(number) for number in range(30)]  # each word its own
    tagged = [(words, labels[: len(words)]) for words in sentences]
    examples, rows, windows = rows_of(tagged, tokenizer, max_seq_length, doc_stride, labels)
    assert all(sum(row["label_mask"]) for row in rows)
    outputs = [np.array(row["label_ids"]) for row in rows]
    assert stitch(examples, windows, outputs, labels) == [list(tags) for _, tags in tagged]
    shown = sorted((w.example, word) for w in windows for word in w.words)
    assert shown == [(n, word) for n, words in enumerate(sentences) for word in range(len(words))]


@pytest.mark.parametrize(("length", "stride", "message"), [(2, 1, "no room"), (9, 0, "1 or more")])
def test_bad_windows(tokenizer, length, stride, message):
    with pytest.raises(ValueError, match=message):
        rows_of([(("a",), ("O",))], tokenizer, length, stride)


def google_is_max_context(bounds, number, position):
    """As run_squad.py says it: of the windows with a piece the first of those scored highest."""
    scores = [
        min(position - start, start + length - 1 - position) + 0.01 * length
        if start <= position < start + length
        else -1
        for start, length in bounds
    ]
    return scores.index(max(scores)) == number


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 25))
def test_windows_and_their_context_are_googles(num_pieces, room, doc_stride):
    bounds = window_bounds(num_pieces, room, doc_stride)
    assert bounds[0][0] == 0 and sum(bounds[-1]) == num_pieces
    assert all(length == room for _, length in bounds[:-1])
    starts = [start for start, _ in bounds]
    assert starts == [min(doc_stride, room) * number for number in range(len(bounds))]
    for number, shown in enumerate(max_context(num_pieces, room, doc_stride)):
        start, length = bounds[number]
        expected = [google_is_max_context(bounds, number, start + i) for i in range(length)]
        assert shown.tolist() == expected


def test_json_predictions_are_one_object_a_line(tmp_path, tokenizer):
    task, path = TaggingTask("jsonl"), save(tmp_path, "jsonl", FILES["jsonl"])
    file = task.read(path, task.tag_set(path), tokenizer)
    found = [json.loads(line)["label"] for line in file.predictions(LABELS).splitlines()]
    assert [[span["text"] for span in spans] for spans in found] == [["Ada", "Bob Lee"], ["Rome"]]
