"""Entities and their scores against seqeval, whose default mode is conlleval's."""

import pytest
import seqeval.metrics
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from bert_tf.entity_metrics import entities, entity_scores, tag_accuracy

KINDS = ("PER", "LOC", "a-b")


def tags_of(prefixes):
    typed = st.builds("{}-{}".format, st.sampled_from(prefixes), st.sampled_from(KINDS))
    return st.just("O") | typed


def pairs(tags):
    """Sentences of tags and predicted tags, with one entity at least: seqeval reports no other."""
    words = st.lists(st.tuples(tags, tags), min_size=1, max_size=12)
    sentences = st.lists(words, min_size=1, max_size=6)
    return st.tuples(sentences, st.just([[("B-PER", "O")]])).map(lambda both: both[0] + both[1])


@pytest.mark.parametrize("prefixes", ["BI", "BIES"])
def test_scores_are_seqevals(prefixes):
    @given(pairs(tags_of(prefixes)))
    def check(sentences):
        gold = [[a for a, _ in words] for words in sentences]
        guess = [[b for _, b in words] for words in sentences]
        ours = entity_scores(list(map(entities, gold)), list(map(entities, guess)))
        names = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
        theirs = seqeval.metrics.classification_report(
            gold, guess, output_dict=True, zero_division=0
        )
        micro = theirs.pop("micro avg")
        assert ours["support"] == micro["support"]
        kinds = {k: v for k, v in theirs.items() if not k.endswith(" avg")}
        assert set(ours.get("types", {})) == set(kinds)
        for name, theirs_name in names.items():
            assert ours[name] == pytest.approx(micro[theirs_name], abs=1e-12)
            for kind, values in kinds.items():
                assert ours["types"][kind][name] == pytest.approx(values[theirs_name], abs=1e-12)
                assert ours["types"][kind]["support"] == values["support"]
        assert tag_accuracy(gold, guess) == seqeval.metrics.accuracy_score(gold, guess)

    check()


@given(st.lists(st.sampled_from("OBIES"), max_size=12))
def test_bare_letters(tags):
    assert entities(tags) == [(k.strip("_"), a, b + 1) for k, a, b in get_entities(tags)]


def test_letters_of_other_schemes():
    assert entities(["B", "M", "E", "S"]) == [("", 0, 3), ("", 3, 4)]
    assert entities(["B-X", "I-X", "L-X", "U-Y", "O"]) == [("X", 0, 3), ("Y", 3, 4)]


def test_nothing_to_divide_by_is_zero():
    nothing = {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert entity_scores([[]], [[]]) == nothing | {"support": 0}
    there = [[("PER", 0, 1)]]
    assert entity_scores(there, [[]])["types"]["PER"] == nothing | {"support": 1}


def test_words_of_a_segmentation_have_no_type():
    gold, guess = entities(["B", "E", "S"]), entities(["B", "E", "B"])
    assert "types" not in entity_scores([gold], [guess])
    assert entity_scores([gold], [guess])["f1"] == 1.0


def test_there_must_be_as_many_of_both():
    with pytest.raises(ValueError, match="1 sentences and predictions for 2"):
        entity_scores([[]], [[], []])
    with pytest.raises(ValueError, match="2 words and predictions for 1"):
        tag_accuracy([["O", "O"]], [["O"]])
    with pytest.raises(ValueError, match="at least one"):
        tag_accuracy([], [])
