"""Tag schemes: detected, read as IOB2 and written again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from bert_tf.data.tag_schemes import (
    NO_SCHEME,
    SCHEMES,
    TagSet,
    detect,
    found_tag_set,
    repairs,
    scheme_tags,
)
from bert_tf.entity_metrics import entities

WITH_ENTITIES = [scheme for scheme in SCHEMES if scheme != NO_SCHEME]
STRICT = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": IOBES, "BILOU": BILOU}


@st.composite
def annotated(draw, kinds=("PER", "LOC", "a-b")):
    """Entities that do not overlap, and the number of words."""
    found, position = [], 0
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=5)):
        start = position + draw(st.integers(0, 2))
        position = start + draw(st.integers(1, 4))
        found.append((kind, start, position))
    return found, position + draw(st.integers(0, 2))


@pytest.mark.parametrize("scheme", WITH_ENTITIES)
@given(case=annotated())
def test_entities_come_back_from_every_scheme(scheme, case):
    found, length = case
    tags = scheme_tags(found, length, scheme)
    assert entities(tags) == found
    assert repairs(tags, scheme) == 0
    if length and scheme in STRICT:  # seqeval's strict mode reads them as well
        strict = Entities([tags], STRICT[scheme]).entities[0]
        assert [(e.tag, e.start, e.end) for e in strict] == found


def test_the_schemes_by_example():
    found = [("X", 0, 1), ("X", 1, 4), ("Y", 4, 6), ("X", 7, 8)]
    expected = {
        "IOB1": "I-X B-X I-X I-X I-Y I-Y O I-X",
        "IOB2": "B-X B-X I-X I-X B-Y I-Y O B-X",
        "BIOES": "S-X B-X I-X E-X B-Y E-Y O S-X",
        "BILOU": "U-X B-X I-X L-X B-Y L-Y O U-X",
        "BMES": "S-X B-X M-X E-X B-Y E-Y O S-X",
    }
    for scheme, tags in expected.items():
        assert scheme_tags(found, 8, scheme) == tags.split()
        assert detect([tags.split()]) == scheme


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("B E S B M E", "BMES"),  # word segmentation
        ("B I B B I", "IOB2"),
        ("NN VB . O", "none"),
        ("NOUN X S I", "none"),
        ("B E S", "BMES"),
        ("S-X B-X E-X", "BIOES"),
        ("I-PER I-PER O", "IOB1"),
        ("B-PER PER O I-PER", "IOB2"),  # PER is a mistake
        ("O I-PER B-PER I-PER B-LOC O B-PER I-PER", "IOB2"),  # a repair less than in IOB1
    ],
)
def test_detection(tags, scheme):
    assert detect([tags.split()]) == scheme


def test_repairs_are_counted():
    assert repairs(["O", "I-PER", "I-PER"], "IOB2") == 1
    assert repairs(["O", "I-PER", "I-PER"], "IOB1") == 0
    assert repairs(["B-PER", "I-LOC"], "IOB2") == 1
    assert repairs(["B-PER", "O"], "BIOES") == 1
    assert repairs(["anything"], "none") == 0


def test_labels():
    tags = ["B-PER", "O", "B-LOC"]
    assert found_tag_set([tags]).labels == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
    assert found_tag_set([["B", "M", "E", "S"]]) == TagSet("BMES", ("B", "I"))
    assert found_tag_set([["NN", "VB", "O", "NN"]]) == TagSet("none", ("O", "NN", "VB"))
    assert found_tag_set([tags], "none").labels == ("O", "B-LOC", "B-PER")


@pytest.mark.parametrize("scheme", WITH_ENTITIES)
@given(case=annotated())
def test_labels_are_iob2_and_tags_come_back(scheme, case):
    found, length = case
    tags = scheme_tags(found, length, scheme)
    labels = ("O", *(f"{p}-{k}" for p in "BI" for k in ("PER", "LOC", "a-b")))
    tag_set = TagSet(scheme, labels)
    assert tag_set.to_labels(tags) == scheme_tags(found, length, "IOB2")
    assert tag_set.to_tags(tag_set.to_labels(tags)) == tags


def test_unknown_tags():
    tag_set = TagSet("IOB2", ("O", "B-PER", "I-PER"))
    with pytest.raises(ValueError, match="unknown tag 'E-PER': IOB2 has O and the letters B, I"):
        tag_set.to_labels(["O", "E-PER"])
    with pytest.raises(ValueError, match="unknown tag 'B-PRE'. Did you mean 'B-PER'"):
        tag_set.to_labels(["B-PRE"])
    with pytest.raises(ValueError, match="unknown tag 'XX'. There are: NN"):
        TagSet("none", ("NN",)).to_labels(["XX"])
    with pytest.raises(ValueError, match="unknown tag scheme 'IOB'; use IOB2, IOB1, BIOES"):
        TagSet("IOB", ())
