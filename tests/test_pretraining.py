"""Pre-training as a whole program, on a tiny model of Google's with recorded losses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the ops of a text model
from test_modeling import load_golden, restore

from bert_tf import checkpoints, heads, modeling, training
from bert_tf.checkpoints.convert import convert
from bert_tf.config import BertConfig
from bert_tf.data import records, row_packing
from bert_tf.fill_mask import MaskFiller
from bert_tf.tasks import (
    classification,
    objectives,
    pretraining,
    pretraining_data,
    pretraining_rows,
)
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.pretraining_config import PretrainingConfig
from bert_tf.tasks.pretraining_data_config import PretrainingDataConfig
from bert_tf.tokenization import FullTokenizer

LENGTH, MASKS, WORDS = 24, 4, 100
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def golden_rows(path, arrays):
    spec = records.pretraining_spec(*(arrays[n].shape[1] for n in ("input_ids", "masked_lm_ids")))
    rows = [
        {name: arrays[name][i].tolist() for name in spec} for i in range(len(arrays["input_ids"]))
    ]
    records.write(str(path), rows, spec)


@pytest.mark.parametrize("name", ["gelu", "relu_types16"])
def test_losses_are_googles(name):
    config, arrays, reader = load_golden(name)
    model = heads.pretraining(config)
    restore(model, reader)
    objective = objectives.pretraining()
    outputs = model({key: arrays[key] for key in model.input})
    losses = [
        float(n / d)
        for n, d in zip(
            objective.numerators(outputs, arrays), objective.denominators(arrays), strict=True
        )
    ]
    expected = [arrays["out/masked_lm_loss"], arrays["out/next_sentence_loss"]]
    np.testing.assert_allclose(losses, expected, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model of Google's with a vocabulary, and rows of many lengths, long and short."""
    folder = tmp_path_factory.mktemp("pretraining")
    config, _, reader = load_golden("gelu")
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    kept = {n: x for n, x in tensors.items() if n.startswith(("bert/", "cls/pred", "cls/seq"))}
    vocab = folder / "words.txt"
    vocab.write_text("\n".join([*SPECIAL, *(f"w{i}" for i in range(WORDS + 1 - 5))]) + "\n")
    path = str(folder / "model" / "bert_model.ckpt")
    checkpoints.save(kept, path, "google", config=config, vocab_file=str(vocab), do_lower_case=True)
    for name, length, count, seed in (
        ("train", LENGTH, 40, 1),
        ("more", LENGTH, 9, 2),
        ("dev", LENGTH, 20, 3),
        ("long", 40, 12, 4),
    ):
        rng = np.random.default_rng(seed)
        spec = records.pretraining_spec(length, MASKS)
        rows = [random_row(rng, length) for _ in range(count)]
        records.write(str(folder / f"{name}.tfrecord"), rows, spec)
    return folder


