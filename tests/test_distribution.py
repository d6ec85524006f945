"""One device, several replicas, several processes: the same training, and how it is interrupted."""

import functools
import json
import re
import signal
import time
from pathlib import Path

import distributed
import numpy as np
import pytest
from test_question_answering import config, write_questions
from test_training import make_config, make_loop, rows, train

from bert_tf import cluster, distribution
from bert_tf.preemption import EXIT_CODE
from bert_tf.tasks import question_answering
from bert_tf.tasks.classification_config import ClassificationConfig

__all__ = ["rows"]  # a fixture

slow = pytest.mark.slow
# Twelve rows in a step, of several lengths; clipping is at work in every one of the steps.
# They have more pieces than the vocabulary: words' gradients are summed. HALF has fewer: gathered.
EXACT = {"dropout": 0.0, "train_batch_size": 12}
HALF = {"train_batch_size": 6}
PARTS, XLA = {"gradient_accumulation_steps": 2}, {"use_xla": True}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, rows):
    """A batch size -> weights and losses of one device."""

    @functools.cache
    def run(batch_size):
        flags = EXACT | {"train_batch_size": batch_size}
        weights, losses = train(tmp_path_factory.mktemp("one"), rows, **flags)
        return weights | {"losses": [losses[step] for step in sorted(losses)]}

    return run


def trained(tmp_path, rows, processors, workers, flags):
    """What each worker has in the end."""
    outputs = [tmp_path / f"{i}.npz" for i in range(workers)]
    command = ["-c", distributed.TRAIN, tmp_path / "run", rows.path, tmp_path / "{index}.npz"]
    command += [processors, json.dumps(EXACT | flags)]
    if workers == 1:
        command = [str(part).replace("{index}", "0") for part in command]
        processes = [distributed.start(command, tmp_path / "0.log")]
    else:
        processes = distributed.start_workers(command, tmp_path, workers)
    assert set(distributed.finish(processes, tmp_path)) == {0}
    return [dict(np.load(path)) for path in outputs]


@pytest.mark.parametrize(
    "strategy, processors, workers, flags",
    [
        ("mirrored", 2, 1, HALF),
        ("multi_worker_mirrored", 1, 2, PARTS),
        pytest.param("one_device", 1, 1, {}, marks=slow),
        pytest.param("mirrored", 2, 1, {}, marks=slow),
        pytest.param("mirrored", 2, 1, PARTS, marks=slow),
        pytest.param("mirrored", 2, 1, XLA, marks=slow),
        pytest.param("multi_worker_mirrored", 1, 2, HALF, marks=slow),
        pytest.param("multi_worker_mirrored", 1, 2, XLA, marks=slow),
        pytest.param("multi_worker_mirrored", 1, 3, {}, marks=slow),
    ],
)
def test_replicas_and_workers_equal_one_device(
    tmp_path, rows, one_device, strategy, processors, workers, flags
):
    """Losses and weights to 1e-6, and the same bits on every worker."""
    flags = flags | {"distribution_strategy": strategy}
    found = trained(tmp_path, rows, processors, workers, flags)
    expected = one_device(flags.get("train_batch_size", EXACT["train_batch_size"]))
    for name, value in expected.items():
        np.testing.assert_allclose(found[0][name], value, atol=1e-6, rtol=0, err_msg=name)
        assert all((other[name] == found[0][name]).all() for other in found)
    assert found[0].keys() == expected.keys()


@slow
def test_dropout_differs_between_replicas_and_not_between_runs(tmp_path, rows):
    """Twice the same six rows on two replicas: with the same masks one replica would do."""
    flags = {"distribution_strategy": "mirrored", "dropout": 0.3}
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first, again = (trained(tmp_path / x, rows, 2, 1, flags)[0] for x in "ab")
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)
    _, single = train(tmp_path / "one", rows, **EXACT | {"dropout": 0.3})
    assert abs(first["losses"][0] - single[1]) > 1e-4


# ------------------------------------------------------------------------------ whole programs


