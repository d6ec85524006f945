"""Own files: as a spreadsheet reads them, or refused with file and line."""

import csv
import io
import json
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_tf.data.delimited import KINDS, DelimitedTask, named_delimiter
from bert_tf.data.features import Packing, example_features
from bert_tf.data.text_files import BadRow, BadRows, check_encoding

OWN = str(Path(__file__).parent / "tiny/own")
on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def save(folder, name, text):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_three_forms_of_one_table(kind):
    task = DelimitedTask(kind, "text", "second", id_column="id")
    assert task.labels(OWN) == ["bad", "good"]
    assert (task.name, task.regression, task.metric.primary) == (kind, False, "accuracy")
    train = task.examples(OWN, "train")
    assert len(train) == 16
    assert [e.guid for e in train[:2]] == ["train0", "train1"]
    assert [e.label for e in train[:2]] == ["bad", "good"]
    assert train[1].text_a == 'he said, "this book was funny ."'
    assert train[1].line == (2 if kind == "jsonl" else 3)
    assert {e.label for e in task.examples(OWN, "test")} == {"bad"}  # placeholders
    assert DelimitedTask(kind, "text").examples(OWN, "dev")[0].guid == "dev-1"


@pytest.mark.parametrize("kind", KINDS)
def test_regression(kind):
    task = DelimitedTask(kind, "text", label_column="score", problem_type="regression")
    assert task.regression and task.labels(OWN) == [] and task.metric.primary == "pearson"
    assert [float(e.label) for e in task.examples(OWN, "train")[:3]] == [0.0, 4.05, 0.1]
    assert {e.label for e in task.examples(OWN, "test")} == {"0.0"}
    with pytest.raises(ValueError, match="such as 0.1; use --problem_type=regression"):
        DelimitedTask(kind, "text", label_column="score").labels(OWN)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", "text,label\na,good\nb,\nc,goud\nd,bad\n"),
        ("tsv", "label\ttext\ngood\ta\n \tb\ngoud\tc\nbad\td\n"),
        (
            "jsonl",
            '{"text": "a", "label": "good"}\n{"text": "b"}\n{"text": "c", "label": ["good"]}\n'
            '{"text": "d", "label": "bad"}\n',
        ),
    ],
)
def test_labels_of_a_test_file_are_welcome_but_not_needed(kind, text, tmp_path):
    task = DelimitedTask(kind, "text", classes=("bad", "good"))
    examples = task.examples(save(tmp_path, f"test.{kind}", text), "test")
    assert [e.label for e in examples] == ["good", "bad", "bad", "bad"]
    assert [e.labelled for e in examples] == [True, False, False, True]


def test_order_of_labels(tmp_path):
    def labels(*values):
        data_dir = save(
            tmp_path, "train.tsv", "text\tlabel\n" + "".join(f"a\t{v}\n" for v in values)
        )
        return DelimitedTask("tsv", "text").labels(data_dir)

    assert labels(10, 9, -1, 9) == ["-1", "9", "10"]
    assert labels("b", "a", 10, 9) == ["10", "9", "a", "b"]
    assert labels("1.0", "1", "01") == ["01", "1", "1.0"]
    assert labels("nan", 1, 0, "inf") == ["0", "1", "inf", "nan"]  # names, not numbers
    with pytest.raises(ValueError, match=r"train\.tsv: .* two labels or more; .*\['x'\]"):
        labels("x", "x")
    given_labels = DelimitedTask("tsv", "text", classes=("y", "x"))
    assert given_labels.labels("nowhere") == ["y", "x"]
    assert given_labels.examples(str(tmp_path), "train")[0].label == "x"


def test_csv_with_quotes_commas_line_breaks_and_byte_order_mark(tmp_path):
    text = '\ufefflabel,text\r\n1,"a ""quoted"", word"\r\n0,"two\r\nlines"\r\n1,5" pipe\r\n\r\n'
    data_dir = save(tmp_path, "train.csv", text)
    examples = DelimitedTask("csv", "text").examples(data_dir, "train")
    assert [(e.text_a, e.label, e.line) for e in examples] == [
        ('a "quoted", word', "1", 2),
        ("two\r\nlines", "0", 3),
        ('5" pipe', "1", 5),
    ]


