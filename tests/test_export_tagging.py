"""The parts of an exported tagger: words, rows and entities in the graph are those of Python."""

import exporting
import keras
import numpy as np
import pytest
import tensorflow as tf
from characters import CODE_POINTS, CONTEXTS, NASTY, write_vocab_of_characters
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_tf import heads, text_rules
from bert_tf.data.entity_spans import word_spans
from bert_tf.data.tag_schemes import TagSet
from bert_tf.data.tagging import TaggingExample
from bert_tf.data.tagging_features import window_rows
from bert_tf.entity_metrics import entities
from bert_tf.export import ExportError, export_model
from bert_tf.export.precision import DevSet
from bert_tf.export.tagging import INPUTS, Tagger
from bert_tf.export.tagging_graph import GraphEntities, GraphWords, running_max
from bert_tf.tokenization import FullTokenizer, create_tokenizer

LENGTH, STRIDE = 8, 3
LABELS = ("O", "B-A", "B-B", "I-A", "I-B")
# Characters that become several, none or another, and some of all others.
SAMPLE = sorted({*text_rules.DECOMPOSITION, *text_rules.DELETED, *CODE_POINTS[::97]})


@pytest.fixture(scope="module", params=["uncased", "cased", "sentencepiece"])
def words(request, tmp_path_factory, spm_models):
    """A tokenizer that knows most characters, and the words of the graph."""
    if request.param == "sentencepiece":
        tokenizer = create_tokenizer(spm_model_file=spm_models["bpe"])
    else:
        path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
        write_vocab_of_characters(path, range(0x21, 0x800))
        tokenizer = FullTokenizer(path, request.param == "uncased")
    return tokenizer, GraphWords(tokenizer, LENGTH, STRIDE)


def in_graph(words, texts):
    """Spans of each text; then INPUTS of the rows that have a word, without padding."""
    spans = words.spans(tf.constant(texts, tf.string))
    rows, places = words.rows(tf.constant(texts, tf.string), spans)
    features = {name: rows[name].numpy() for name in INPUTS}
    used = features["input_mask"].sum(axis=1)
    made = [
        [features[name][row, : used[row]].tolist() for name in INPUTS]
        for row in np.flatnonzero(features["label_mask"].any(axis=1))
    ]
    spans = [
        list(zip(*row, strict=True)) for row in zip(*(x.to_list() for x in spans), strict=True)
    ]
    return spans, made, places.numpy().tolist()


def in_python(tokenizer, texts):
    spans = [word_spans(text, tokenizer) for text in texts]
    examples = [
        TaggingExample(0, tuple(text[a:b] for a, b in found), None)
        for text, found in zip(texts, spans, strict=True)
    ]
    rows = list(window_rows(examples, tokenizer, {}, LENGTH, STRIDE))
    made = [[row[name][: sum(row["input_mask"])] for name in INPUTS] for row, _ in rows]
    return spans, made, rows


def check(words, texts):
    tokenizer, graph = words
    spans, made, places = in_graph(graph, texts)
    wanted_spans, wanted, rows = in_python(tokenizer, texts)
    assert spans == wanted_spans
    assert made == wanted
    # A place for each word, that where Python reads its label.
    best = [
        (window.example, int(word), int(position))
        for _, window in rows
        for word, position in zip(window.words, window.positions, strict=True)
    ]
    assert [p for *_, p in sorted(best)] == [position for _, position in places]


@given(texts=st.lists(st.text(st.sampled_from(NASTY) | st.characters(codec="utf-8")), max_size=5))
@example(texts=[""])
@example(texts=["", "\u200b", "a b", "", "abc" * 9 + " d" * 20, ""])
@settings(max_examples=60)
def test_words_and_rows_of_any_texts(words, texts):
    check(words, texts or ["a"])


@pytest.mark.parametrize("context", CONTEXTS)
def test_words_of_every_kind_of_character(words, context):
    tokenizer, graph = words
    texts = [context.format(chr(code)) for code in SAMPLE if not 0xD800 <= code < 0xE000]
    spans = graph.spans(tf.constant(texts))
    found = [
        list(zip(*row, strict=True)) for row in zip(*(x.to_list() for x in spans), strict=True)
    ]
    assert found == [word_spans(text, tokenizer) for text in texts]


@given(st.lists(st.integers(-9, 9), max_size=40))
def test_running_max(values):
    expected = np.maximum.accumulate(np.array(values, np.int32)) if values else []
    np.testing.assert_array_equal(running_max(tf.constant(values, tf.int32)), expected)


@given(st.lists(st.lists(st.sampled_from(range(len(LABELS))), max_size=9), min_size=1, max_size=4))
def test_entities_of_any_labels(rows):
    starts = tf.ragged.constant([[3 * n for n in range(len(row))] for row in rows], tf.int32)
    spans = starts, starts + 2
    ids = tf.constant([label for row in rows for label in row], tf.int32)
    found = [x.to_list() for x in GraphEntities(LABELS, True)(ids, spans)]
    expected = [
        [(kind.encode(), 3 * a, 3 * b - 1) for kind, a, b in entities([LABELS[n] for n in row])]
        for row in rows
    ]
    assert [list(zip(*row, strict=True)) for row in zip(*found, strict=True)] == expected


