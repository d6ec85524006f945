"""The report of a run: its numbers, that it is safe and whole, and that a browser shows it."""

import base64
import dataclasses
import html.parser
import json
import re
import subprocess
import sys

import browser
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from bert_tf.reporting import Predictions, RunReport, events, measures, parts, render
from bert_tf.reporting.parts import Text
from bert_tf.reporting.predictions import labels_of_words

HOSTILE = '<script>document.title="ran"</script><img src="http://example.com/x.png"> & "q"'
CHINESE = "这个周末适合去公园散步。"


def examples(count, text=CHINESE, second=None):
    """The columns of as many examples."""
    columns = {
        "place": [f"data/dev.tsv:{i + 2}" for i in range(count)],
        "id": [f"dev-{i}" for i in range(count)],
        "text": [Text.of(f"{text} {i}") for i in range(count)],
    }
    return columns | ({"second text": [Text.of(second)] * count} if second else {})


def predictions(task_type, rows=300, count=2, **changes):
    """Random ones that are mostly right."""
    rng = np.random.default_rng(3)
    if task_type == "regression":
        count = 0
        expected = rng.uniform(0, 5, rows)
        outputs = (expected + rng.normal(0, 0.5, rows)).astype(np.float32)
    elif task_type == "multilabel":
        expected = rng.integers(2, size=(rows, count))
        scores = 3 * expected - 1.5 + rng.normal(0, 1, (rows, count))
        outputs = (1 / (1 + np.exp(-scores))).astype(np.float32)
    else:
        expected = rng.integers(count, size=rows)
        scores = np.exp(rng.normal(0, 1, (rows, count)) + np.eye(count)[expected])
        outputs = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    values = {
        "task_type": task_type,
        "labels": [f"类 {i}" for i in range(count)],
        "columns": examples(rows),
        "expected": expected,
        "outputs": outputs,
    }
    return Predictions(**values | changes)


def made_up(details, **changes):
    """A report on predictions."""
    steps = range(1, 901)
    values = {
        "title": "demo",
        "score": ("accuracy", 0.8125),
        "warnings": ["3 texts of dev are in train too"],
        "details": details.sections(),
        "metrics": {"eval": {"eval_loss": np.float32(0.5), "examples": 300}, "best": None},
        "curves": {
            "loss": {step: 1 / step for step in steps},
            "learning_rate": {step: 1e-5 * (1 - step / 900) for step in steps},
            "eval_accuracy": {300: 0.5, 600: 0.75},
        },
        "flags": {"learning_rate": 5e-5, "init_checkpoint": None, "do_eval": True},
        "versions": {"tensorflow": "2.21.0"},
        "fingerprints": {"the training data": "ab" * 32},
    }
    return RunReport(**values | changes)


class Page(html.parser.HTMLParser):
    """Tables as lists of rows of cell texts, images, headings, and every attribute."""

    def __init__(self, source):
        super().__init__()
        self.tables, self.images, self.headings, self.attributes = {}, [], [], []
        self.tags, self._path, self._text, self._table = set(), [], [], None
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag in ("td", "th", "caption", "h2"):
            self._text = []
        if tag == "table":
            self._table = []
        if tag == "tr":
            self._table.append([])

    def handle_data(self, data):
        self._text.append(data)

    def handle_endtag(self, tag):
        text = "".join(self._text)
        if tag == "caption":
            self._caption = text
        if tag in ("td", "th"):
            self._table[-1].append(text)
        if tag == "h2":
            self.headings.append(text)
        if tag == "table":
            self.tables[self._caption] = self._table


# ------------------------------------------------------------------------------------- numbers


def test_calibration_error_by_hand():
    # (0.5, 0.75]: 0.6 and 0.7, one came true: |0.65 - 0.5| = 0.15, half of the examples.
    # (0.75, 1]: 0.8 and 1.0, both came true: |0.9 - 1| = 0.1, the other half.
    found = measures.calibration(np.array([0.6, 0.7, 0.8, 1.0]), np.array([0, 1, 1, 1]), 4)
    assert found.error == pytest.approx(0.15 / 2 + 0.1 / 2)
    assert [b.size for b in found.bins] == [0, 0, 2, 2]
    assert found.bins[2][:2] == (0.5, 0.75)
    assert found.bins[2].confidence == pytest.approx(0.65) and found.bins[2].accuracy == 0.5
    assert np.isnan(found.bins[0].accuracy)


def test_a_bin_holds_its_upper_edge_and_the_first_one_0():
    found = measures.calibration(np.array([0.0, 0.25, 0.5, 1.0]), np.ones(4), 4)
    assert [b.size for b in found.bins] == [2, 1, 0, 1]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1))