def test_a_cell_longer_than_csv_s_limit(tmp_path):
    data_dir = save(tmp_path, "train.csv", f"text,label\n{'x' * 200_000},1\ny,0\n")
    assert len(DelimitedTask("csv", "text").examples(data_dir, "train")[0].text_a) == 200_000


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("csv", "text,label\na,1\nb\n", r"train\.csv:3: expected 2 columns, got 1"),
        ("csv", "text,label\na,1\n\nb,0\n", r"train\.csv:3: expected 2 columns, got 0"),
        ("csv", 'text,label\na,1\n"b,0\nc,1\n', r"train\.csv:3: the row that starts here is not v"),
        ("csv", 'text,label\n"a"b,1\n', r"train\.csv:2: the row that starts here is not valid"),
        (
            "csv",
            "txt,label\na,1\nb,0\n",
            r"csv:1: column 'text' is missing .*Did you mean 'txt'\? .*lab",
        ),
        ("csv", "text,label,text\na,1,b\na,0,b\n", r"train\.csv:1: column 'text' is there twice"),
        ("csv", "", r"train\.csv:1: the file is empty"),
        ("csv", "text,label\n", r"train\.csv: classification needs two labels .* \[\]"),
        ("csv", b"text,label\na,1\n\xe9,0\n", r"train\.csv:3: byte 0xe9 is not UTF-8"),
        ("csv", "text,label\na,1\n b\0,0\n", r"train\.csv:3: NUL"),
        ("csv", "text,label\na,1\n b, \n", r"train\.csv:3: the label is empty"),
        ("csv", 'text,label\na,1\nb,"x\ny"\n', r"train\.csv:3: the label 'x\\ny' holds a tab or"),
        ("csv", "text,label\na,1\n  ,0\n", r"train\.csv:3: column 'text' is empty"),
        ("tsv", "text\tlabel\na\t1\tb\n", r"train\.tsv:2: expected 2 columns, got 3"),
        ("tsv", "text,label\na,1\n", r"train\.tsv:1: column 'label' is missing .* text,label\."),
        ("jsonl", '{"text": "a", "label": 1}\n{"text"\n', r"train\.jsonl:2: not a JSON object"),
        ("jsonl", "[1]\n", r"train\.jsonl:1: expected a JSON object, got '\[1\]'"),
        ("jsonl", "[" * 100_000, r"train\.jsonl:1: not a JSON object"),
        ("jsonl", "9" * 5000, r"train\.jsonl:1: not a JSON object"),
        ("jsonl", '{"text": "a"}\n', r"train\.jsonl:1: column 'label' is missing"),
        ("jsonl", '{"text": "a", "label": null}\n', r"train\.jsonl:1: the label is empty"),
        ("jsonl", '{"text": "a", "label": ["x"]}\n', r"jsonl:1: column 'label' must be text or a"),
        ("jsonl", '{"text": "a", "label": "\\ud800"}\n', r"jsonl:1: .* half of a surrogate pair"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, kind, text, message):
    data_dir = save(tmp_path, f"train.{kind}", text)
    with pytest.raises(ValueError, match=message):
        DelimitedTask(kind, "text").examples(data_dir, "train")


def test_unknown_label_in_the_development_file(tmp_path):
    save(tmp_path, "train.csv", "text,label\na,good\nb,bad\n")
    data_dir = save(tmp_path, "dev.csv", "text,label\na,goud\n")
    with pytest.raises(BadRow, match=r"dev\.csv:2: unknown label 'goud'\. Did you mean 'good'\?"):
        DelimitedTask("csv", "text").examples(data_dir, "dev")


def test_quotes_in_tsv_are_text_and_this_is_said(tmp_path, caplog):
    text = 'text\tlabel\n"Hello," he said. "Bye."\t1\n"he said ""hi"""\t0\n'
    with caplog.at_level("WARNING", logger="absl"):
        task = DelimitedTask("tsv", "text", classes=("0", "1"))
        examples = task.examples(save(tmp_path, "dev.tsv", text), "dev")
    assert examples[1].text_a == '"he said ""hi"""'
    assert "in double quotes (1 rows, the first in line 3)" in caplog.text


def test_json_numbers_and_null(tmp_path):
    rows = [{"text": "a", "b": None, "label": 1}, {"text": 7, "b": "c", "label": 0}]
    data_dir = save(tmp_path, "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    examples = DelimitedTask("jsonl", "text", "b").examples(data_dir, "train")
    assert [(e.text_a, e.text_b, e.label) for e in examples] == [("a", "", "1"), ("7", "c", "0")]


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"Task not found: cvs\. Did you mean 'csv'"):
        DelimitedTask("cvs", "text")
    with pytest.raises(ValueError, match="--problem_type=other must be classification or regr"):
        DelimitedTask("csv", "text", problem_type="other")


