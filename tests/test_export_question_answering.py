"""The graph that answers questions, against Python on what is hard: windows, marks, emptiness."""

import json
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from exporting import check_no_rows

from bert_tf import heads
from bert_tf.config import BertConfig
from bert_tf.data import squad_answers
from bert_tf.data.squad_files import Passage, Question
from bert_tf.data.squad_windows import WindowSettings, build
from bert_tf.export import ExportError, export_model, verify
from bert_tf.export.question_answering import LOGITS, QuestionAnswering
from bert_tf.tokenization import FullTokenizer, create_tokenizer

TINY = Path(__file__).parent / "tiny"
LONG = "the Füm was not good, but today he saw it and never liked the e\u0316\u0301nd . " * 6
SAMPLES = [("who saw it?", LONG), ("what?", "a"), ("", "Le ca\u0301fe\u0301 !"), ("why?", "")]


@pytest.fixture(scope="module", params=[None, 0.0], ids=["v1", "v2"])
def exported(request, tmp_path_factory):
    """A servable of random weights, and the folder of its text model; verified on `SAMPLES`."""
    shape = json.loads((TINY / "bert_config.json").read_text()) | {"initializer_range": 0.3}
    config = BertConfig.from_dict(shape)
    keras.utils.set_random_seed(1)
    tokenizer = FullTokenizer(TINY / "vocab.txt")
    windows = WindowSettings(max_seq_length=40, doc_stride=8, max_query_length=12)
    servable = QuestionAnswering(heads.span(config), config, tokenizer, windows, 5, request.param)
    folder = export_model(servable, str(tmp_path_factory.mktemp("export")), SAMPLES)
    return servable, folder


def answers(folder, samples):
    """Output -> a list."""
    questions, contexts = zip(*samples, strict=True)
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    found = signature(question=tf.constant(questions), context=tf.constant(contexts))
    return {name: value.numpy().tolist() for name, value in found.items()}


def test_signatures(exported):
    servable, folder = exported
    signatures = tf.saved_model.load(folder).signatures
    assert set(signatures) == {"serving_default", "features", "examples"}
    assert set(signatures["features"].structured_outputs) == set(LOGITS)
    outputs = {"answer", "start", "end", "score"}
    outputs |= {"null_odds"} if servable.threshold is not None else set()
    assert set(signatures["serving_default"].structured_outputs) == outputs


def test_the_best_span_is_the_first_of_all_n_best(exported):
    """As `predictions.json` would have it, if n_best_size left none out."""
    servable, folder = exported
    questions = [Question(str(i), q, Passage("", c), (), None) for i, (q, c) in enumerate(SAMPLES)]
    windows = build(questions, servable.tokenizer, servable.windows)
    assert len(windows.of_question(0)) > 5
    rows = list(windows.rows())
    names = ("input_ids", "input_mask", "segment_ids")
    mask = tf.constant([row["input_mask"] for row in rows])
    outputs = servable.model({n: tf.constant([row[n] for row in rows]) for n in names})
    logits = [tf.where(mask == 1, outputs[name], -float("inf")).numpy() for name in LOGITS]
    version_2 = servable.threshold is not None
    settings = squad_answers.AnswerSettings(
        40, servable.max_answer_length, version_2, servable.threshold or 0.0
    )
    expected = squad_answers.extract(windows, *logits, settings)
    found = answers(folder, SAMPLES)
    texts = list(expected.predictions.values())[:3]  # version 1 says "empty" where there is nothing
    assert [answer.decode() for answer in found["answer"]] == [*texts, ""]
    if version_2:
        odds = list(expected.null_odds.values())
        assert found["null_odds"] == pytest.approx(odds, abs=1e-4)


def test_characters_and_emptiness(exported):
    _, folder = exported
    found = answers(folder, SAMPLES)
    for i, (_, context) in enumerate(SAMPLES):
        assert context[found["start"][i] : found["end"][i]] == found["answer"][i].decode()
    only_empty = answers(folder, [("why?", ""), ("", " \t")])
    assert only_empty["answer"] == [b"", b""]
    assert only_empty["start"] == only_empty["end"] == only_empty["score"] == [0, 0]


def test_a_batch_of_no_rows(exported):
    check_no_rows(exported[1])


def test_a_model_that_answers_something_else_is_found_out(exported):
    servable, folder = exported
    batches = servable.answers(SAMPLES[:1])
    (case,) = (c for c in servable.text_cases(batches[0]) if c.function == "serving_default")
    right = verify.call(tf.saved_model.load(folder), case.function, case.inputs)
    servable.check(case, right)
    for name in case.expected:
        wrong = right | {name: right[name] + (b"x" if name == "answer" else 1)}
        with pytest.raises(ExportError, match=f"^{name} of 'who saw it"):
            servable.check(case, wrong)


def test_tokenizers_without_characters_are_refused(exported):
    servable, _ = exported
    tokenizer = create_tokenizer(vocab_file=str(TINY / "vocab.txt"), keep_special_tokens=True)
    with pytest.raises(ValueError, match="--keep_special_tokens"):
        QuestionAnswering(servable.model, servable.config, tokenizer, servable.windows)