def run_squad(flags):
    """The command."""
    return ["run_squad.py", *(f"--{name}={value}" for name, value in flags.items())]


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """The flags of a run without dropout, its last batches uneven, and what one device makes."""
    folder = tmp_path_factory.mktemp("questions")
    model = json.loads(Path("tests/tiny/bert_config.json").read_text("utf-8"))
    model |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "bert_config.json").write_text(json.dumps(model), "utf-8")
    flags = {
        "bert_config_file": str(folder / "bert_config.json"),
        **dict.fromkeys(("do_train", "do_eval", "do_predict"), True),
        "train_batch_size": 4,
        "eval_batch_size": 7,
        "eval_steps": 60,
        "num_train_epochs": 48,
        "save_checkpoints_steps": 20,
    }
    questions = write_questions(folder / "questions.json")
    run = config(folder / "one", questions, **flags)
    names = ("train_file", "predict_file", "vocab_file", "max_seq_length", "max_query_length")
    names += ("doc_stride", "max_answer_length", "n_best_size", "learning_rate")
    flags |= {name: getattr(run, name) for name in names}
    return flags, question_answering.run(run), folder / "one"


def wait_for(path, processes, seconds=240):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        assert all(process.poll() is None for process in processes), "a process has ended"
        time.sleep(0.05)


def answers(folder):
    nbest = json.loads((folder / "nbest_predictions.json").read_text("utf-8"))
    return {
        name: [(x["text"], x["start_logit"], x["end_logit"]) for x in found]
        for name, found in nbest.items()
    }


def test_two_workers_stop_together_and_end_where_one_device_does(tmp_path, questions):
    """The second is killed, then gets SIGTERM; in the end all is as of one device."""
    flags, single, single_dir = questions
    flags = flags | {"output_dir": str(tmp_path / "run")}
    flags |= {"distribution_strategy": "multi_worker_mirrored"}
    command = run_squad(flags)
    processes = distributed.start_workers(command, tmp_path)
    wait_for(tmp_path / "run" / "model.ckpt-20.index", processes)
    processes[1].kill()
    assert distributed.finish(processes, tmp_path)[0] == EXIT_CODE
    log = (tmp_path / "worker-0.log").read_text("utf-8")
    assert "another process of the cluster is gone" in log

    processes = distributed.start_workers(command, tmp_path)
    wait_for(tmp_path / "run" / "model.ckpt-100.index", processes)
    processes[1].send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert distributed.finish(processes, tmp_path) == [EXIT_CODE] * 2
    assert time.monotonic() - asked < 30  # on a busy machine; a second otherwise
    logs = [(tmp_path / f"worker-{i}.log").read_text("utf-8") for i in range(2)]
    stops = {line for log in logs for line in log.splitlines() if line.startswith("Interrupted")}
    assert len(stops) == 1  # at the same step
    processes = distributed.start_workers(command, tmp_path)
    assert distributed.finish(processes, tmp_path) == [0, 0]

    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    expected = single["metrics"]
    assert metrics["global_step"] == expected["global_step"]
    assert metrics["eval"] == pytest.approx(expected["eval"], abs=1e-4)
    found, wanted = answers(tmp_path / "run"), answers(single_dir)
    assert list(found) == list(wanted)
    for name in wanted:
        assert found[name][0][0] == wanted[name][0][0]
        np.testing.assert_allclose(found[name][0][1:], wanted[name][0][1:], atol=2e-3)

    # Only the chief writes: what is there is what one device writes, and no other event file.
    def names(folder):
        return {x.name for x in folder.iterdir() if "ckpt" not in x.name and "tfev" not in x.name}

    assert names(tmp_path / "run") == names(single_dir)
    assert len(list((tmp_path / "run").glob("events*"))) == 3  # one each time


def test_parameter_servers_train_and_evaluate(tmp_path, questions):
    """A chief, two workers, one server; a worker that is lost does not end the run."""
    flags, _, _ = questions
    flags = flags | {"output_dir": str(tmp_path / "run")}
    flags |= {"distribution_strategy": "parameter_server"}
    tasks = distributed.cluster_of(chief=1, worker=2, ps=1)
    command = run_squad(flags)
    log = tmp_path / "others.log"
    others = [distributed.start(command, log, tasks, x) for x in [("worker", 0), ("worker", 1)]]
    others += [distributed.start(command, log, tasks, ("ps", 0))]
    chief = distributed.start(command, tmp_path / "chief.log", tasks, ("chief", 0))
    try:
        wait_for(tmp_path / "run" / "model.ckpt-40.index", [chief])
        others[1].kill()
        assert distributed.finish([chief], tmp_path) == [0]
    finally:
        for process in others:
            process.kill()
            process.wait()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert metrics["train"]["last_step"] == metrics["train"]["steps"]
    assert metrics["best_checkpoint"].endswith(f"-{metrics['global_step']}")
    assert metrics["eval"]["f1"] > 70  # it has learnt
    # What the workers evaluated is what one device says of the same weights.
    changes = {"do_predict": True, "init_checkpoint": str(tmp_path / "run" / "final_model")}
    alone = config(tmp_path / "alone", flags["predict_file"], eval_batch_size=7, **changes)
    question_answering.run(alone)
    found, wanted = answers(tmp_path / "run"), answers(tmp_path / "alone")
    assert list(found) == list(wanted)
    for name in wanted:
        assert [x[0] for x in found[name]] == [x[0] for x in wanted[name]]


