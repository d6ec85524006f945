"""extract_features.py as people use it: every form of output, and the numbers in it."""

import dataclasses
import io
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tf import checkpoints, pooling
from bert_tf.config import BertConfig
from bert_tf.data import sentence_lines
from bert_tf.data.text_files import BadRow
from bert_tf.modeling import BertModel
from bert_tf.packing import pack
from bert_tf.tasks import feature_extraction, vector_files
from bert_tf.tasks.feature_extraction_config import (
    FEATURES,
    NO_POOLING,
    POOLED,
    POOLING_NAMES,
    FeatureExtractionConfig,
)

ROOT = Path(__file__).parent.parent
TINY = Path(__file__).parent / "tiny"
MINILM = ROOT / "downloads" / "all-MiniLM-L6-v2"
SIZE, LAYERS = 32, 4
LINES = [
    "we liked this film",
    "the book was bad ||| he never read it",
    "",
    "  funny \u2003",
    "a ||| b ||| c",
    'quotes " and \\ and é ||| x',
    "dull plot " * 40,
    "it was great, we saw it today. " * 3,
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with random weights, deep enough for every choice of layers."""
    folder = tmp_path_factory.mktemp("model")
    config = BertConfig.from_json_file(TINY / "bert_config.json")
    # Large weights, so that neither layers nor tokens are alike.
    config = dataclasses.replace(config, num_hidden_layers=LAYERS, initializer_range=0.2)
    keras.utils.set_random_seed(3)
    bert = BertModel(config)
    checkpoints.save(
        bert, f"{folder}/", "google", vocab_file=str(TINY / "vocab.txt"), do_lower_case=True
    )
    return str(folder)


@pytest.fixture
def extract(model, tmp_path):
    """Runs the program on lines of text; returns the path of the output."""

    def extract(lines=LINES, name="output", **flags):
        source = tmp_path / "input.txt"
        source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        flags = {"init_checkpoint": model, "max_seq_length": 48, "batch_size": 3} | flags
        target = str(tmp_path / name)
        config = FeatureExtractionConfig(input_file=str(source), output_file=target, **flags)
        feature_extraction.run(config)
        return Path(target)

    return extract


@pytest.fixture
def eagerly():
    """Without tracing a graph, which takes most of a run on a few short lines."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def googles_steps(model, lines, layers, length=48):
    """What google-research/bert's program writes, a line at a time and a value at a time.

    Every line is a batch of its own, padded to full length.
    """
    config, tokenizer, bert = checkpoints.from_pretrained(model)
    text = ""
    for number, line in enumerate(lines):
        match = re.match(r"^(.*) \|\|\| (.*)$", line.strip())
        first, second = match.groups() if match else (line.strip(), "")
        a, b = tokenizer.tokenize(first), tokenizer.tokenize(second)
        while len(a) + len(b) > length - (3 if b else 2):
            (a if len(a) > len(b) else b).pop()
        tokens = ["[CLS]", *a, "[SEP]"]
        segments = [0] * len(tokens)
        if b:
            tokens += [*b, "[SEP]"]
            segments += [1] * (len(b) + 1)
        padding = [0] * (length - len(tokens))
        outputs = bert(
            {
                "input_ids": tf.constant([tokenizer.convert_tokens_to_ids(tokens) + padding]),
                "input_mask": tf.constant([[1] * len(tokens) + padding]),
                "segment_ids": tf.constant([segments + padding]),
            }
        )["encoder_outputs"]
        features = []
        for place, token in enumerate(tokens):
            rows = [(layer, outputs[layer][0, place].numpy()) for layer in layers]
            values = [
                {"index": layer, "values": [round(float(x), 6) for x in row]} for layer, row in rows
            ]
            features.append({"token": token, "layers": values})
        text += json.dumps({"linex_index": number, "features": features}) + "\n"
    return text


def numbers(text):
    return np.array([float(x) for x in re.findall(r"-?\d+\.?\d*(?:e[-+]?\d+)?", text)])


# ------------------------------------------------------------------------------------ Google's


def test_output_is_googles(extract, model):
    """The same text but for a last digit, which depends on the shape of a batch."""
    written = extract().read_text()
    expected = googles_steps(model, LINES, [-1, -2, -3, -4])
    number = r"-?\d+\.\d+(e-\d+)?|-?\de-\d+"
    assert re.sub(number, "#", written) == re.sub(number, "#", expected)
    np.testing.assert_allclose(numbers(written), numbers(expected), atol=5e-6)
    first = json.loads(written.split("\n")[0])
    assert list(first) == ["linex_index", "features"]
    assert [f["token"] for f in first["features"]][:3] == ["[CLS]", "we", "liked"]
    empty = json.loads(written.split("\n")[2])
    assert [f["token"] for f in empty["features"]] == ["[CLS]", "[SEP]"]


def test_by_length_or_all_padded_it_is_the_same(extract):
    lines = [" ".join(["film"] * (n % 45)) for n in range(0, 300, 7)]
    bytes_of = [
        extract(lines, batch_size=8, pad_to_max_seq_length=padded).read_bytes()
        for padded in (False, True)
    ]
    np.testing.assert_allclose(*(numbers(b.decode()) for b in bytes_of), atol=5e-6)


def test_a_window_is_no_boundary(extract, monkeypatch, capsys):
    whole = extract().read_bytes()
    assert "is replaced" not in capsys.readouterr().out
    monkeypatch.setattr(feature_extraction, "_WINDOW_BYTES", 1)
    cut = extract()
    assert f"--output_file={cut} is there and is replaced" in capsys.readouterr().out
    np.testing.assert_allclose(numbers(cut.read_text()), numbers(whole.decode()), atol=5e-6)


def test_what_was_cut_or_empty_is_said(extract, capsys):
    extract()
    assert "8 lines, 1 truncated to 48 pieces, 1 empty" in capsys.readouterr().out


# ------------------------------------------------------------------------------------- vectors


def states(model, line):
    """The embeddings and every layer's output for one line without padding: [tokens, E] each."""
    config, tokenizer, bert = checkpoints.from_pretrained(model)
    special = {"cls_id": tokenizer.cls_token_id, "sep_id": tokenizer.sep_token_id}
    ids, _ = pack(tokenizer.encode(line), None, max_seq_length=48, **special)
    outputs = bert({"input_ids": tf.constant([ids])})
    found = [outputs["embedding_output"], *outputs["encoder_outputs"]]
    return [state[0].numpy() for state in found], outputs["pooled_output"].numpy()[0]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"layers": "0,-1"}, lambda h: np.stack([h[1], h[4]], 1)),
        ({"features": "embeddings"}, lambda h: h[0]),
        ({"features": "second_to_last_hidden"}, lambda h: h[3]),
        ({"features": "sum_last_four"}, lambda h: h[1] + h[2] + h[3] + h[4]),
        ({"features": "sum_all"}, lambda h: h[1] + h[2] + h[3] + h[4]),
        ({"features": "concat_last_four"}, lambda h: np.concatenate(h[1:], 1)),
        (
            {"features": "weighted_sum_last_four", "layer_weights": "0.5,0,-1,2"},
            lambda h: 0.5 * h[1] - h[3] + 2 * h[4],
        ),
        ({"layers": "-1,-2", "pooling": "max"}, lambda h: np.stack([h[4].max(0), h[3].max(0)])),
        ({"layers": "-2", "pooling": "cls"}, lambda h: h[3][0]),
        ({"layers": "-2", "pooling": "last"}, lambda h: h[3][-1]),
        (
            {"features": "last_hidden", "pooling": "mean_max"},
            lambda h: np.concatenate([h[4].mean(0), h[4].max(0)]),
        ),
    ],
)
@pytest.mark.usefixtures("eagerly")
def test_vectors(extract, model, flags, expected):
    lines = ["we liked this film", "dull", "it was not a very good book, but funny"]
    written = np.load(extract(lines, output_format="npy", **flags))
    vectors = [expected(states(model, line)[0]) for line in lines]
    whole = np.stack(vectors) if "pooling" in flags else np.concatenate(vectors)
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, whole, atol=1e-5)