def random_row(rng, length):
    used = int(rng.integers(6, 14 if rng.random() < 0.7 else length + 1))
    ids = np.zeros(length, int)
    ids[:used] = rng.integers(5, WORDS, used)
    ids[0], ids[used - 1] = 2, 3
    count = int(rng.integers(1, MASKS + 1))
    positions = np.zeros(MASKS, int)
    positions[:count] = np.sort(rng.permutation(np.arange(1, used - 1))[:count])
    words = np.where(np.arange(MASKS) < count, ids[positions], 0)
    ids[positions[:count]] = 4
    mask = (np.arange(length) < used).astype(int)
    return {
        "input_ids": ids.tolist(),
        "input_mask": mask.tolist(),
        "segment_ids": ((np.arange(length) >= used // 2) * mask).tolist(),
        "masked_lm_positions": positions.tolist(),
        "masked_lm_ids": words.tolist(),
        "masked_lm_weights": (np.arange(MASKS) < count).astype(float).tolist(),
        "next_sentence_labels": [int(rng.integers(2))],
    }


def flags(folder, output_dir, **changes):
    defaults = {
        "input_file": f"{folder}/train.tfrecord",
        "output_dir": str(output_dir),
        "init_checkpoint": str(folder / "model"),
        "max_seq_length": LENGTH,
        "max_predictions_per_seq": MASKS,
        "train_batch_size": 8,
        "learning_rate": 1e-3,
        "num_train_steps": 6,
        "num_warmup_steps": 2,
        "save_checkpoints_steps": 2,
    }
    return PretrainingConfig(**defaults | changes)


def final_weights(output_dir):
    return checkpoints.read(str(output_dir / "final_model"))


def test_evaluation_gives_googles_numbers(tmp_path):
    for name in ("gelu", "relu_types16"):
        _, arrays, _ = load_golden(name)
        golden_rows(tmp_path / f"{name}.tfrecord", arrays)
        config = flags(
            tmp_path,
            tmp_path / name,
            do_eval=True,
            input_file=str(tmp_path / f"{name}.tfrecord"),
            init_checkpoint=f"tests/golden/modeling/{name}/bert_model.ckpt",
            max_seq_length=arrays["input_ids"].shape[1],
        )
        written = pretraining.run(config)
        lines = Path(written["eval_results"]).read_text().splitlines()
        results = dict(line.split(" = ") for line in lines)
        assert list(results) == [
            *("global_step", "loss", "masked_lm_accuracy", "masked_lm_loss"),
            *("next_sentence_accuracy", "next_sentence_loss"),
        ]
        assert results["global_step"] == "7"
        masked, pairs = arrays["out/masked_lm_loss"], arrays["out/next_sentence_loss"]
        for key, value in (
            ("masked_lm_loss", masked),
            ("next_sentence_loss", pairs),
            ("loss", masked + pairs),
        ):
            assert float(results[key]) == pytest.approx(float(value), abs=1e-5)
        words = arrays["out/masked_lm_log_probs"].argmax(-1) == arrays["masked_lm_ids"].ravel()
        accuracy = np.average(words, weights=arrays["masked_lm_weights"].ravel())
        assert float(results["masked_lm_accuracy"]) == pytest.approx(accuracy)
        right = (
            arrays["out/next_sentence_log_probs"].argmax(-1) == arrays["next_sentence_labels"][:, 0]
        )
        assert float(results["next_sentence_accuracy"]) == pytest.approx(right.mean())


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A run from two files, evaluated on the way and at the end."""
    output_dir = tmp_path_factory.mktemp("whole")
    config = flags(
        folder,
        output_dir,
        input_file=f"{folder}/train.tfrecord,{folder}/mor*",
        eval_input_file=f"{folder}/dev.tfrecord",
        do_train=True,
        do_eval=True,
        eval_steps=3,
    )
    return output_dir, pretraining.run(config)


def test_whole_run(whole):
    output_dir, written = whole
    metrics = json.loads((output_dir / "metrics.json").read_text())
    assert written["metrics"] == metrics
    assert metrics["train"]["examples"] == 49 and metrics["train"]["steps"] == 6
    assert metrics["train"]["tokens_per_second"] > 0
    page = Path(written["report"]).read_text(encoding="utf-8")
    assert "masked_lm_loss <strong>" in page and "Curves</h2>" in page
    dev = metrics["eval"]
    assert dev["examples"] == 20
    assert dev["perplexity"] == pytest.approx(math.exp(dev["masked_lm_loss"]))
    assert 0 < dev["unigram_entropy"] < math.log(WORDS)
    notes = json.loads((output_dir / "best_checkpoint.json").read_text())["history"]
    assert [step for step, _ in notes] == [3, 6]
    assert -notes[-1][1] == pytest.approx(dev["masked_lm_loss"], abs=1e-5) or len(notes) == 2


def test_what_was_trained_starts_other_programs(whole, tmp_path):
    output_dir, written = whole
    config = load_golden("gelu")[0]
    model = heads.classifier(config, 2)
    report = checkpoints.load(model, written["final_model"])
    assert report.encoder_percent == 100
    assert sorted(report.missing) == ["output_bias", "output_weights"]  # so the pooler is there
    names = set(checkpoints.read(written["final_model"]))
    assert {"cls/predictions/output_bias", "cls/seq_relationship/output_weights"} <= names
    target = tmp_path / "hf"
    convert(written["final_model"], str(target / "model.safetensors"))
    again = checkpoints.read(str(target))
    for name, value in final_weights(output_dir).items():
        np.testing.assert_array_equal(again[name], value)


def test_a_continued_run_is_the_whole_run(folder, tmp_path, monkeypatch):
    common = {
        "do_train": True,
        "do_eval": True,
        "eval_input_file": f"{folder}/dev.tfrecord",
        "eval_steps": 2,
        "phase2_input_file": f"{folder}/long.tfrecord",
        "phase2_num_train_steps": 3,
        "phase2_max_seq_length": 40,
        "phase2_max_predictions_per_seq": MASKS,
        "phase2_train_batch_size": 4,
        "num_train_steps": 7,
    }
    pretraining.run(flags(folder, tmp_path / "whole", **common))
    expected = final_weights(tmp_path / "whole")
    best = json.loads((tmp_path / "whole" / "best_checkpoint.json").read_text())["checkpoint"]
    assert int(best.rpartition("-")[2]) > 4  # of the second phase
    history = json.loads((tmp_path / "whole" / "best_checkpoint.json").read_text())["history"]
    assert [step for step, _ in history] == [6, 7]
    saved = training.CheckpointManager.save
    for stop in (4, 6):  # between the two phases, and in the second
        output_dir = tmp_path / f"stopped-{stop}"

        def save(self, step, tensors, stop=stop):
            path = saved(self, step, tensors)
            if step == stop:
                raise KeyboardInterrupt
            return path

        monkeypatch.setattr(training.CheckpointManager, "save", save)
        with pytest.raises(KeyboardInterrupt):
            pretraining.run(flags(folder, output_dir, **common))
        monkeypatch.setattr(training.CheckpointManager, "save", saved)
        pretraining.run(flags(folder, output_dir, **common))
        for name, value in final_weights(output_dir).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


def without_dropout(folder, tmp_path):
    """The model's config file, but for dropout."""
    config = json.loads((folder / "model" / "bert_config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path = tmp_path / "bert_config.json"
    path.write_text(json.dumps(config))
    return str(path)


def losses_of(output_dir):
    (events,) = output_dir.glob("events.out.tfevents.*")
    values = {}
    for event in tf.compat.v1.train.summary_iterator(str(events)):
        for value in event.summary.value:
            values.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    return values


def test_packing_changes_nothing_but_the_padding(folder, tmp_path):
    common = {
        "do_train": True,
        "do_eval": True,
        "eval_input_file": f"{folder}/dev.tfrecord",
        "bert_config_file": without_dropout(folder, tmp_path),
    }
    runs = {}
    for name, more in (
        ("plain", {}),
        ("packed", {"packing": True}),
        ("in parts", {"packing": True, "gradient_accumulation_steps": 2}),
    ):
        metrics = pretraining.run(flags(folder, tmp_path / name, **common, **more))["metrics"]
        runs[name] = losses_of(tmp_path / name), metrics["eval"], final_weights(tmp_path / name)
    for name in ("packed", "in parts"):
        for part in ("loss", "gradient_norm", "tokens"):
            np.testing.assert_allclose(runs[name][0][part], runs["plain"][0][part], rtol=1e-5)
        assert runs[name][1] == pytest.approx(runs["plain"][1], rel=1e-5)
        for weight, value in runs["plain"][2].items():
            np.testing.assert_allclose(runs[name][2][weight], value, atol=2e-5, err_msg=weight)


def test_texts_of_a_row_do_not_see_each_other(folder):
    spec = records.pretraining_spec(LENGTH, MASKS)
    batch = records.RecordFile(str(folder / "train.tfrecord"), spec).batch(np.arange(8))
    config, _, reader = load_golden("gelu")
    model = heads.pretraining(config, packed=True)
    restore(model, reader)
    order = row_packing.first_fit(np.count_nonzero(batch["input_mask"], axis=1), LENGTH)
    row, texts = next((n, texts) for n, texts in enumerate(order) if len(texts) > 1)

    def scores():
        packed = row_packing.pack(batch)
        return model({n: packed[n] for n in model.input})["next_sentence_logits"].numpy()[row]

    before = scores()
    batch["input_ids"][texts[1], 1] = 7
    after = scores()
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] != before[1]).any()


def unmasked(folder, path):
    """The training rows as they were before they were masked."""
    plain = records.pretraining_spec(LENGTH, MASKS)
    batch = records.RecordFile(str(folder / "train.tfrecord"), plain).batch(np.arange(40))
    ids = batch["input_ids"]
    for i, weights in enumerate(batch["masked_lm_weights"]):
        places = batch["masked_lm_positions"][i][weights > 0]
        ids[i, places] = batch["masked_lm_ids"][i][weights > 0]
    units = np.where(ids >= 5, np.arange(LENGTH), 0)
    spec = records.pretraining_spec(LENGTH, MASKS, dynamic_masking=True)
    columns = {**batch, "masking_units": units}
    rows = ({name: columns[name][i].tolist() for name in spec} for i in range(40))
    records.write(str(path), rows, spec)
    return ids


def test_dynamic_masks_differ_by_epoch_and_not_by_run(folder, tmp_path):
    path = tmp_path / "unmasked.tfrecord"
    ids = unmasked(folder, path)
    spec = records.pretraining_spec(LENGTH, MASKS, dynamic_masking=True)
    tokenizer = FullTokenizer(str(folder / "model" / "vocab.txt"))
    files = records.RecordFiles([str(path)], spec)
    rows = pretraining_rows.MaskedRows(files, tokenizer, 12345, 0.3, MASKS)
    order = np.array([7, 3, 39])
    first, again, other = (rows.batch(order, np.full(3, epoch)) for epoch in (0, 0, 1))
    assert set(first) == set(records.pretraining_spec(LENGTH, MASKS))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["masked_lm_positions"] != other["masked_lm_positions"]).any()
    # In another batch the same row has the same mask.
    alone = rows.batch(order[1:2], np.zeros(1, np.int64))
    np.testing.assert_array_equal(alone["input_ids"][0], first["input_ids"][1])
    for batch in (first, other):
        real = batch["masked_lm_weights"] > 0
        for i, row in enumerate(order):
            places = batch["masked_lm_positions"][i][real[i]]
            np.testing.assert_array_equal(batch["masked_lm_ids"][i][real[i]], ids[row, places])
            kept = np.setdiff1d(np.arange(LENGTH), places)
            np.testing.assert_array_equal(batch["input_ids"][i, kept], ids[row, kept])


def test_dynamic_masking_trains_and_continues(folder, tmp_path):
    unmasked(folder, tmp_path / "unmasked.tfrecord")
    common = {
        "input_file": str(tmp_path / "unmasked.tfrecord"),
        "dynamic_masking": True,
        "do_train": True,
        "do_eval": True,
    }
    expected = pretraining.run(flags(folder, tmp_path / "whole", **common))["metrics"]["eval"]
    again = pretraining.run(flags(folder, tmp_path / "again", **common))["metrics"]["eval"]
    assert again == expected
    with pytest.raises(ValueError, match="--dynamic_masking needs the vocabulary"):
        config = str(tmp_path / "bert_config.json")
        Path(config).write_bytes((folder / "model" / "bert_config.json").read_bytes())
        bare = {"init_checkpoint": None, "bert_config_file": config}
        pretraining.run(flags(folder, tmp_path / "bare", **common, **bare))


def test_without_next_sentences_there_is_no_pooler(folder, tmp_path):
    config = flags(folder, tmp_path, do_train=True, do_eval=True, next_sentence=False)
    written = pretraining.run(config)
    names = {n for n in final_weights(tmp_path) if "pooler" in n or "seq_relationship" in n}
    assert not names
    text = Path(written["eval_results"]).read_text()
    assert "next_sentence" not in text and "masked_lm_loss" in text


def test_google_command_without_a_vocabulary(folder, tmp_path):
    config_file = tmp_path / "bert_config.json"
    config_file.write_bytes((folder / "model" / "bert_config.json").read_bytes())
    config = flags(
        folder,
        tmp_path / "out",
        init_checkpoint=None,
        bert_config_file=str(config_file),
        do_train=True,
        num_train_steps=2,
    )
    written = pretraining.run(config)
    assert "final_model" in written
    assert not (tmp_path / "out" / "final_model" / "vocab.txt").exists()


def test_compressed_files_and_several_are_one(folder, tmp_path):
    spec = records.pretraining_spec(LENGTH, MASKS)
    plain = str(folder / "train.tfrecord")
    packed = str(tmp_path / "more.tfrecord.gz")
    with tf.io.TFRecordWriter(packed, "GZIP") as writer:
        for record in tf.data.TFRecordDataset(str(folder / "more.tfrecord")):
            writer.write(record.numpy())
    both = records.RecordFiles([plain, packed], spec)
    assert len(both) == 49
    order = np.array([45, 0, 39, 40, 48, 7])
    for name, values in both.batch(order).items():
        first = records.RecordFile(plain, spec).batch(np.arange(40))[name]
        second = records.RecordFile(str(folder / "more.tfrecord"), spec).batch(np.arange(9))[name]
        np.testing.assert_array_equal(values, np.concatenate([first, second])[order])


def test_the_evaluation_takes_so_many_batches(folder):
    files = records.RecordFiles(
        [str(folder / "dev.tfrecord")], records.pretraining_spec(LENGTH, MASKS)
    )
    assert len(pretraining_rows.First(files, 6)) == 6
    assert len(pretraining_rows.First(files, 1000)) == 20


def test_entropy():
    assert pretraining.entropy(np.array([3, 3, 3, 3])) == 0
    assert pretraining.entropy(np.array([1, 2, 5, 9])) == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"input_file": "nowhere/*.tfrecord"},
            r"--input_file=nowhere/\*.tfrecord: there is no file",
        ),
        (
            {"max_seq_length": 25},
            r"train\.tfrecord: .*\(25 pieces, .*they are 24 pieces long",
        ),
        ({"max_predictions_per_seq": 5}, r"\(24 pieces, 5 of them masked\); they are 24 pieces"),
        ({"dynamic_masking": True}, "they are masked already: leave --dynamic_masking out"),
        ({"max_seq_length": 99}, r"--max_seq_length=99 exceeds this model's 40 positions"),
        ({"do_train": False}, "At least one of `do_train` or `do_eval` must be True"),
        ({"phase2_num_train_steps": 3}, "--phase2_input_file=None and --phase2_num_train_steps=3"),
        (
            {"phase2_input_file": "long", "phase2_num_train_steps": 6},
            "give fewer than --num_train_steps=6",
        ),
        ({"packing": True, "use_xla": True}, "--packing makes batches of few or many rows"),
        ({"masked_lm_prob": 1.5}, "--masked_lm_prob=1.5"),
        ({"num_warmup_steps": -1}, "--num_warmup_steps=-1"),
    ],
)
def test_bad_flags_are_named(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        pretraining.run(flags(folder, tmp_path, **{"do_train": True} | changes))


@pytest.mark.parametrize(
    ("flag", "more"),
    [
        ("eval_input_file", {"do_eval": True}),
        ("phase2_input_file", {"phase2_num_train_steps": 2, "phase2_max_seq_length": 39}),
    ],
)
def test_rows_that_are_needed_later_are_checked_first(folder, tmp_path, flag, more):
    more = {flag: f"{folder}/long.tfrecord"} | more
    with pytest.raises(ValueError, match=r"long\.tfrecord: .*they are 40 pieces long"):
        pretraining.run(flags(folder, tmp_path, do_train=True, **more))
    assert not list(tmp_path.glob("*ckpt*"))


def test_an_export_asks_for_the_vocabulary_before_training(folder, tmp_path):
    more = {"bert_config_file": "tests/golden/modeling/gelu/bert_config.json"}
    more |= {"init_checkpoint": None, "export_dir": str(tmp_path / "export")}
    with pytest.raises(ValueError, match="--export_dir needs the vocabulary"):
        pretraining.run(flags(folder, tmp_path / "out", do_train=True, **more))
    assert not list((tmp_path / "out").glob("*ckpt*"))


def test_rows_of_another_vocabulary_are_refused(folder, tmp_path):
    row = random_row(np.random.default_rng(0), LENGTH)
    row["input_ids"][1] = 5000
    path = str(tmp_path / "other.tfrecord")
    records.write(path, [row], records.pretraining_spec(LENGTH, MASKS))
    with pytest.raises(ValueError, match=r"other\.tfrecord: id 5000 in the first row"):
        pretraining.run(flags(folder, tmp_path / "out", do_train=True, input_file=path))


def test_every_variable_is_trained(whole, folder):
    before = checkpoints.read(str(folder / "model"))
    after = final_weights(whole[0])
    assert before.keys() == after.keys()
    model = heads.pretraining(load_golden("gelu")[0])
    assert {modeling.checkpoint_name(v) for v in model.weights} == after.keys()
    assert all((after[name] != before[name]).any() for name in after)


def test_sentencepiece_goes_the_whole_way(tmp_path, train_spm):
    """Text to rows, masks drawn in training, a SavedModel, and a classifier on top."""
    spm_model = str(train_spm("unigram", vocab_size=1000))
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"Sentence number {i} is here.\nSo is this." for i in range(30)))
    pretraining_data.run(
        PretrainingDataConfig(
            input_file=str(corpus),
            output_file=str(tmp_path / "rows.tfrecord"),
            spm_model_file=spm_model,
            max_seq_length=LENGTH,
            dupe_factor=1,
            do_whole_word_mask=True,
            dynamic_masking=True,
            sentence_pairs="sentence_order",
        )
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(1000, **sizes, intermediate_size=16, type_vocab_size=2)
    (tmp_path / "bert_config.json").write_text(config.to_json_string())
    written = pretraining.run(
        flags(
            tmp_path,
            tmp_path / "out",
            input_file=str(tmp_path / "rows.tfrecord"),
            init_checkpoint=None,
            bert_config_file=str(tmp_path / "bert_config.json"),
            spm_model_file=spm_model,
            dynamic_masking=True,
            do_train=True,
            num_train_steps=2,
            export_dir=str(tmp_path / "export"),
        )
    )
    assert (tmp_path / "out" / "final_model" / "spiece.model").exists()
    answer = MaskFiller.from_pretrained(written["final_model"]).fill("So is [MASK].")
    served = tf.saved_model.load(written["export"]).signatures["serving_default"]
    tokens = served(text=tf.constant(["So is [MASK]."]))["tokens"].numpy()[0, 0]
    assert [token.decode() for token in tokens] == [c.token for c in answer[0]]
    classification.run(
        ClassificationConfig(
            task_name="cola",
            data_dir="tests/tiny/CoLA",
            output_dir=str(tmp_path / "cola"),
            init_checkpoint=written["final_model"],
            max_seq_length=LENGTH,
            do_train=True,
            num_train_epochs=1,
            train_batch_size=2,
        )
    )
    assert (tmp_path / "cola" / "final_model" / "spiece.model").exists()