def test_reliability_is_scikit_learns(pairs):
    probabilities, came_true = map(np.array, zip(*pairs, strict=True))
    found = measures.calibration(probabilities, came_true, 10)
    if probabilities.min() == 0 or len(set(came_true)) < 2:  # scikit-learn wants both outcomes
        assert sum(b.size for b in found.bins) == len(pairs)
        return
    shares, means = calibration_curve(came_true, probabilities, n_bins=10)
    filled = [b for b in found.bins if b.size]
    np.testing.assert_allclose([b.accuracy for b in filled], shares)
    np.testing.assert_allclose([b.confidence for b in filled], means)


def test_class_scores_by_hand():
    expected, predicted = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0])
    each, averages = measures.class_scores(expected, predicted, 3)
    assert each[0] == pytest.approx((2 / 3, 2 / 3, 2 / 3, 3))
    assert each[1] == pytest.approx((1 / 2, 1, 2 / 3, 1))
    assert each[2] == (0, 0, 0, 1)
    assert averages["macro"].f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert averages["weighted"].f1 == pytest.approx((3 * 2 / 3 + 2 / 3) / 5)
    matrix = measures.confusion(expected, predicted, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert measures.most_confused(matrix, 5) == [(0, 1, 1), (2, 0, 1)]


def test_scores_of_a_multilabel_task():
    expected = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    predicted = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    each, averages = measures.class_scores(expected, predicted, 2)
    assert each == [(0.5, 0.5, 0.5, 2), (1, 1, 1, 2)]
    assert averages["micro"] == (0.75, 0.75, 0.75, 4)


def test_losses():
    two = predictions("classification", 2, expected=np.array([0, 1]), outputs=np.eye(2)[[0, 0]])
    assert two.losses[0] == 0 and np.isfinite(two.losses[1]) and two.losses[1] > 700
    numbers = predictions("regression", 2, expected=np.array([1.0, 2]), outputs=np.array([1.0, 4]))
    assert numbers.losses.tolist() == [0, 4]
    outputs = np.array([[0.5, 0.25]])
    both = predictions("multilabel", 1, expected=np.array([[1, 0]]), outputs=outputs)
    assert both.losses == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)


# ---------------------------------------------------------------------------------------- page

KINDS = {
    "two": ("classification", 2),
    "many": ("classification", 119),
    "multilabel": ("multilabel", 5),
    "regression": ("regression", 0),
}


@pytest.fixture(scope="module")
def pages():
    return {
        name: render(made_up(predictions(kind, count=count)))
        for name, (kind, count) in KINDS.items()
    }


def test_tables_hold_the_numbers(pages):
    report, page = predictions("classification"), Page(pages["two"])
    (header, *rows), right = page.tables["Rows: true label; columns: predicted"], 0
    assert header == ["true \\ predicted", "类 0", "类 1"]
    for i, (label, *cells) in enumerate(rows):
        of_class = report.predicted[report.expected == i]
        assert (label, cells) == (f"类 {i}", [str((of_class == j).sum()) for j in range(2)])
        right += int(cells[i])
    assert f"{300 - right} of 300 examples are predicted wrongly" in pages["two"]
    scores = page.tables["Scores of each label"]
    assert [row[1] for row in scores[1:]] == ["类 0", "类 1", "macro average", "weighted average"]
    assert ["eval.eval_loss", "0.5000"] in page.tables["Every number of the run"]
    assert ["learning_rate", "5e-05"] in page.tables["What the run was told"]
    assert ["do_eval", "true"] in page.tables["What the run was told"]
    assert all(all(row) for row in page.tables["What the run was told"])
    assert len(page.tables["Every number of the run"]) == 3  # nothing of what is not there
    assert "Expected calibration error: 0." in pages["two"] and "(15 bins" in pages["two"]


def test_worst_errors_are_the_highest_losses_with_their_places(pages):
    report = predictions("classification")
    _, *rows = Page(pages["two"]).tables["Worst first"]
    wrong = report.predicted != report.expected
    worst = np.argsort(-np.where(wrong, report.losses, 0))[:20]
    assert len(rows) == 20 and wrong[worst].all()
    assert f"The 20 worst of {wrong.sum()} examples that are predicted wrongly" in pages["two"]
    assert [row[0] for row in rows] == [f"data/dev.tsv:{i + 2}" for i in worst]
    assert [row[2] for row in rows] == [f"{CHINESE} {i}" for i in worst]
    assert [row[3] for row in rows] == [report.labels[report.expected[i]] for i in worst]
    assert rows[0][4] == f"{report.outputs[worst[0], report.expected[worst[0]]]:.4f}"


