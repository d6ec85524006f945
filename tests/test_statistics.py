"""What is said about a data set before training."""

import pytest

from bert_tf.data.examples import InputExample
from bert_tf.data.features import Packing, example_features
from bert_tf.data.statistics import SplitStatistics, label_warnings, warnings
from bert_tf.tokenization import FullTokenizer

ENGLISH = "The customer service never answered, although I have called them several times. "
GERMAN = "Der Kundendienst hat sich leider nicht gemeldet, obwohl ich ihn angerufen habe. "
CHINESE = "客户服务从来没有回答，虽然我给他们打了好几次电话。"


def examples(labels, text="a"):
    return [InputExample(str(n), text, None, x, "t.csv", n + 2) for n, x in enumerate(labels)]


def test_labels_that_differ_in_nothing_that_one_sees():
    found = label_warnings(
        examples(
            ["spam"] * 3 + ["ham"] * 3 + ["spam ", "Spam", "ham"] + ["1"] * 2 + ["1.0", "nan"]
        ),
        "classification",
    )
    assert len(found) == 3
    assert found[0] == (
        "t.csv:8: the label 'spam ' (rows: 1) is a class of its own beside 'spam' (rows: 3). "
        "Did you mean 'spam'?"
    )
    assert found[1].startswith("t.csv:9: the label 'Spam' ")
    assert found[2].startswith("t.csv:13: the label '1.0' ")
    assert len(label_warnings(examples(["a|b", "A", "b"]), "multilabel")) == 1
    assert not label_warnings(examples(["1", "1.0"]), "regression")
    many = [x for n in range(30) for x in (f"x{n}", f"X{n}")]
    assert label_warnings(examples(many * 3), "classification")[-1].startswith("20 more labels")


def test_more_labels_than_there_can_be():
    [found] = label_warnings(examples([f"text {n}" for n in range(300)]), "classification")
    assert "300 labels in 300 examples, such as 'text " in found
    assert not label_warnings(examples([str(n % 100) for n in range(300)]), "classification")


@pytest.mark.parametrize(
    ("vocab", "text", "hint"),
    [
        ("bert-base-uncased", ENGLISH, None),
        ("bert-base-uncased", GERMAN, "a word of train is 2."),
        ("bert-base-uncased", CHINESE, "of the pieces of train are [UNK]"),
        ("bert-base-multilingual-cased", GERMAN, None),
        ("bert-base-multilingual-cased", CHINESE, None),
        ("bert-base-chinese", CHINESE, None),
    ],
)
def test_a_vocabulary_of_another_language(released_vocab, vocab, text, hint):
    tokenizer = FullTokenizer(released_vocab(vocab), do_lower_case="multi" not in vocab)
    split = SplitStatistics("train", "classification")
    for example in examples("ab" * 10, text):
        packing = Packing(128)
        split.add(example, example_features(example, tokenizer, {"a": 0, "b": 1}, packing))
    found = [x for x in warnings(split, None, ["a", "b"]) if "pieces" in x]
    assert len(found) == (hint is not None) and (hint or "") in "".join(found)


def test_empty_texts_are_counted(released_vocab):
    tokenizer = FullTokenizer(released_vocab("bert-base-uncased"))
    split = SplitStatistics("test", "classification", labelled=False)
    for text in ("a word", "", " "):
        (example,) = examples("a", text)
        split.add(example, example_features(example, tokenizer, {"a": 0}, Packing(8)))
    assert str(split).endswith("[UNK], 2 without text") and split.numbers()["empty"] == 2