def test_several_labels_a_row(tmp_path):
    save(tmp_path, "train.csv", "text,label\na,red|big\nb,\nc, big \n")
    rows = [{"text": "a", "label": ["red", "big"]}, {"text": "b", "label": []}]
    rows += [{"text": "c", "label": "big"}]
    save(tmp_path, "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for kind in ("csv", "jsonl"):
        task = DelimitedTask(kind, "text", problem_type="multilabel")
        assert task.multilabel and task.labels(str(tmp_path)) == ["big", "red"]
        examples = task.examples(str(tmp_path), "train")
        ids = {"big": 0, "red": 1}
        found = [
            example_features(e, OneWord(), ids, Packing(3), multilabel=True).rows[0]
            for e in examples
        ]
        assert [row["label_ids"] for row in found] == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    with pytest.raises(BadRow, match=r"dev\.csv:2: unknown label 'read'\. Did you mean 'red'"):
        save(tmp_path, "dev.csv", "text,label\na,big|read\n")
        DelimitedTask("csv", "text", problem_type="multilabel").examples(str(tmp_path), "dev")
    with pytest.raises(BadRow, match=r"train\.jsonl:1: .*text without '\|', not 'a\|b'"):
        save(tmp_path, "train.jsonl", '{"text": "a", "label": ["a|b"]}\n')
        DelimitedTask("jsonl", "text", problem_type="multilabel").labels(str(tmp_path))


class OneWord:
    """A tokenizer that knows one word."""

    cls_token_id, sep_token_id, unk_token_id = 2, 3, 1

    def encode(self, text):
        return [7]


def test_bad_rows_are_left_out_and_listed(tmp_path):
    rows = ["text,label", "a,1", "b", " ,0", "c,0", '"d" e,1', "f,1", "g,2"]
    content = "\n".join(rows).encode() + b"\nh\xff,1\ni,0\n"
    save(tmp_path, "train.csv", content)
    task = DelimitedTask("csv", "text", classes=("0", "1"), skip_bad_rows=True)
    bad_rows = BadRows(skip=True)
    examples = task.examples(str(tmp_path), "train", bad_rows)
    assert [(e.text_a, e.line) for e in examples] == [("a", 2), ("c", 5), ("f", 7), ("i", 10)]
    found = [message.split("train.csv:")[1] for message in bad_rows.found]
    assert [message[:1] for message in found] == ["3", "4", "6", "8", "9"]
    assert "5 bad rows were left out (--skip_bad_rows):" in str(bad_rows)
    # What is left must be something.
    save(tmp_path, "train.csv", "text,label\na\n")
    with pytest.raises(ValueError, match="no examples in this file"):
        task.examples(str(tmp_path), "train", BadRows(skip=True))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_places_in_the_file(tmp_path, kind):
    """Whichever rows are left out, and over cells of several lines."""
    rows = {
        "csv": 'text,other\n"two\nlines",x\nb\n"",x\n"d" e,x\nlast,x\n',
        "tsv": "text\tother\na\tx\nb\n\tx\nd\nlast\tx\n",
        "jsonl": '{"text": "a"}\n{"b": 1}\n{"text": ""}\n{\n{"text": "last"}\n',
    }
    data_dir = save(tmp_path, f"test.{kind}", rows[kind])
    task = DelimitedTask(kind, "text", classes=("0", "1"), skip_bad_rows=True)
    examples = task.examples(data_dir, "test", BadRows(skip=True))
    assert [e.guid for e in examples] == ["test-1", "test-3", "test-5"]
    assert [e.text_a for e in examples[1:]] == ["", "last"]  # an empty text is predicted
    named = DelimitedTask(kind, "text", classes=("0", "1"), id_column="text")
    with pytest.raises(BadRow):  # but an id must be something
        named.examples(data_dir, "test")


TICKETS = "Nr;Text;Art\n1;Größe, und mehr;Kündigung, Vertrag\n2;Straße;Übrige\n3;ok;Übrige\n"


@pytest.mark.parametrize(("delimiter", "name"), [(";", "';'"), ("\t", "'tab'"), ("|", "'|'")])
def test_the_delimiter_is_that_of_the_first_row(tmp_path, delimiter, name):
    save(tmp_path, "train.csv", "\ufeff" + TICKETS.replace(";", delimiter))
    save(tmp_path, "test.csv", "Text\na, b\nc\n")  # one column: as the training file
    task = DelimitedTask("csv", "Text", label_column="Art")
    assert task.labels(str(tmp_path)) == ["Kündigung, Vertrag", "Übrige"]
    bad_rows = BadRows()
    examples = task.examples(str(tmp_path), "train", bad_rows)
    assert [e.text_a for e in examples] == ["Größe, und mehr", "Straße", "ok"]
    assert f"train.csv are separated by {name}" in bad_rows.notes[0]
    assert [e.text_a for e in task.examples(str(tmp_path), "test")] == ["a, b", "c"]


def test_a_given_delimiter_and_cells_that_hold_others(tmp_path):
    save(tmp_path, "train.csv", "text,label\na;b;c,x\nd|e,y\n")
    bad_rows = BadRows()
    examples = DelimitedTask("csv", "text").examples(str(tmp_path), "train", bad_rows)
    assert [e.text_a for e in examples] == ["a;b;c", "d|e"] and not bad_rows.notes
    save(tmp_path, "train.csv", "text:label\na,b:x\nc:y\n")
    given = DelimitedTask("csv", "text", delimiter=named_delimiter(":"))
    assert [e.text_a for e in given.examples(str(tmp_path), "train")] == ["a,b", "c"]
    assert named_delimiter("tab") == named_delimiter("\\t") == named_delimiter("\t") == "\t"
    for wrong in (";;", "", '"', "\n"):
        with pytest.raises(ValueError, match="(?s)--delimiter=.*: give one character"):
            named_delimiter(wrong)
    save(tmp_path, "train.csv", "txt;label\na;x\nb;y\n")
    with pytest.raises(BadRow, match=r"'text' is missing .* Did you mean 'txt'\? .*: txt, label\."):
        DelimitedTask("csv", "text").examples(str(tmp_path), "train")


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_another_encoding_is_an_error_about_the_file(tmp_path, kind):
    rows = [("Größe", "Kündigung"), ("Straße", "Übrige"), ("plain", "Übrige")]
    data_dir = save(tmp_path, f"train.{kind}", unescaped(kind, rows).encode("cp1252"))
    for skip in (False, True):
        with pytest.raises(BadRow, match=r"train\.\w+:\d: byte 0xf6 .*give --encoding=cp1252 "):
            DelimitedTask(kind, "text", skip_bad_rows=skip).labels(data_dir)
    task = DelimitedTask(kind, "text", encoding="cp1252")
    assert task.labels(data_dir) == ["Kündigung", "Übrige"]
    assert [e.text_a for e in task.examples(data_dir, "train")] == ["Größe", "Straße", "plain"]
    with pytest.raises(BadRow, match=r":\d: --encoding=ascii is not that of this file"):
        DelimitedTask(kind, "text", encoding="ascii").labels(data_dir)
    # A few damaged rows of a UTF-8 file are bad rows.
    text = unescaped(kind, rows * 2).encode() + unescaped(kind, rows[:1]).encode("cp1252")
    bad_rows = BadRows(skip=True)
    task = DelimitedTask(kind, "text", skip_bad_rows=True, classes=("Kündigung", "Übrige"))
    assert len(task.examples(save(tmp_path, f"train.{kind}", text), "train", bad_rows)) == 6
    assert all("is not UTF-8 text; save" in row or "unknown" in row for row in bad_rows.found)


def unescaped(kind, rows):
    if kind == "jsonl":
        lines = (json.dumps({"text": t, "label": x}, ensure_ascii=False) + "\n" for t, x in rows)
        return "".join(lines)
    return written_rows(kind, rows)


def test_encodings_by_name():
    for name in (None, "cp1252", "gb18030", "utf-16", "UTF8"):
        check_encoding(name)
    for name in ("cp125", "hex", "rot13"):
        with pytest.raises(ValueError, match=f"--encoding={name} is unknown"):
            check_encoding(name)
    with pytest.raises(ValueError, match="--encoding=utf-16: this program reads line by line"):
        check_encoding("utf-16", by_line=True)


def test_too_many_bad_rows_and_classes_without_a_row(tmp_path):
    rows = ["a,x\n"] * 188 + [",y\n"] * 10 + ["b,z\n"] * 2
    save(tmp_path, "train.csv", "".join(["text,label\n", *rows]))
    task = DelimitedTask("csv", "text", classes=("x", "y", "z"))
    bad_rows = BadRows(skip=True, most=0.01)  # ten may always be
    task.examples(str(tmp_path), "train", bad_rows)
    assert bad_rows.lost == ["y"]
    assert str(bad_rows).endswith("No row is left of these labels: 'y'.")
    save(tmp_path, "train.csv", "".join(["text,label\n", *rows, "x\n"]))
    with pytest.raises(
        ValueError, match=r"train\.csv: 11 of 201 rows .*--max_bad_rows=0\.05 .*:190"
    ):
        task.examples(str(tmp_path), "train", BadRows(skip=True, most=0.05))
    assert len(task.examples(str(tmp_path), "train", BadRows(skip=True, most=0.06))) == 190
    # A label is known where the text is damaged.
    save(tmp_path, "dev.tsv", b"text\tlabel\na\xff\ty\n\xc3\xa4\tx\n\xc3\xbc\tx\nb\tx\ty\n")
    bad_rows = BadRows(skip=True)
    DelimitedTask("tsv", "text", classes=("x", "y")).examples(str(tmp_path), "dev", bad_rows)
    assert bad_rows.lost == ["y"] and len(bad_rows.found) == 2


def test_labels_are_found_past_bad_rows(tmp_path):
    save(tmp_path, "train.tsv", "text\tlabel\na\tx\nb\nc\ty\n")
    assert DelimitedTask("tsv", "text", skip_bad_rows=True).labels(str(tmp_path)) == ["x", "y"]
    with pytest.raises(BadRow, match=r"train\.tsv:3: expected 2 columns"):
        DelimitedTask("tsv", "text").labels(str(tmp_path))


def test_utf_16_is_read_as_a_spreadsheet_writes_it(tmp_path):
    save(tmp_path, "train.tsv", "text\tlabel\r\n好\tx\r\n坏\ty\r\n".encode("utf-16"))
    task = DelimitedTask("tsv", "text")
    assert [e.text_a for e in task.examples(str(tmp_path), "train")] == ["好", "坏"]


def written_rows(kind, rows):
    """The rows as a correct writer of the format writes them."""
    if kind == "jsonl":
        return "".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows)
    if kind == "tsv":
        return "".join(f"{t}\t{label}\n" for t, label in [("text", "label"), *rows])
    file = io.StringIO()
    csv.writer(file).writerows([("text", "label"), *rows])
    return file.getvalue()