@pytest.mark.parametrize("flags", [{}, {"pooling": "mean"}])
@pytest.mark.usefixtures("eagerly")
def test_normalize(extract, flags):
    plain, scaled = (
        np.load(extract(output_format="npy", normalize=normalize, **flags))
        for normalize in (False, True)
    )
    lengths = np.linalg.norm(plain, axis=-1, keepdims=True)
    np.testing.assert_allclose(scaled, plain / lengths, atol=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_the_poolers_output(extract, model):
    written = np.load(extract(LINES[:1], pooling="pooled", output_format="npy"))
    np.testing.assert_allclose(written, [states(model, LINES[0])[1]], atol=1e-5)


def test_one_hot_embeddings_and_bfloat16(extract):
    plain, one_hot, rounded = (
        np.load(extract(pooling="mean", output_format="npy", **flags))
        for flags in ({}, {"use_one_hot_embeddings": True}, {"precision": "mixed_bfloat16"})
    )
    np.testing.assert_allclose(one_hot, plain, atol=1e-6)
    assert 1e-4 < np.abs(rounded - plain).max() < 0.1


def test_choices_are_what_there_is():
    assert set(POOLING_NAMES) == {NO_POOLING, POOLED, *pooling.POOLINGS}
    assert set(vector_files._WRITERS) == {"jsonl", "npy", "parquet"}


# --------------------------------------------------------------------------------------- files


@pytest.mark.usefixtures("eagerly")
def test_the_three_forms_hold_the_same(extract):
    parquet = pytest.importorskip("pyarrow.parquet")
    for flags in ({"features": "concat_last_four"}, {"pooling": "mean"}):
        text = extract(**flags).read_text().splitlines()
        lines = [json.loads(line) for line in text]
        assert [json.dumps(line) for line in lines] == text
        array = np.load(path := extract(output_format="npy", **flags))
        table = parquet.read_table(extract(output_format="parquet", **flags)).to_pylist()
        offsets = range(len(LINES) + 1)
        if "pooling" not in flags:
            offsets = np.load(vector_files.offsets_path(str(path)))
        assert [row["linex_index"] for row in table] == list(range(len(LINES)))
        for number, (line, row) in enumerate(zip(lines, table, strict=True)):
            features = line.get("features", [line])
            texts = [[layer["values"] for layer in f["layers"]] for f in features]
            names = [layer["index"] for layer in features[0]["layers"]]
            part = array[offsets[number] : offsets[number + 1]].reshape(np.shape(texts))
            np.testing.assert_allclose(part, texts, atol=6e-7)
            columns = np.stack([np.array(row[f"layer_{name}"], np.float32) for name in names], -2)
            np.testing.assert_array_equal(columns.reshape(part.shape), part)
            if "features" in line:
                assert row["tokens"] == [f["token"] for f in features]


def test_npy_is_read_in_place(extract):
    array = np.load(extract(pooling="mean", output_format="npy"), mmap_mode="r")
    assert array.shape == (len(LINES), 4, SIZE)


@pytest.mark.usefixtures("eagerly")
def test_what_is_not_complete_does_not_look_it(extract, tmp_path, monkeypatch):
    (tmp_path / "output").write_text("the one before")
    monkeypatch.setattr(feature_extraction, "_WINDOW_BYTES", 1)
    compute = feature_extraction.FeatureExtractor._vectors

    def interrupted(self, window):
        if window[0].number >= 6:
            raise KeyboardInterrupt
        return compute(self, window)

    monkeypatch.setattr(feature_extraction.FeatureExtractor, "_vectors", interrupted)
    for output_format in ("jsonl", "npy", "parquet"):
        with pytest.raises(KeyboardInterrupt):
            extract(output_format=output_format)
        assert (tmp_path / "output").read_text() == "the one before"
        if output_format == "jsonl":  # what was computed is there, line by line
            partial = (tmp_path / "output.partial").read_text().splitlines()
            assert [json.loads(line)["linex_index"] for line in partial] == list(range(6))


def test_remote_files(model, tmp_path):
    folder = "ram://feature-extraction"
    tf.io.gfile.makedirs(folder)
    with tf.io.gfile.GFile(f"{folder}/in.txt", "w") as file:
        file.write("\n".join(LINES))
    config = FeatureExtractionConfig(
        input_file=f"{folder}/in.txt",
        output_file=f"{folder}/out.npy",
        init_checkpoint=model,
        output_format="npy",
        max_seq_length=48,
    )
    feature_extraction.run(config)
    with tf.io.gfile.GFile(f"{folder}/out.npy", "rb") as file:
        array = np.load(io.BytesIO(file.read()))
    with tf.io.gfile.GFile(f"{folder}/out.offsets.npy", "rb") as file:
        offsets = np.load(io.BytesIO(file.read()))
    assert array.shape == (offsets[-1], 4, SIZE) and len(offsets) == len(LINES) + 1
    assert not [name for name in tf.io.gfile.listdir(folder) if "partial" in name]
    tf.io.gfile.rmtree(folder)


# --------------------------------------------------------------------------------------- input


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(lambda t: t + " ||| b")))
def test_lines_are_split_as_googles(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("lines") / "input.txt"
    data = "\n".join(texts).encode()
    path.write_bytes(data)
    found = list(sentence_lines.read(str(path)))
    expected = data.decode().removeprefix("\ufeff").replace("\r", "").split("\n")
    if expected[-1] == "":
        expected.pop()
    assert [line.number for line in found] == list(range(len(expected)))
    assert not found or found[-1].end == len(data)
    for line, text in zip(found, expected, strict=True):
        match = re.match(r"^(.*) \|\|\| (.*)$", text.strip())
        assert (line.text_a, line.text_b) == (match.groups() if match else (text.strip(), None))


def test_lines_are_those_of_tensorflows_reader(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes("a\rb ||| c\r\n\u2028x\x85y\x0bz\n\n last".encode())
    with tf.io.gfile.GFile(str(path)) as file:
        expected = [line.strip() for line in iter(file.readline, "")]
    found = list(sentence_lines.read(str(path)))
    assert [" ||| ".join(filter(None, line[1:3])) for line in found] == expected


def test_lines_in_another_encoding(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes("Größe ||| Straße\n\nÜber alles\n".encode("cp1252"))
    found = list(sentence_lines.read(str(path), "cp1252"))
    assert [line[1:3] for line in found] == [("Größe", "Straße"), ("", None), ("Über alles", None)]
    with pytest.raises(BadRow, match=r"input\.txt:1: byte 0xf6 .* or give --encoding=cp1252"):
        list(sentence_lines.read(str(path)))
    with pytest.raises(BadRow, match=r"input\.txt:1: byte 0xf6 is not --encoding=ascii"):
        list(sentence_lines.read(str(path), "ascii"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"good\nbad \xff\n", r"input.txt:2: byte 0xff is not UTF-8"),
        ("text".encode("utf-16"), r"input.txt:1: the file is UTF-16"),
        (b"", r"--input_file=.*input.txt: the file is empty"),
        (None, r"--input_file=.*input.txt: there is no such file"),
    ],
)
def test_bad_files_are_named(model, tmp_path, data, message):
    path = tmp_path / "input.txt"
    if data is not None:
        path.write_bytes(data)
    config = FeatureExtractionConfig(
        input_file=str(path), output_file=str(tmp_path / "out"), init_checkpoint=model
    )
    with pytest.raises(ValueError, match=message):  # before anything is computed
        feature_extraction.FeatureExtractor(dataclasses.replace(config, max_seq_length=32))


def test_the_text_is_not_replaced(model, tmp_path):
    path = tmp_path / "input.txt"
    path.write_text("some text\n")
    (tmp_path / "link").symlink_to(path)
    for output in ("input.txt", "link"):
        config = FeatureExtractionConfig(
            input_file=str(path), output_file=str(tmp_path / output), init_checkpoint=model
        )
        with pytest.raises(ValueError, match=r"--output_file: .* is read.*give another name"):
            feature_extraction.run(config)
    assert path.read_text() == "some text\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"layers": "-1,x"}, "--layers=-1,x: give whole numbers"),
        ({"layers": "-5"}, r"--layers=-5: this model has 4 layers, from 0 to 3 or from -4 to -1"),
        ({"layers": "4"}, "there is no 4"),
        ({"layers": "-1", "features": "sum_all"}, "exclude each other"),
        ({"features": "sum_all", "pooling": "pooled"}, "exclude each other"),
        ({"layer_weights": "1,2"}, "--layer_weights=1,2 is for --features=weighted_sum_last_four"),
        ({"layer_weights": "1,1,1,1", "features": "sum_all"}, "is for --features=weighted_sum_"),
        ({"layer_weights": "1,2", "features": "weighted_sum_all"}, "adds up 4 layers of this"),
        ({"layer_weights": "1,nan,1,1", "features": "weighted_sum_all"}, "give numbers"),
        (
            {"features": "weighted_sum_all"},
            "--features=weighted_sum_all needs --layer_weights.*; --features=sum_all adds",
        ),
        ({"batch_size": 0}, "--batch_size=0"),
        ({"max_seq_length": 2}, "--max_seq_length=2"),
        ({"max_seq_length": 100}, "exceeds this model's 64 positions"),
        ({"init_checkpoint": "nowhere"}, "--init_checkpoint=nowhere: no checkpoint at nowhere"),
    ],
)
def test_bad_flags_are_one_clear_error(extract, flags, message):
    with pytest.raises(ValueError, match=message):
        extract(**flags)


