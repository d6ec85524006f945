"""The task table, on made-up rows in the published layouts, and features against Google's."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from bert_tf.data import glue
from bert_tf.data.examples import InputExample
from bert_tf.data.features import Packing, example_features
from bert_tf.data.text_files import BadRow
from bert_tf.tokenization import FullTokenizer

TINY = Path(__file__).parent / "tiny"
GOLDEN = Path(__file__).parent / "golden"
NLI = ["contradiction", "entailment", "neutral"]
# Task: folder, labels, primary metric, guid and labels of the first training and test example.
EXPECTED = {
    "cola": ("CoLA", ["0", "1"], "matthews", ("train-0", "0"), ("test-1", "0")),
    "sst-2": ("SST-2", ["0", "1"], "accuracy", ("train-1", "0"), ("test-0", "0")),
    "mrpc": ("MRPC", ["0", "1"], "f1", ("train-1", "1"), ("test-1", "0")),
    "sts-b": ("STS-B", [], "pearson", ("train-0", "0.000"), ("test-0", "0.0")),
    "qqp": ("QQP", ["0", "1"], "f1", ("train-500", "1"), ("test-0", "0")),
    "mnli": ("MNLI", NLI, "accuracy", ("train-0", "neutral"), ("test-0", "contradiction")),
    "qnli": (
        *("QNLI", ["entailment", "not_entailment"], "accuracy"),
        *(("train-0", "entailment"), ("test-0", "entailment")),
    ),
    "rte": (
        *("RTE", ["entailment", "not_entailment"], "accuracy"),
        *(("train-0", "entailment"), ("test-0", "entailment")),
    ),
    "wnli": ("WNLI", ["0", "1"], "accuracy", ("train-0", "0"), ("test-0", "0")),
    "ax": ("AX", NLI, "matthews", None, ("test-0", "contradiction")),
    "xnli": ("XNLI", NLI, "accuracy", ("train-1", "neutral"), ("test-2", "neutral")),
    "paws-x": ("PAWS-X", ["0", "1"], "accuracy", ("train-1", "0"), ("test-1", "0")),
    "lcqmc": ("LCQMC", ["0", "1"], "accuracy", ("train-1", "1"), ("test-1", "1")),
    "chnsenticorp": ("ChnSentiCorp", ["0", "1"], "accuracy", ("train-1", "1"), ("test-1", "1")),
    "afqmc": ("AFQMC", ["0", "1"], "accuracy", ("train-0", "0"), ("test-0", "0")),
    "tnews": (
        *("TNEWS", [str(n) for n in range(100, 117) if n not in (105, 111)], "accuracy"),
        *(("train-0", "102"), ("test-0", "100")),
    ),
    "iflytek": (
        *("IFLYTEK", [str(n) for n in range(119)], "accuracy"),
        *(("train-0", "17"), ("test-0", "0")),
    ),
    "cmnli": ("CMNLI", NLI, "accuracy", ("train-0", "neutral"), ("test-0", "contradiction")),
    "ocnli": ("OCNLI", NLI, "accuracy", ("train-0", "neutral"), ("test-0", "contradiction")),
    "csl": ("CSL", ["0", "1"], "accuracy", ("train-1963", "1"), ("test-2415", "0")),
    "cluewsc": (
        *("CLUEWSC", ["false", "true"], "accuracy"),
        *(("train-0", "true"), ("test-0", "false")),
    ),
}
SINGLE = ("cola", "sst-2", "chnsenticorp", "tnews", "iflytek", "cluewsc")


def test_every_task_is_expected_here():
    assert sorted(glue.TASKS) == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_reads_its_layout(name):
    folder, labels, metric, *first_examples = EXPECTED[name]
    task, data_dir = glue.find(name.upper()), str(TINY / folder)
    assert task.labels(data_dir) == labels
    assert task.regression == (not labels)
    assert task.metric.primary == metric
    for split, expected in zip(("train", "test"), first_examples, strict=True):
        assert task.has(data_dir, split) == (expected is not None)
        if expected is None:
            continue
        examples = task.examples(data_dir, split)
        assert (examples[0].guid, examples[0].label) == expected
        assert len({example.guid for example in examples}) == len(examples)
        assert all((example.text_b is None) == (name in SINGLE) for example in examples)


def test_rows_are_read_as_google_reads_them():
    cola = glue.find("cola").examples(str(TINY / "CoLA"), "train")
    line = (TINY / "CoLA/train.tsv").read_text().split("\n")[3].split("\t")
    assert cola[3] == InputExample(
        "train-3", line[3], None, line[1], str(TINY / "CoLA/train.tsv"), 4
    )
    # A quotation mark is text, and a byte order mark no part of the first column's name.
    assert glue.find("mrpc").examples(str(TINY / "MRPC"), "train")[0].text_a.startswith('" ')
    # Only the matched set; the gold label is the last column.
    mnli = glue.find("mnli").examples(str(TINY / "MNLI"), "dev")
    assert [e.guid for e in mnli[:2]] == ["dev_matched-0", "dev_matched-1"]
    assert [e.label for e in mnli[:3]] == ["neutral", "entailment", "contradiction"]
    xnli = glue.find("xnli")
    dev = xnli.examples(str(TINY / "XNLI"), "dev")
    assert [e.guid for e in dev] == ["dev-2", "dev-4", "dev-6", "dev-8"]  # the others are English
    assert "contradiction" in {e.label for e in xnli.examples(str(TINY / "XNLI"), "train")}


def test_languages():
    xnli = glue.find("xnli", "en").examples(str(TINY / "XNLI"), "dev")
    assert {e.guid for e in xnli} == {"dev-1", "dev-3", "dev-5", "dev-7"}
    assert glue.find("XNLI", "ur").path("d", "train") == "d/multinli/multinli.train.ur.tsv"
    assert glue.find("paws-x", "en").path("d", "train") == "d/en/train.tsv"
    assert glue.find("paws-x", "ja").path("d", "train") == "d/ja/translated_train.tsv"
    assert len(glue.TASKS["xnli"].languages) == 15
    with pytest.raises(ValueError, match="--xnli_language=xx: --task_name=xnli is published in ar"):
        glue.find("xnli", "xx")
    with pytest.raises(ValueError, match="--task_name=rte is in one language"):
        glue.find("rte", "en")


def test_both_sets_of_mnli():
    mnli, data_dir = glue.find("mnli"), str(TINY / "MNLI")
    assert mnli.splits == ("train", "dev", "test", "dev_mismatched", "test_mismatched")
    (first, *_) = mnli.examples(data_dir, "dev_mismatched")
    assert (first.guid, first.label) == ("dev_mismatched-0", "entailment")
    assert mnli.examples(data_dir, "test_mismatched")[0].guid == "test_mismatched-0"


def test_clue_s_objects(caplog):
    csl = glue.find("csl").examples(str(TINY / "CSL"), "train")[0]
    assert (csl.text_a, csl.text_b) == ("水污染 治理", "本文研究水污染的治理。")
    wsc = glue.find("cluewsc").examples(str(TINY / "CLUEWSC"), "train")
    assert wsc[0].text_a == "_小明_说[他]累了"
    assert wsc[1].text_a == "[他]就是_小明_"  # the pronoun comes first
    with caplog.at_level("WARNING", logger="absl"):
        dev = glue.find("ocnli").examples(str(TINY / "OCNLI"), "dev")
    assert len(dev) == 2 and "left out 1 rows labelled '-'" in caplog.text


def test_lcqmc_without_a_header(tmp_path):
    text = (TINY / "LCQMC/dev.tsv").read_text(encoding="utf-8")
    bare = write(tmp_path, "dev.tsv", text.partition("\n")[2])
    found = [
        [(e.text_a, e.text_b, e.label) for e in glue.find("lcqmc").examples(folder, "dev")]
        for folder in (bare, str(TINY / "LCQMC"))
    ]
    assert found[0] == found[1] and len(found[0]) == 2


def test_labels_of_published_test_sets():
    assert all(e.labelled for e in glue.find("lcqmc").examples(str(TINY / "LCQMC"), "test"))
    assert not any(e.labelled for e in glue.find("rte").examples(str(TINY / "RTE"), "test"))
    assert {e.label for e in glue.find("lcqmc").examples(str(TINY / "LCQMC"), "test")} == {"0", "1"}


def write(folder, name, text):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder)


def test_windows_line_ends_long_cells_and_unusual_separators(tmp_path):
    long = "a" * 200_000 + "\u2028\x0b\x85"
    data_dir = write(tmp_path, "dev.tsv", f"sentence\tlabel\r\n{long}\t1\r\n\r\n")
    assert [(e.text_a, e.label) for e in glue.find("sst-2").examples(data_dir, "dev")] == [
        (long, "1")
    ]


def test_utf_16_as_spreadsheets_write_it(tmp_path):
    data_dir = write(tmp_path, "dev.tsv", "sentence\tlabel\r\n好\t1\r\n".encode("utf-16"))
    (example,) = glue.find("sst-2").examples(data_dir, "dev")
    assert (example.text_a, example.label, example.line) == ("好", "1", 2)


HEADER = "index\tsentence1\tsentence2\tlabel\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "0\ta\tb\t0\n1\ta\tb\n", r"dev\.tsv:3: expected 4 columns, got 3"),
        (HEADER + "0\ta\tb\tc\t0\n", r"dev\.tsv:2: expected 4 columns, got 5"),
        (HEADER + "0\ta\tb\t0\n\n1\ta\tb\t0\n", r"dev\.tsv:3: expected 4 columns, got 1"),
        (HEADER + "0\ta\tb\t2\n", r"dev\.tsv:2: unknown label '2'\. There are: 0, 1\."),
        ("index\tsentence\tlabel\n", r"dev\.tsv:1: .* no column 'sentence1'\. Did you mean 'sent"),
        (HEADER, r"dev\.tsv: no examples in this file"),
        ("", r"dev\.tsv:1: the header has no column 'sentence1'"),
        (HEADER.encode() + b"0\ta\xff\tb\t0\n", r"dev\.tsv:2: byte 0xff is not UTF-8"),
        (
            (HEADER + "0\ta\tb\t0\n").encode("utf-16")[:-1],
            r"dev\.tsv:1: the file is damaged UTF-16",
        ),
        (HEADER + "0\ta\0\tb\t0\n", r"dev\.tsv:2: NUL character"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        glue.find("wnli").examples(write(tmp_path, "dev.tsv", text), "dev")


def test_a_missing_file_names_the_flag(tmp_path):
    task = glue.find("rte")
    assert not task.has(str(tmp_path), "train")
    with pytest.raises(ValueError, match=r"train\.tsv: cannot be read .*--data_dir"):
        task.examples(str(tmp_path), "train")


def test_a_split_that_a_task_lacks():
    with pytest.raises(ValueError, match="--task_name=ax has no train file, only test"):
        glue.find("ax").files("x", "train")


def test_too_few_columns_for_google_s_positions(tmp_path):
    data_dir = write(tmp_path, "dev.tsv", "Quality\ta\tb\n1\tx\ty\n")
    with pytest.raises(BadRow, match="expected 4 columns or more, got 3"):
        glue.find("mrpc").examples(data_dir, "dev")


def test_labels_of_a_regression_are_finite_numbers(tmp_path):
    for label in ("good", "nan", "inf", ""):
        text = f"index\tsentence1\tsentence2\tscore\n0\ta\tb\t{label}\n"
        with pytest.raises(BadRow, match=f"dev.tsv:2: the label must be a number, not '{label}'"):
            glue.find("sts-b").examples(write(tmp_path, "dev.tsv", text), "dev")


def test_incomplete_rows_of_qqp_are_left_out_and_said(tmp_path, caplog):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    text = header + "0\t1\t2\ta\tb\t1\n1\t3\t4\tc\n2\t5\t6\td\te\t0\n"
    with caplog.at_level("WARNING", logger="absl"):
        examples = glue.find("qqp").examples(write(tmp_path, "train.tsv", text), "train")
    assert [e.guid for e in examples] == ["train-0", "train-2"]
    assert "left out incomplete rows, lines [3]" in caplog.text


def test_unknown_task():
    with pytest.raises(ValueError, match=r"^Task not found: sst2\. Did you mean 'sst-2'"):
        glue.find("sst2")


def test_bundled_sample():
    task, data_dir = glue.find("mnli"), str(Path(__file__).parents[1] / "examples/mnli")
    premises = {}
    for split, size in (("train", 4000), ("dev", 1000), ("test", 1000)):
        examples = task.examples(data_dir, split)
        assert len(examples) == size
        premises[split] = {example.text_a for example in examples}
        if split != "test":
            assert min(Counter(e.label for e in examples).values()) > 0.3 * size
    assert not premises["train"] & premises["dev"]
    assert not premises["train"] & premises["test"]
    assert not premises["dev"] & premises["test"]


@pytest.fixture(scope="module")
def uncased(released_vocab):
    return FullTokenizer(released_vocab("bert-base-uncased"))


@pytest.mark.parametrize("split", ["train", "dev"])
def test_features_equal_google_s(uncased, split):
    with gzip.open(GOLDEN / "classifier/features.json.gz", "rt") as file:
        golden = json.load(file)[f"MNLI/{split}"]
    examples = glue.find("mnli").examples(str(GOLDEN / "classifier/MNLI"), split)
    label_ids = {label: i for i, label in enumerate(golden["labels"])}
    assert glue.find("mnli").labels("") == golden["labels"]
    assert [e.guid for e in examples] == golden["guids"]
    for example, expected in zip(examples, golden["features"], strict=True):
        packing = Packing(golden["max_seq_length"])
        (features,) = example_features(example, uncased, label_ids, packing).rows
        assert features == {
            "input_ids": expected["input_ids"],
            "input_mask": expected["input_mask"],
            "segment_ids": expected["segment_ids"],
            "label_ids": [expected["label_id"]],
            "is_real_example": [1],
        }


def test_features_of_a_regression_and_of_a_truncated_row(uncased):
    example = InputExample("x", "one two three", "four five", "2.5", "f", 1)
    packed = example_features(example, uncased, None, Packing(8))
    (features,) = packed.rows
    assert features["label_ids"] == [2.5] and not packed.cut
    assert sum(features["input_mask"]) == 8
    packed = example_features(example, uncased, None, Packing(7))
    assert (packed.cut, packed.pieces) == (1, 5) and sum(packed.rows[0]["segment_ids"]) == 3