def tagger(folder, use_crf, scheme="IOB2", labels=LABELS):
    parts = exporting.arguments(folder)
    keras.utils.set_random_seed(3)
    model = heads.tagger(parts["config"], len(labels), use_crf)
    for weight in model.weights:
        if weight.name == "output_weights":
            weight.assign(weight * 50)
        elif "transitions" in weight.name:
            weight.assign(tf.random.normal(weight.shape))
    settings = parts["config"], parts["tokenizer"], 12
    return Tagger(model, *settings, TagSet(scheme, labels), use_crf)


def test_every_word_has_a_class_without_a_scheme(tmp_path):
    servable = tagger(tmp_path, False, "none", ("NOUN", "VERB", "B-NOUN"))
    path = export_model(servable, str(tmp_path / "export"), ["the word of a text"])
    serve = tf.saved_model.load(path).signatures["serving_default"]
    answer = serve(tf.constant(["a the b", "b"]))
    np.testing.assert_array_equal(answer["texts"], [[b"a", b"the", b"b"], [b"b", b"", b""]])
    assert set(answer["labels"].numpy().ravel()) <= {b"NOUN", b"VERB", b"B-NOUN", b""}
    assert (answer["labels"].numpy() == b"").tolist() == (answer["starts"].numpy() < 0).tolist()


def test_a_graph_that_answers_otherwise_is_not_exported(tmp_path, monkeypatch):
    servable = tagger(tmp_path, True)
    monkeypatch.setattr(GraphEntities, "__call__", lambda self, ids, spans: _shifted(spans))
    with pytest.raises(ExportError, match="entities: Python"):
        export_model(servable, str(tmp_path / "export"))
    assert not list((tmp_path / "export").rglob("saved_model.pb"))


def test_a_graph_that_reads_otherwise_is_not_exported_in_bfloat16(tmp_path, monkeypatch):
    servable, rows = tagger(tmp_path, True), GraphWords.rows

    def reversed_places(self, texts, spans):
        found = rows(self, texts, spans)
        return found._replace(words=found.words[::-1])

    monkeypatch.setattr(GraphWords, "rows", reversed_places)
    with pytest.raises(ExportError, match="read: Python"):
        made = (servable, str(tmp_path / "export"), (), None, "bfloat16")
        export_model(*made, lambda: dev_set(servable))


def _shifted(spans):
    starts, ends = spans
    return starts.with_values(tf.fill([tf.size(starts.values)], "A")), starts, ends


def dev_set(servable):
    """A few texts; how many pieces got a label other than the first."""
    (batch,) = servable.answers(["the word of a text", "an other text, and the word"])

    class Rows:
        def __len__(self):
            return len(batch.owners)

        def batch(self, indices):
            return {name: values[indices] for name, values in batch.features.items()}

    return DevSet(
        Rows(), lambda answers: {"n": sum((a["label_ids"] > 0).sum() for a in answers).item()}
    )


@pytest.mark.parametrize("use_crf", [False, True])
def test_bfloat16(tmp_path, use_crf):
    servable, texts = tagger(tmp_path, use_crf), ["the word of a text", "an other text"]
    path = export_model(
        servable, str(tmp_path / "e"), texts, None, "bfloat16", lambda: dev_set(servable)
    )
    loaded = tf.saved_model.load(path)
    assert tf.bfloat16 in {v.dtype for v in loaded.model.weights}
    (exact,) = servable.answers(texts)
    given = {name: tf.constant(values) for name, values in exact.features.items()}
    apart = abs(loaded.signatures["features"](**given)["logits"].numpy() - exact.logits).max()
    assert 0 < apart < 0.05 * abs(exact.logits).max()


@pytest.mark.parametrize("use_crf", [False, True])
def test_labels_are_those_of_the_logits(tmp_path, use_crf):
    servable = tagger(tmp_path, use_crf)
    (batch,) = servable.answers(["the word of a text"])
    case = next(servable.features_cases(batch))
    names = np.array(["", *LABELS], object)
    mask = batch.features["label_mask"]
    answers = {"logits": batch.logits, "label_ids": np.zeros_like(mask)}
    answers["label_ids"][mask > 0] = batch.words

    def check():
        shown = np.where(mask > 0, answers["label_ids"] + 1, 0)
        labels = np.array([[name.encode() for name in row] for row in names[shown]], object)
        servable.check(case, answers | {"labels": labels})

    check()
    answers["label_ids"][0, 1] = (answers["label_ids"][0, 1] + 1) % len(LABELS)
    with pytest.raises(ExportError, match="by the logits"):
        check()