def test_what_each_kind_of_task_shows(pages):
    found = {name: Page(page) for name, page in pages.items()}
    assert "Most confused pairs" in found["many"].tables
    assert len(found["many"].tables["Scores of each label"]) == 1 + 119 + 2
    assert "Confusion matrix" not in found["multilabel"].headings
    assert "micro average" in pages["multilabel"]
    assert {"Predictions", "Curves", "Worst errors"} < set(found["regression"].headings)
    assert "Labels" not in found["regression"].headings
    figures = {"two": 1, "many": 2, "multilabel": 1, "regression": 2}
    for name, count in figures.items():
        assert len(found[name].images) == 3 + count  # three curves


def test_evaluation_alone_has_no_curves():
    page = Page(render(made_up(predictions("classification"), curves={}, flags={})))
    assert "Curves" not in page.headings and "Flags" not in page.headings


def test_the_score_and_the_warnings_stand_at_the_top(pages):
    top = pages["two"].partition("<nav")[0]
    assert "accuracy <strong>0.8125</strong>" in top
    assert '<li dir="auto">3 texts of dev are in train too</li>' in top


def test_no_heading_stands_there_twice(pages):
    for page in map(Page, pages.values()):
        headings = [*page.headings, *page.tables]
        assert len(headings) == len(set(headings))


def test_where_nothing_is_wrong_there_are_no_errors_and_no_empty_bins():
    right = predictions("classification", 40, expected=np.arange(40) % 2)
    right = dataclasses.replace(right, outputs=np.eye(2)[right.expected] * 0.9 + 0.05)
    page = Page(render(made_up(right)))
    assert "Worst errors" not in page.headings
    assert [row[1] for row in page.tables["Reliability by bin"]] == ["count", "40"]


def test_a_program_without_classes_has_a_page_of_what_it_has():
    words = labels_of_words(["N", "V"], np.array([0, 1, 1]), np.array([0, 1, 0]))
    errors = parts.worst_errors(
        "answers.", ["id", "text"], [0, 0.5, 1], lambda i: [i, Text.of("x")]
    )
    page = Page(render(RunReport(title="tags", details=[*words, *errors])))
    assert page.headings == ["Labels", "Confusion matrix", "Worst errors"]
    assert page.tables["Rows: true label; columns: predicted"][2] == ["V", "1", "1"]
    assert [row[0] for row in page.tables["Worst first"]] == ["id", "2", "1"]
    assert Page(render(RunReport(title="only a title"))).headings == []


def test_the_same_report_is_the_same_bytes(pages):
    for name, (kind, count) in KINDS.items():
        assert render(made_up(predictions(kind, count=count))) == pages[name]


def test_nothing_is_fetched_and_nothing_can_run(pages):
    """Neither the page nor the figures in it refer to anything outside."""
    for source in pages.values():
        page = Page(source)
        assert not page.tags & {"script", "link", "iframe", "object", "base", "form", "svg"}
        for _, name, value in page.attributes:
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                assert value.startswith(("data:image/svg+xml;base64,", "#")), value[:60]
        for image in page.images:
            assert image["alt"]
            svg = base64.b64decode(image["src"].partition(",")[2]).decode()
            links = re.findall(r'href="([^"]*)|url\(([^)]*)\)', svg)
            assert all((a or b).startswith(("#", "data:image/png")) for a, b in links)
            assert "<metadata" not in svg and "@import" not in svg
        style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)[1]
        assert "@import" not in style and "url(" not in style
        assert "default-src 'none'" in source


def test_texts_of_strangers_are_only_text():
    details = predictions(
        "classification",
        labels=[HOSTILE, "</table>"],
        columns=examples(300, HOSTILE, second="<b>second</b>"),
    )
    source = render(
        made_up(
            details,
            title=HOSTILE,
            score=(HOSTILE, 1.0),
            warnings=[HOSTILE],
            metrics={HOSTILE: HOSTILE},
        )
    )
    page = Page(source)
    assert "script" not in page.tags and "b" not in page.tags
    assert len(page.images) == 4  # ours
    assert page.tables["Worst first"][1][2].startswith(HOSTILE)
    assert page.tables["Worst first"][1][3] == "<b>second</b>"


def test_half_a_surrogate_pair_and_a_long_text_can_be_written():
    texts = examples(300, "\ud83d" + "长" * 1000)
    source = render(made_up(predictions("classification", columns=texts)))
    assert "\\ud83d" in source.encode("utf-8").decode("utf-8")
    assert "长" * 299 in source and "长" * 300 not in source
    assert re.search(r"… and 70\d more characters", source)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"outputs of shape \[300, 2\], not \[300, 3\]"):
        predictions("classification", outputs=np.zeros((300, 3)))
    with pytest.raises(ValueError, match="at least one example"):
        predictions("regression", rows=0)
    with pytest.raises(ValueError, match="not finite"):
        predictions("regression", outputs=np.full(300, np.nan))
    with pytest.raises(ValueError, match="there are classification, regression, multilabel"):
        dataclasses.replace(predictions("regression"), task_type="spans")


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_one_example_is_enough(kind):
    outputs = {"classification": [[0.75, 0.25]], "multilabel": [[0.75, 0.25]], "regression": [2.0]}
    expected = {"classification": [1], "multilabel": [[0, 0]], "regression": [1.0]}
    values = {"outputs": np.array(outputs[kind]), "expected": np.array(expected[kind])}
    page = Page(render(made_up(predictions(kind, rows=1, **values))))
    assert len(page.tables["Worst first"]) == 2


