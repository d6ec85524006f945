"""The files that prediction writes, as spreadsheets and pandas read them."""

import csv
import io

import numpy as np

from bert_tf.data.examples import InputExample
from bert_tf.tasks.result_files import predictions


def table(texts, outputs, labels, **changes):
    examples = [
        InputExample(f"test-{n}", *pair, "", "test.csv", n) for n, pair in enumerate(texts, start=1)
    ]
    return predictions(examples, np.array(outputs, np.float32), labels, **changes)


def test_a_row_is_a_line_with_its_texts():
    texts = [('"Hi", he said', None), ("two\r\nlines\tand a tab", None), ("\ud83d half", None)]
    text = table(texts, [[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]], ["ham", "spam"])
    assert text.count("\n") == 4 and "\r" not in text and text.encode()
    header, *rows = csv.reader(io.StringIO(text), "excel-tab")
    assert header == ["id", "label", "probability_ham", "probability_spam", "text_a"]
    assert rows[0] == ["test-1", "ham", "0.75", "0.25", '"Hi", he said']
    assert rows[1][4] == "two  lines and a tab" and rows[2][4] == "\\ud83d half"


def test_pairs_numbers_and_several_labels():
    text = table([("a", "b"), ("c", None)], [[0.5], [2]], [], problem_type="regression")
    assert text == "id\tprediction\ttext_a\ttext_b\ntest-1\t0.5\ta\tb\ntest-2\t2.0\tc\t\n"
    text = table([("a", None)], [[0.5, 0.75]], ["x", "y"], problem_type="multilabel")
    assert text.splitlines()[1] == "test-1\tx|y\t0.5\t0.75\ta"