# -------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    "environment, message",
    [
        ({}, "multi_worker_mirrored needs to know the other processes"),
        ({"TF_CONFIG": "{"}, "says no cluster and no task"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "KeyError\\('task'\\)"),
        (
            {
                "TF_CONFIG": '{"cluster": {"worker": ["a:1"]},'
                ' "task": {"type": "worker", "index": 1}}'
            },
            "is not one of its cluster",
        ),
    ],
)
def test_a_cluster_that_nobody_describes(monkeypatch, environment, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        cluster.resolver("multi_worker_mirrored")


def test_slurm_says_who_takes_part(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    values = {"PROCID": "3", "STEP_NUM_TASKS": "4", "STEP_NODELIST": "n[1-2]"}
    for name, value in (values | {"STEP_TASKS_PER_NODE": "2(x2)"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = cluster.resolver("multi_worker_mirrored")
    expected = ["n1:8888", "n1:8889", "n2:8888", "n2:8889"]
    assert found.cluster_spec().as_dict() == {"worker": expected}
    assert (found.task_type, found.task_id) == ("worker", 3)
    assert cluster.tasks(found) == [("worker", i) for i in range(4)]


def test_several_seeds_are_for_one_process(tmp_path):
    flags = {"task_name": "mnli", "data_dir": str(tmp_path), "output_dir": str(tmp_path)}
    with pytest.raises(ValueError, match="--num_seeds and --restart_on_collapse start one run"):
        ClassificationConfig(
            **flags,
            **dict.fromkeys(("do_train", "do_eval"), True),
            num_seeds=2,
            distribution_strategy="multi_worker_mirrored",
        )


def test_gpus_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="--num_gpus=9, but TensorFlow finds"):
        distribution.create_strategy(make_config(tmp_path, num_gpus=9))
    with pytest.raises(ValueError, match="--num_gpus=-1: give 0 or more"):
        make_config(tmp_path, num_gpus=-1)


def test_one_device_and_none_are_told_apart(tmp_path):
    loop = make_loop(make_config(tmp_path, distribution_strategy="one_device"))
    assert isinstance(loop.strategy, type(distribution.create_strategy(loop.config)))
    assert loop.replicas.count == loop.replicas.workers == 1 and loop.replicas.is_chief


def test_what_computes_is_said(tmp_path, monkeypatch):
    flags = make_config(tmp_path)
    line = distribution.describe(distribution.create_strategy(flags), flags)
    assert re.match(r"Device: the processor, \d+ cores", line)
    gpu = tmp_path / "sys" / "bus" / "pci" / "devices" / "0"
    gpu.mkdir(parents=True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in (("vendor", "0x8086"), ("class", "0x030000")):
        (gpu / name).write_text(f"{value}\n")
    assert distribution._unused_gpu(str(tmp_path)) is None
    (gpu / "vendor").write_text("0x10de\n")
    assert "driver is not loaded" in distribution._unused_gpu(str(tmp_path))
    driver = tmp_path / "proc" / "driver" / "nvidia"
    driver.mkdir(parents=True)
    (driver / "version").write_text("NVRM")
    assert "pip install 'tensorflow[and-cuda]==" in distribution._unused_gpu(str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert distribution._unused_gpu(str(tmp_path)) is None


def test_a_tpu_that_is_not_there_is_told_at_once(tmp_path):
    (port,) = distributed.ports(1)
    flags = make_config(tmp_path, use_tpu=True, tpu_name=f"grpc://localhost:{port}")
    with pytest.raises(ValueError, match=f"no TPU at 'grpc://localhost:{port}'.*refused"):
        distribution.create_strategy(flags)