def test_the_choices_of_the_paper():
    """Of 12 layers; state 0 is the embeddings."""
    every, last_four = list(range(1, 13)), [9, 10, 11, 12]
    expected = {
        "embeddings": [0],
        "second_to_last_hidden": [11],
        "last_hidden": [12],
        "weighted_sum_last_four": last_four,
        "concat_last_four": last_four,
        "weighted_sum_all": every,
        "sum_last_four": last_four,
        "sum_all": every,
    }
    assert list(FEATURES) == list(expected)
    for name, states in expected.items():
        weights = ",".join("1" * len(states)) if name.startswith("weighted") else None
        config = FeatureExtractionConfig(
            input_file="x",
            output_file="y",
            init_checkpoint="z",
            features=name,
            layer_weights=weights,
        )
        assert config.states(12) == [(name, states)]


def test_a_shallow_model_has_no_last_four():
    for name, least in (("sum_last_four", 4), ("second_to_last_hidden", 2)):
        config = FeatureExtractionConfig(
            input_file="x", output_file="y", init_checkpoint="z", features=name
        )
        with pytest.raises(ValueError, match=f"needs {least} layers; this model has {least - 1}"):
            config.states(least - 1)


def test_a_model_without_a_part_is_refused(extract, model, tmp_path):
    """No random pooler; no pair where there is one segment type."""
    config, tokenizer, bert = checkpoints.from_pretrained(model)
    one_type = dataclasses.replace(config, type_vocab_size=1)
    files = {"vocab_file": tokenizer.vocab_file, "do_lower_case": True}
    bare = BertModel(one_type, add_pooler=False)
    checkpoints.save(bare, f"{tmp_path}/bare/", "google", **files)
    with pytest.raises(ValueError, match="has no pooler for --pooling=pooled"):
        extract(init_checkpoint=f"{tmp_path}/bare", pooling="pooled")
    with pytest.raises(ValueError, match=r"input.txt:2: a pair, but this model has one segment"):
        extract(init_checkpoint=f"{tmp_path}/bare")


