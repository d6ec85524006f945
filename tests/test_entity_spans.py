"""Texts with entities by characters: read, refused with file and line, aligned to words."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_tf.data.entity_spans import (
    FORMS,
    AnnotatedText,
    align,
    read_spans,
    span_predictions,
    word_spans,
)
from bert_tf.tokenization import FullTokenizer

on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def save(folder, *rows):
    path = folder / "train.jsonl"
    texts = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return str(path)


PLAIN = [{"start": 0, "end": 3, "label": "PER"}, [8, 11, "PER"]]


def test_cluener(tmp_path):
    label = {"name": {"叶老桂": [[9, 11]]}, "company": {"浙商银行": [[0, 3]]}}
    text = "浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读。"
    row = {"text": text, "label": label, "id": 7}
    (read,) = read_spans(save(tmp_path, row), "cluener")
    assert read.entities == (("company", 0, 4), ("name", 9, 12))
    assert (read.text, read.line, read.row) == (text, 1, row)
    written = span_predictions("cluener", "label", [(read, read.entities)])
    assert json.loads(written) == row


def test_spans_as_objects_and_as_lists(tmp_path):
    (read,) = read_spans(save(tmp_path, {"text": "Ada met Bob.", "label": PLAIN}), "jsonl")
    assert read.entities == (("PER", 0, 3), ("PER", 8, 11))
    written = json.loads(span_predictions("jsonl", "found", [(read, [("LOC", 8, 11)])]))
    span = {"start": 8, "end": 11, "label": "LOC", "text": "Bob"}
    assert written == {"text": "Ada met Bob.", "label": PLAIN, "found": [span]}


def test_the_forms_of_doccano(tmp_path):
    """Positions may be called offsets, the column otherwise, and a label may have blanks."""
    offsets = {"id": 4, "label": "Bill number", "start_offset": 5, "end_offset": 7}
    rows = [
        {"text": "Bill 12", "label": [[5, 7, "Bill number"]]},
        {"text": "Bill 12", "labels": [[5, 7, "Bill number"]]},
        {"text": "Bill 12", "entities": [offsets], "relations": []},
        {"text": "Bill 12", "label": [offsets], "entities": []},
    ]
    read = list(read_spans(save(tmp_path, *rows), "jsonl"))
    assert [text.entities for text in read] == [(("Bill number", 5, 7),)] * 4
    predicted = span_predictions("jsonl", "label", [(text, text.entities) for text in read])
    path = save(tmp_path, *predicted.splitlines())
    again = list(read_spans(path, "jsonl"))
    assert [text.entities for text in again] == [(("Bill number", 5, 7),)] * 4
    assert [list(text.row) for text in again] == [list(row) for row in rows]
    bad = {"text": "Bill 12", "entities": [offsets | {"end_offset": "7"}]}
    with pytest.raises(ValueError, match=r"jsonl:1: column 'entities': a position must be a whole"):
        list(read_spans(save(tmp_path, bad), "jsonl"))
    with pytest.raises(ValueError, match="column 'found' is missing"):
        list(read_spans(path, "jsonl", label_column="found"))


def test_labels_may_be_absent_where_they_are_not_read(tmp_path):
    path = save(tmp_path, {"text": "a b"})
    (read,) = read_spans(path, "jsonl", label_column=None)
    assert read.entities is None
    written = span_predictions("cluener", "label", [(read, [("X", 2, 3), ("X", 0, 1)])])
    assert json.loads(written)["label"] == {"X": {"b": [[2, 2]], "a": [[0, 0]]}}
    with pytest.raises(ValueError, match=r"train\.jsonl:1: column 'label' is missing"):
        list(read_spans(path, "jsonl"))


@pytest.mark.parametrize(
    ("form", "label", "message"),
    [
        ("jsonl", [[0, 4, "PER"], [3, 5, "LOC"]], r"PER 'Ada ' and the LOC ' m' overlap; a word"),
        ("jsonl", [[0, 13, "PER"]], "the PER from 0 to before 13 is no part of the text's 12 char"),
        ("jsonl", [[3, 3, "PER"]], "the PER from 3 to before 3 is no part"),
        ("jsonl", [[-1, 3, "PER"]], "the PER from -1 to before 3 is no part"),
        ("jsonl", [[0, 3.0, "PER"]], "a position must be a whole number, not 3.0"),
        ("jsonl", [[0, True, "PER"]], "a position must be a whole number, not True"),
        ("jsonl", [[0, 3, "A "]], "a label must be printable text without blanks .*, not 'A '"),
        ("jsonl", [[0, 3, ""]], "a label must be printable text without blanks around it, not ''"),
        ("jsonl", [[0, 3, "\ud800"]], "a label must be printable text"),
        ("jsonl", [[0, 3]], r"expected start, end and label, got \[0, 3\]"),
        ("jsonl", [{"start": 0, "end": 3}], "a label must be .* not None"),
        ("jsonl", ["PER"], "expected a span as object or list, got 'PER'"),
        ("jsonl", {"PER": {}}, "CLUENER's form; use --task_name=cluener"),
        ("jsonl", None, "expected a list of spans, got None"),
        ("cluener", PLAIN, "for a list use --task_name=jsonl"),
        ("cluener", {"name": {"Bob": [[0, 2]]}}, "'Bob' is 'Ada' in the text"),
        ("cluener", {"name": {"Ada": [[0]]}}, r"expected first and last position, got \[0\]"),
        ("cluener", {"name": {"Ada": [0, 2]}}, "expected a list of two positions, got 0"),
        ("cluener", {"name": {"Ada": [[0, 99]]}}, "from 0 to before 100 is no part"),
        ("cluener", {"name": [[0, 2]]}, "expected an object of mentions"),
    ],
)
def test_bad_spans(tmp_path, form, label, message):
    good = {"text": "x", "label": FORMS[form].value([], "x")}
    path = save(tmp_path, good, json.dumps({"text": "Ada met Bob.", "label": label}))
    with pytest.raises(ValueError, match=rf"train\.jsonl:2: column 'label': .*{message}"):
        list(read_spans(path, form))
    bad = []
    assert [t.line for t in read_spans(path, form, on_bad=bad.append)] == [1]
    assert [error.line for error in bad] == [2]


def test_the_same_span_twice_is_one(tmp_path):
    (read,) = read_spans(save(tmp_path, {"text": "Ada", "label": [PLAIN[0]] * 2}), "jsonl")
    assert read.entities == (("PER", 0, 3),)


def test_other_columns_may_hold_what_utf8_cannot():
    text = AnnotatedText(1, "é", None, {"text": "é", "note": "\ud800"})
    assert json.loads(span_predictions("jsonl", "label", [(text, [])]).encode()) == {
        "text": "é",
        "note": "\ud800",
        "label": [],
    }


hostile = st.recursive(
    st.none() | st.integers(-2, 9) | st.floats() | st.sampled_from(["", "ab", "start", "a b"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["start", "end", "label", "ab", ""]), inner, max_size=4)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("form", FORMS)
@on_disk
@given(label=hostile, text=st.text(max_size=5))
def test_hostile_labels_are_read_or_refused(tmp_path, form, label, text):
    path = save(tmp_path, json.dumps({"text": text, "label": label}))
    try:
        (read,) = read_spans(path, form)
    except ValueError as error:
        assert str(error).startswith(f"{path}:1: ")
        return
    for kind, start, end in read.entities:
        assert kind and 0 <= start < end <= len(text)


spans = st.lists(st.tuples(st.sampled_from("XY"), st.integers(0, 3), st.integers(1, 4)), max_size=5)


@pytest.mark.parametrize("form", FORMS)
@on_disk
@given(steps=spans, text=st.text("aé中 \u200b", min_size=40, max_size=45))
def test_whatever_is_written_is_read(tmp_path, form, steps, text):
    found, position = [], 0
    for kind, gap, length in steps:
        found.append((kind, position + gap, position + gap + length))
        position += gap + length
    source = AnnotatedText(1, text, None, {"text": text})
    path = save(tmp_path, span_predictions(form, "label", [(source, found)]).rstrip("\n"))
    (read,) = read_spans(path, form)
    assert (read.text, list(read.entities)) == (text, found)


@pytest.fixture(scope="module")
def tokenizer(released_vocab):
    return FullTokenizer(released_vocab("bert-base-chinese"))


def test_words_of_a_text(tokenizer):
    text = "浙商NBA2009年，de\u200bposit-\u0301 \U0001f642한국 \ufffd"
    words = [text[a:b] for a, b in word_spans(text, tokenizer)]
    assert words == [
        *("浙", "商", "NBA2009", "年", "，", "de\u200bposit", "-\u0301", "\U0001f642한국"),
    ]


@given(st.text(st.sampled_from("ab中. -\u0301\u200b한\u1100가≠\u0327é") | st.characters()))
def test_words_are_in_order_and_do_not_overlap(tokenizer, text):
    words = word_spans(text, tokenizer)
    position = 0
    for start, end in words:
        assert position <= start < end <= len(text)
        position = end
    between = "".join(
        text[a:b]
        for a, b in zip(
            [0, *(e for _, e in words)], [*(s for s, _ in words), len(text)], strict=True
        )
    )
    assert not tokenizer.encode(between)  # blanks and what is deleted


WORDS = [(0, 3), (4, 7), (7, 8), (10, 12)]


@pytest.mark.parametrize(
    ("found", "by_words", "by_characters", "misaligned"),
    [
        ([("X", 0, 3), ("Y", 4, 8)], [("X", 0, 1), ("Y", 1, 3)], [("X", 0, 3), ("Y", 4, 8)], 0),
        ([("X", 3, 8)], [("X", 1, 3)], [("X", 4, 8)], 0),  # with the blank in front
        ([("X", 7, 10)], [("X", 2, 3)], [("X", 7, 8)], 0),
        ([("X", 5, 8)], [("X", 1, 3)], [("X", 5, 8)], 1),  # cuts a word
        ([("X", 8, 10)], [], [("X", 8, 10)], 1),  # holds none
        ([("X", 4, 5), ("Y", 5, 7)], [("X", 1, 2)], [("X", 4, 5), ("Y", 5, 7)], 2),
        ([("X", 4, 5), ("Y", 5, 8)], [("X", 1, 2), ("Y", 2, 3)], [("X", 4, 5), ("Y", 5, 8)], 2),
    ],
)
def test_alignment(found, by_words, by_characters, misaligned):
    assert align(found, WORDS) == (by_words, by_characters, misaligned)
