"""kill -9 at any moment, then the same command: the run that nobody disturbed, to the bit."""

import random
import subprocess
import time
from pathlib import Path

import distributed
import numpy as np
import pytest
import tensorflow as tf
from test_pretraining import folder as pretraining_folder
from test_question_answering import write_questions
from test_tagger import write_data

from bert_tf.preemption import EXIT_CODE

__all__ = ["pretraining_folder"]  # a fixture
TINY = Path(__file__).parent / "tiny"
KILLS = 20
MODEL = {"bert_config_file": TINY / "bert_config.json", "vocab_file": TINY / "vocab.txt"}
# Some steps a save, so that kills fall before, into and after one; two parts a step.
SHARED = {
    "do_train": True,
    "do_eval": True,
    "train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "save_checkpoints_steps": 7,
    "learning_rate": 1e-3,
}


def classifier(folder, pretraining):
    columns = {"text_a_column": "message", "label_column": "label", "id_column": "id"}
    data = {"task_name": "csv", "data_dir": "examples/spam", "max_seq_length": 32} | columns
    flags = MODEL | data | {"do_predict": True, "num_train_epochs": 30}
    return "run_classifier.py", flags, ["predictions.tsv", "eval_results.txt"]


def tagger(folder, pretraining):
    data = {"data_dir": write_data(folder / "data", "conll"), "task_name": "conll"}
    flags = {"max_seq_length": 16, "do_predict": True, "num_train_epochs": 75, "use_crf": True}
    return "run_tagger.py", MODEL | data | flags, ["predictions.txt", "eval_results.txt"]


def squad(folder, pretraining):
    questions = write_questions(folder / "questions.json")
    data = {"train_file": questions, "predict_file": questions, "do_predict": True}
    flags = {"max_seq_length": 32, "max_query_length": 12, "doc_stride": 8, "num_train_epochs": 192}
    return "run_squad.py", MODEL | data | flags, ["nbest_predictions.json", "eval_results.txt"]


def pretraining(folder, pretraining):
    """Two phases, packed."""
    flags = {
        "input_file": pretraining / "train.tfrecord",
        "eval_input_file": pretraining / "dev.tfrecord",
        "init_checkpoint": pretraining / "model",
        "max_seq_length": 24,
        "max_predictions_per_seq": 4,
        "num_train_steps": 600,
        "phase2_input_file": pretraining / "long.tfrecord",
        "phase2_num_train_steps": 200,
        "phase2_max_seq_length": 40,
        "phase2_max_predictions_per_seq": 4,
        "num_warmup_steps": 10,
        "packing": True,
    }
    return "run_pretraining.py", flags, ["eval_results.txt"]


def curves(folder):
    """(step, loss, learning rate) of all event files; a step that was done twice is the same."""
    found = set()
    for path in Path(folder).glob("events.out.tfevents.*"):
        # The last record of a process that was killed may be cut off.
        records = tf.data.TFRecordDataset(str(path)).ignore_errors()
        for event in map(tf.compat.v1.Event.FromString, records.as_numpy_iterator()):
            for value in event.summary.value:
                if value.tag in ("loss", "learning_rate", "gradient_norm"):
                    found.add((event.step, value.tag, float(tf.make_ndarray(value.tensor))))
    return found


def last_checkpoint(folder):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(folder)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def run(command, folder, workers):
    if workers == 1:
        return [distributed.start(command, folder / "log")]
    return distributed.start_workers(command, folder, workers)


def kill_somewhere(processes, output, draw):
    """Waits a random time, sometimes from the start, mostly from the first save on; then kills.

    Returns whether it was in time.
    """
    begun = set(output.glob("model.ckpt-*.index"))
    if draw.random() < 0.15:
        time.sleep(draw.uniform(0.0, 8.0))
    else:
        while set(output.glob("model.ckpt-*.index")) == begun:
            if any(process.poll() is not None for process in processes):
                break
            time.sleep(0.002)
        time.sleep(draw.uniform(0.0, 0.4))
    victim = draw.choice(processes)
    in_time = victim.poll() is None
    victim.kill()
    return in_time


def end_of(process):
    """The exit code. A worker that waits for one that was killed at the start waits for ever."""
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("program", [classifier, tagger, squad, pretraining])
def test_killed_at_random_points(tmp_path, pretraining_folder, program, workers, capsys):
    if workers == 2 and program not in (classifier, pretraining):
        pytest.skip("what differs between the programs is shown with one worker")
    draw = random.Random(f"{program.__name__} {workers}")
    script, flags, results = program(tmp_path, pretraining_folder)
    flags = SHARED | flags
    if workers == 2:
        flags["distribution_strategy"] = "multi_worker_mirrored"

    def command(output):
        return [script, *(f"--{k}={v}" for k, v in flags.items()), f"--output_dir={output}"]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for output in (whole, cut):
        (tmp_path / f"logs-{output.name}").mkdir()
    logs = tmp_path / "logs-whole"
    assert set(distributed.finish(run(command(whole), logs, workers), logs, 300)) == {0}

    logs, kills, steps = tmp_path / "logs-cut", 0, []
    while kills < KILLS:
        processes = run(command(cut), logs, workers)
        killed = kill_somewhere(processes, cut, draw)
        codes = [end_of(process) for process in processes] if killed else []
        assert set(codes) <= {-9, EXIT_CODE}, codes
        assert killed, f"the run was over after {kills} kills; it must be longer"
        kills += 1
        latest = tf.train.latest_checkpoint(str(cut)) if cut.exists() else None
        steps.append(latest.rpartition("-")[2] if latest else "0")
    assert set(distributed.finish(run(command(cut), logs, workers), logs, 300)) == {0}
    with capsys.disabled():
        print(f"\n{program.__name__}, {workers} worker(s): killed at {' '.join(steps)}")

    expected, found = last_checkpoint(whole), last_checkpoint(cut)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    for name in results:
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    # What was not yet written when the process died is not there; what is there is the same.
    assert curves(cut) <= curves(whole) and len(curves(cut)) > len(curves(whole)) / 2
    leftovers = [
        x.name for x in cut.iterdir() if x.name.startswith(".saving") or "partial" in x.name
    ]
    assert not leftovers