# ------------------------------------------------------------------------------------- program


@pytest.mark.slow
def test_the_script(model, tmp_path):
    (tmp_path / "input.txt").write_text("good film\n")
    script = [sys.executable, str(ROOT / "extract_features.py")]
    arguments = [f"--init_checkpoint={model}", "--max_seq_length=32", "--layers=-1,-2"]
    files = [f"--input_file={tmp_path}/input.txt", f"--output_file={tmp_path}/new/out.jsonl"]
    subprocess.run([*script, *arguments, *files], check=True, capture_output=True)
    line = json.loads((tmp_path / "new" / "out.jsonl").read_text())
    assert [layer["index"] for layer in line["features"][0]["layers"]] == [-1, -2]


def test_help_does_without_tensorflow():
    script = str(ROOT / "extract_features.py")
    command = [sys.executable, "-X", "importtime", script, "--helpshort"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "bert_tf.tasks.feature_extraction_config" in result.stderr
    assert "tensorflow" not in result.stderr
    for field in dataclasses.fields(FeatureExtractionConfig):
        assert re.search(rf"--(\[no\])?{field.name}: ", result.stdout)


TWO_DEVICES = """
import sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from bert_tf.tasks import feature_extraction
from bert_tf.tasks.feature_extraction_config import FeatureExtractionConfig
source, target, model = sys.argv[1:]
feature_extraction.run(FeatureExtractionConfig(
    input_file=source, output_file=target, init_checkpoint=model, max_seq_length=48, batch_size=3,
    distribution_strategy="mirrored"))
"""


@pytest.mark.slow
def test_two_devices_give_the_same(extract, model, tmp_path):
    one = extract().read_text()
    arguments = [str(tmp_path / name) for name in ("input.txt", "two.jsonl")]
    command = [sys.executable, "-c", TWO_DEVICES, *arguments, model]
    subprocess.run(command, check=True, cwd=ROOT)
    two = (tmp_path / "two.jsonl").read_text()
    np.testing.assert_allclose(numbers(two), numbers(one), atol=5e-6)


# ------------------------------------------------------------------------------------ evidence


def snippet_vectors(sentences):
    """The README's piece of Python for sentence vectors."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(
        r"^```python\n((?:(?!```).)*?mean_pooling.*?)^```", readme, re.MULTILINE | re.DOTALL
    )
    assert '("A cat.", "A kitten.")' in code
    names = {}
    code = code.replace('("A cat.", "A kitten.")', repr(sentences))
    exec(compile(code, "README.md", "exec"), names)
    return names["vectors"].numpy()


@pytest.mark.skipif(not MINILM.exists(), reason="the quick start has not fetched the weights")
def test_sentence_similarity(tmp_path, capsys, monkeypatch):
    """The example with real weights, and its vectors beside those of the README's snippet."""
    monkeypatch.chdir(ROOT)
    sentences = (ROOT / "examples" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    config = FeatureExtractionConfig(
        input_file="examples/sentences.txt",
        output_file=str(tmp_path / "sentences.npy"),
        init_checkpoint=str(MINILM),
        layers="-1",
        pooling="mean",
        normalize=True,
        output_format="npy",
    )
    feature_extraction.run(config)
    vectors = np.load(config.output_file)
    expected = snippet_vectors(sentences)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    capsys.readouterr()
    arguments = ["similarity.py", "examples/sentences.txt", config.output_file]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path("examples/similarity.py", run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    for number, line in enumerate(printed):  # each sentence is followed by its paraphrase
        score, text, nearest = line.split("\t")
        assert text == sentences[number] and nearest == sentences[number ^ 1]
        assert float(score) > 0.5
    assert len(printed) == len(sentences)
