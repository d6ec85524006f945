"""Files of words with tags: read, refused with file and line, and written with predictions."""

import pytest
from conlleval import conlleval
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bert_tf.data.tagged_text import (
    Sentence,
    conll_predictions,
    read_conll,
    read_tsv,
    tsv_predictions,
)
from bert_tf.entity_metrics import entities, entity_scores

on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def save(folder, text, name="train.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

# CD B-NP O
1 CD I-NP O
"""


def test_conll_2003(tmp_path):
    path = save(tmp_path, CONLL_2003)
    assert list(read_conll(path)) == [
        Sentence(3, ("EU", "rejects"), ("B-ORG", "O")),
        Sentence(6, ("#", "1"), ("O", "O")),
    ]
    assert next(read_conll(path, tag_column=1)).tags == ("NNP", "VBZ")
    assert next(read_conll(path, tag_column=None)).tags is None
    predicted = {3: ["B-PER", "O"], 6: ["O", "B-X"]}
    assert conll_predictions(path, predicted) == (
        "-DOCSTART- -X- -X- O O\n\nEU NNP B-NP B-ORG B-PER\nrejects VBZ B-VP O O\n\n"
        "# CD B-NP O O\n1 CD I-NP O B-X\n"
    )


def test_conlleval_reads_the_predictions(tmp_path):
    """As they are, and with the scores that are ours: blanks at the end of lines are no column."""
    text = CONLL_2003.replace("VP O", "VP O ").replace("\n", "\r\n")
    guess = [("B-ORG", "B-PER"), ("O", "B-ORG")]
    gold = [s.tags for s in read_conll(save(tmp_path, text))]
    predicted = conll_predictions(save(tmp_path, text), {3: guess[0], 6: guess[1]})
    expected = entity_scores(list(map(entities, gold)), list(map(entities, guess)))
    found = conlleval(predicted.replace("\r", ""))
    assert found == {n: expected[n] for n in ("precision", "recall", "f1", "support")}
    with pytest.raises(ValueError, match=r"unexpected number of features: 5 \(4\)"):
        conlleval(predicted.replace("\r", "").replace("-X- O O", "-X- O"))


def test_ranges_and_empty_nodes_of_conll_u(tmp_path):
    rows = [
        "# text = al mar",
        "1-2\tal\t_\t_",
        "1\ta\tADP\tX",
        "2\tel\tDET\tY",
        "2.1\tazul\tADJ\t_",
        "3\tmar\tNOUN\tX",
    ]
    path = save(tmp_path, "\n".join(rows) + "\n\n1.5\tx\tA\tZ\n")
    first, second = read_conll(path, word_column=1, tag_column=2)
    assert first == Sentence(3, ("a", "el", "mar"), ("ADP", "DET", "NOUN"), skipped=2)
    assert second == Sentence(8, ("x",), ("A",))  # not numbered as words are
    predicted = {3: ["p", "q", "r"], 8: ["s"]}
    lines = conll_predictions(path, predicted, word_column=1).split("\n")
    added = ["", "\t_", "\tp", "\tq", "\t_", "\tr"]
    assert lines[:6] == [row + tag for row, tag in zip(rows, added, strict=True)]
    # Where the first column holds the words, all of them are.
    path = save(tmp_path, "1-2\tX\n1\tX\n")
    assert next(read_conll(path)).words == ("1-2", "1")


def test_comments_line_ends_and_spaces_that_are_words(tmp_path):
    text = (
        "\ufeff# text = a\u00a0b\r\n# note\tof two\r\n1\ta\tX\r\n2\t\u00a0\tY\r\n3\t \tX\r\n"
        "\r\n \t\r\n"
        "# only = comments\r\n\r\n4\t#\tX\r\n5\t\u2028\u0085\tY"
    )
    path = save(tmp_path, text)
    sentences = list(read_conll(path, word_column=1))
    assert sentences == [
        Sentence(3, ("a", "\u00a0", " "), ("X", "Y", "X")),
        Sentence(10, ("#", "\u2028\u0085"), ("X", "Y")),
    ]
    expected = text.removeprefix("\ufeff")
    expected = expected.replace("X\r", "X\tp\r").replace("Y\r", "Y\tp\r") + "\tp"
    predicted = {s.line: ["p"] * len(s.words) for s in sentences}
    assert conll_predictions(path, predicted) == expected


def test_comments_of_as_many_columns_as_words(tmp_path):
    text = "# id = 3\na _ _ O\n\n# id 77 domain=en\n# _ _ O\n"
    sentences = list(read_conll(save(tmp_path, text)))
    assert sentences == [Sentence(2, ("a",), ("O",)), Sentence(4, ("#", "#"), ("domain=en", "O"))]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a O\nb\n", {}, r"train\.txt:2: expected 2 columns, got 1"),
        ("a\tO\n\tO\n", {}, r"train\.txt:2: the word is empty"),
        ("a\tO\nb\t\n", {}, r"train\.txt:2: the tag is empty"),
        ("a O\n#b\n", {}, r"train\.txt:2: expected 2 columns, got 1"),
        ("a\n", {}, r"train\.txt:1: expected a word and a tag in each line, got one column"),
        ("a O\n", {"word_column": 1}, r"train\.txt:1: expected .* got column 1 for both"),
        ("\na O\n", {"word_column": 2}, r"txt:2: there are 2 columns, .* --word_column=2 is none"),
        ("a O\n", {"tag_column": -3}, r"there are 2 columns, so that --tag_column=-3 is none"),
        (b"a O\n\xff O\n", {}, r"train\.txt:2: byte 0xff is not UTF-8"),
    ],
)
def test_bad_columns(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        list(read_conll(save(tmp_path, text), **options))


def test_a_bad_row_takes_its_sentence_with_it(tmp_path):
    path = save(tmp_path, "a O\n\nb O\nc\nd\n\ne O\n")
    bad = []
    sentences = list(read_conll(path, on_bad=bad.append))
    assert [s.words for s in sentences] == [("a",), ("e",)]
    assert [str(error) for error in bad] == [f"{path}:4: expected 2 columns, got 1"]
    assert conll_predictions(path, {1: "X", 7: "Y"}) == "a O X\n\nb O\nc\nd\n\ne O Y\n"


def test_tsv(tmp_path):
    path = save(tmp_path, "text_a\tlabel\n我 爱 北 京\tO O B-LOC I-LOC\n# -DOCSTART-\tO O\n")
    sentences = list(read_tsv(path))
    assert sentences == [
        Sentence(2, ("我", "爱", "北", "京"), ("O", "O", "B-LOC", "I-LOC")),
        Sentence(3, ("#", "-DOCSTART-"), ("O", "O")),
    ]
    assert next(read_tsv(path, text_column="label", label_column="text_a")).words[2] == "B-LOC"
    assert next(read_tsv(path, label_column=None)).tags is None
    assert tsv_predictions(path, {2: ["O", "O", "O", "B-LOC"]}) == (
        "text_a\tlabel\tpredicted\n我 爱 北 京\tO O B-LOC I-LOC\tO O O B-LOC\n# -DOCSTART-\tO O\t\n"
    )


def test_tsv_as_paddlepaddle_publishes_it(tmp_path):
    path = save(tmp_path, "text_a\tlabel\n海\x02 \x02钓\tO\x02O\x02B-LOC\n我\tO\n")
    sentences = list(read_tsv(path))
    assert sentences == [
        Sentence(2, ("海", " ", "钓"), ("O", "O", "B-LOC")),
        Sentence(3, ("我",), ("O",)),
    ]
    assert tsv_predictions(path, {2: ["B-X", "O", "O"], 3: ["O"]}).splitlines()[1:] == [
        "海\x02 \x02钓\tO\x02O\x02B-LOC\tB-X\x02O\x02O",
        "我\tO\tO",
    ]
    with pytest.raises(ValueError, match=r"train\.txt:2: word 2 is empty; write one U\+0002 bet"):
        list(read_tsv(save(tmp_path, "text\tlabel\na\x02\x02b\tO\x02O\x02O\n")))


def test_a_blank_inside_of_a_tag_is_no_column(tmp_path):
    assert conll_predictions(save(tmp_path, "a O\nb O\n"), {1: ["B-Bill number", "O"]}) == (
        "a O B-Bill_number\nb O O\n"
    )
    path = save(tmp_path, "a\tO\nb\tO\n")
    assert conll_predictions(path, {1: ["B-Bill number", "O"]}) == (
        "a\tO\tB-Bill number\nb\tO\tO\n"
    )
    path = save(tmp_path, "text\tlabel\na b\tO O\n")
    assert tsv_predictions(path, {2: ["O", "B-Bill number"]}).endswith("\tO B-Bill_number\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text\tlabel\na b\tO\n", r"train\.txt:2: 2 words, but 1 tags"),
        ("text\tlabel\na  b\tO O O\n", r"train\.txt:2: word 2 is empty; write one blank"),
        ("text\tlabel\na b\tO \n", r"train\.txt:2: tag 2 is empty"),
        ("text\tlabel\n\tO\n", r"train\.txt:2: there is no word"),
        ("text\tlabel\na\tO\tO\n", r"train\.txt:2: expected 2 columns, got 3"),
        ("text\tlabel\n\na\tO\n", r"train\.txt:2: expected 2 columns, got 1"),
        ("text\ttags\na\tO\n", r"txt:1: column 'label' is missing in the header.* text, tags"),
        ("label\ttext\nO\ta\n", r"txt:1: column 'label' cannot hold both .*--text_column or"),
        ("text\tlabel\tlabel\n", r"train\.txt:1: column 'label' is there twice"),
    ],
)
def test_bad_tsv(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        list(read_tsv(save(tmp_path, text)))


def test_bad_tsv_rows_are_left_out(tmp_path):
    path = save(tmp_path, "text\tlabel\na\tO\na b\tO\nc\tO\n")
    bad = []
    assert [s.words for s in read_tsv(path, on_bad=bad.append)] == [("a",), ("c",)]
    assert [error.line for error in bad] == [3]


NEVER = "\t\r\n\0"
words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=NEVER), min_size=1
).filter(lambda word: word.strip(" ") and word not in ("-DOCSTART-", "\ufeff"))
tags = st.sampled_from(["O", "B-X", "I-X"])
corpora = st.lists(st.lists(st.tuples(words, tags), min_size=1, max_size=5), min_size=1, max_size=4)


@on_disk
@given(corpora, st.sampled_from(["\n", "\r\n"]))
def test_whatever_is_written_in_columns_is_read(tmp_path, sentences, end):
    rows = [[f"{n}\t{w}\t{t}" for n, (w, t) in enumerate(words)] for words in sentences]
    path = save(tmp_path, (end * 2).join(end.join(lines) for lines in rows))
    read = list(read_conll(path, word_column=1))
    expected = [list(zip(*words, strict=True)) for words in sentences]
    assert [[s.words, s.tags] for s in read] == expected
    # Predictions are read as tags where they were written, and all else is as it was.
    written = conll_predictions(path, {s.line: s.tags[::-1] for s in read})
    again = list(read_conll(save(tmp_path, written, "predicted.txt"), word_column=1))
    assert [(s.line, s.words) for s in again] == [(s.line, s.words) for s in read]
    assert [s.tags for s in again] == [s.tags[::-1] for s in read]
    assert list(read_conll(path, word_column=1, tag_column=-1)) == read


@on_disk
@given(corpora, st.sampled_from([" ", "\x02"]))
def test_whatever_is_written_in_two_columns_is_read(tmp_path, sentences, separator):
    between = str.maketrans({"\x02": "_", separator: "_"})
    if separator == "\x02":  # a row of one word does not tell
        sentences = [[*words, ("end", "O")] for words in sentences]
    sentences = [[(w.translate(between), t) for w, t in words] for words in sentences]
    rows = ["\t".join(map(separator.join, zip(*s, strict=True))) for s in sentences]
    path = save(tmp_path, "\n".join(["text\tlabel", *rows]))
    read = list(read_tsv(path))
    assert [list(zip(s.words, s.tags, strict=True)) for s in read] == sentences
    written = save(tmp_path, tsv_predictions(path, {s.line: s.tags for s in read}), "p.txt")
    assert list(read_tsv(written, label_column="predicted")) == read


texts = st.text(st.sampled_from("# ab\tO\n\r-=\u2028\0")).map(str.encode)
hostile = st.one_of(st.binary(max_size=100), texts, texts.map(b"text\tlabel\n".__add__))


@pytest.mark.parametrize("read", [read_conll, read_tsv])
@on_disk
@given(content=hostile)
def test_hostile_files_are_read_or_refused(tmp_path, read, content):
    path = save(tmp_path, content)
    bad = []
    try:
        left = list(read(path, on_bad=bad.append))
    except ValueError as error:
        assert str(error).startswith(path)
        return
    for sentence in left:
        assert len(sentence.words) == len(sentence.tags) > 0 and "" not in sentence.words
    if bad:
        assert all(str(error).startswith(f"{path}:{error.line}: ") for error in bad)
        with pytest.raises(ValueError, match="train.txt:"):
            list(read(path))
    else:
        assert list(read(path)) == left
    write = conll_predictions if read is read_conll else tsv_predictions
    write(path, {s.line: s.tags for s in left})