def test_importing_draws_nothing():
    code = "import sys, bert_tf.reporting as r; print({'matplotlib', 'jinja2'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


# -------------------------------------------------------------------------------------- events


def write_events(folder, *scalars):
    """One file with (tag, step, value) each; files begun later sort later."""
    with tf.summary.create_file_writer(str(folder)).as_default():
        metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        for tag, step, value in scalars:
            tf.summary.write(tag, tf.constant(value, tf.float32), step, metadata)
        tf.summary.write("histogram", tf.zeros([3]), 1)


def rename(folder, seconds):
    """As if the file had been begun at that time."""
    (path,) = (p for p in folder.glob("events*") if ".1000" not in p.name)
    path.rename(folder / f"events.out.tfevents.{seconds}.host.1.0.v2")


def test_scalars_of_a_continued_run(tmp_path):
    write_events(tmp_path, *(("loss", step, step) for step in range(1, 8)), ("rate", 1, 0.5))
    rename(tmp_path, 1000000001)
    write_events(tmp_path, *(("loss", step, 10 * step) for step in (4, 5)))
    rename(tmp_path, 1000000002)
    scalars = events.read_scalars(str(tmp_path))
    # Steps 6 and 7 were taken back when the run went on from step 3.
    assert scalars == {"loss": {1: 1, 2: 2, 3: 3, 4: 40, 5: 50}, "rate": {1: 0.5}}


def test_a_truncated_event_file_gives_what_is_whole(tmp_path, caplog):
    write_events(tmp_path, *(("loss", step, step) for step in range(1, 8)))
    (path,) = tmp_path.glob("events*")
    path.write_bytes(path.read_bytes()[:-150])
    with caplog.at_level("WARNING", logger="absl"):
        scalars = events.read_scalars(str(tmp_path))
    found = scalars["loss"]
    assert 1 <= len(found) < 7 and list(found) == list(range(1, len(found) + 1))
    assert "the rest cannot be read" in caplog.text


def test_no_event_file_no_scalars(tmp_path):
    assert events.read_scalars(str(tmp_path)) == {}


# ------------------------------------------------------------------------------------- browser


def chromium(tmp_path, page, *arguments):
    """What a browser prints for a page."""
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    # Every name fails to resolve: what needs a network would be missing.
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    return browser.printed(path.as_uri(), tmp_path / "profile", offline, *arguments)


# Runs beside the page, in a frame's parent: the page itself allows no script.
PROBE = """<!DOCTYPE html><meta charset="utf-8"><iframe style="width:1100px;height:900px"></iframe>
<pre></pre><script>
const frame = document.querySelector("iframe");
frame.srcdoc = new TextDecoder().decode(Uint8Array.from(atob("%s"), c => c.charCodeAt(0)));
frame.onload = () => {
  const page = frame.contentDocument;
  const images = [...page.images].map(i => [i.complete, i.naturalWidth, i.clientWidth]);
  document.querySelector("pre").textContent = JSON.stringify({
    images, title: page.title, tables: page.querySelectorAll("table").length,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    cells: [...page.querySelectorAll(".text")].slice(0, 2).map(e => e.innerText)});
};
</script>"""


@pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", KINDS)
def test_a_browser_shows_it(name, tmp_path):
    kind, count = KINDS[name]
    details = predictions(kind, count=count, columns=examples(300, HOSTILE, CHINESE))
    page = render(made_up(details, title=HOSTILE))
    probe = PROBE % base64.b64encode(page.encode()).decode()
    dom = chromium(tmp_path, probe, "--dump-dom", "--virtual-time-budget=5000")
    text = re.search(r"<pre>(.*?)</pre>", dom, re.DOTALL)[1]
    shown = json.loads(html.unescape(text))
    assert shown["title"] == HOSTILE  # not "ran"
    assert len(shown["images"]) == len(Page(page).images)
    for complete, natural, width in shown["images"]:
        assert complete and natural > 200 and width > 200
    assert shown["tables"] == len(Page(page).tables)
    assert shown["overflow"] <= 0
    assert shown["cells"][0].startswith(HOSTILE) and shown["cells"][1] == CHINESE