def texts(kind):
    no = {"tsv": "\t\r\n\0", "csv": "\0", "jsonl": "\0"}[kind]
    alphabet = st.characters(exclude_categories=["Cs"], exclude_characters=no)
    return st.text(alphabet, min_size=1).filter(lambda text: text.strip())


@pytest.mark.parametrize("kind", KINDS)
@on_disk
@given(data=st.data())
def test_whatever_is_written_is_read(tmp_path, kind, data):
    label = st.sampled_from(["no", "yes"])
    rows = data.draw(st.lists(st.tuples(texts(kind), label), min_size=1, max_size=8))
    data_dir = save(tmp_path, f"train.{kind}", written_rows(kind, rows))
    task = DelimitedTask(kind, "text", classes=("no", "yes"))
    examples = task.examples(data_dir, "train")
    assert [(e.text_a, e.label) for e in examples] == rows


hostile = st.one_of(
    st.binary(max_size=200),
    st.text(st.sampled_from('textlabl,\t"\n\r\\{}[]:01\ufeff\u2028 \0')).map(str.encode),
    st.text(string.printable).map(lambda text: b"text,label\n" + text.encode()),
    st.text(string.printable).map(lambda text: b"text\tlabel\n" + text.encode()),
    st.lists(st.dictionaries(st.sampled_from(["text", "label"]), st.text() | st.floats())).map(
        lambda rows: "\n".join(map(json.dumps, rows)).encode()
    ),
)


def read_hostile(folder, kind, content):
    """Reads or refuses the file; leaving bad rows out, no line is lost without a word."""
    data_dir = save(folder, f"train.{kind}", content)
    try:
        examples = DelimitedTask(kind, "text").examples(data_dir, "train")
    except ValueError as error:
        assert str(folder) in str(error)
    else:
        assert all(e.text_a.strip() and e.label for e in examples)
    bad_rows = BadRows(skip=True)
    task = DelimitedTask(kind, "text", problem_type="regression", skip_bad_rows=True)
    try:
        examples = task.examples(data_dir, "train", bad_rows)
    except ValueError as error:
        assert str(folder) in str(error)
        return
    if kind != "csv" and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        # A row is a line; in CSV a quoted cell may hold several.
        lines = content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").count(b"\n") + 1
        header = kind == "tsv"
        assert len(examples) + len(bad_rows.found) + header == lines


@pytest.mark.parametrize("kind", KINDS)
@on_disk
@given(content=hostile)
def test_hostile_files_are_read_or_refused(tmp_path, kind, content):
    read_hostile(tmp_path, kind, content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(on_disk, max_examples=3400)
@given(content=hostile)
def test_ten_thousand_hostile_files(tmp_path, kind, content):
    read_hostile(tmp_path, kind, content)
