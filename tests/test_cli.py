"""From a dataclass to flags and back, in this process and as a script."""

import dataclasses
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl import flags

from bert_tf import cli, preemption
from bert_tf.run_config import cli_flag
from bert_tf.tasks.classification_config import ClassificationConfig

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    output_dir: str = cli_flag(None, "Where results go.", required=True)
    steps: int = cli_flag(3, "How many steps.")
    rate: float = cli_flag(0.5, "How fast.")
    do_train: bool = cli_flag(False, "Train.")
    lower: bool | None = cli_flag(None, "Lower-case; by default as the model.")
    name: str | None = cli_flag(None, "A name.")
    precision: str = cli_flag("float32", "Arithmetic.", choices=("float32", "bfloat16"))


def parse(*arguments):
    values = flags.FlagValues()
    cli.define_flags(Config, values)
    values(["program", *arguments])
    return cli.config_from_flags(Config, values)


def test_defaults_and_values():
    assert parse("--output_dir=x") == Config(output_dir="x")
    given = ["--output_dir=x", "--steps=4", "--rate=1e-3", "--do_train", "--nolower", "--name=n"]
    assert parse(*given, "--precision=bfloat16") == Config(
        output_dir="x",
        steps=4,
        rate=1e-3,
        do_train=True,
        lower=False,
        name="n",
        precision="bfloat16",
    )
    assert parse("--output_dir=x", "--do_train=true", "--lower=True").lower is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output_dir must have a value"),
        (["--output_dir=x", "--do_trian"], "Did you mean: do_train"),
        (["--output_dir=x", "--steps=many"], "--steps=many"),
        (["--output_dir=x", "--precision=f8"], "<float32|bfloat16>"),
    ],
)
def test_wrong_flags(arguments, message):
    with pytest.raises(flags.Error, match=message.replace("|", r"\|")):
        parse(*arguments)


SCRIPT = f'''"""Does something."""
import sys
sys.path.insert(0, {str(ROOT)!r})
from bert_tf import cli
from bert_tf.run_config import RunConfig


def main(config):
    if config.vocab_file:
        from bert_tf.vocabulary import load_vocab
        load_vocab(config.vocab_file)
    if config.bert_config_file:
        from bert_tf.config import BertConfig
        BertConfig.from_json_file(config.bert_config_file)
    if "/" in config.output_dir:
        from bert_tf import filesystem
        filesystem.make_dir(config.output_dir)
    if config.max_seq_length == 75:
        from bert_tf.preemption import PreemptedError
        raise PreemptedError("Interrupted: stopped")
    if config.max_seq_length == 100:
        raise ValueError("a mistake of the script")
    from bert_tf.data import glue
    glue.find(config.output_dir)
    print("found", config.do_train)


cli.run(RunConfig, main)
'''


def run_python(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "run_something.py"
    path.write_text(SCRIPT)
    return lambda *arguments: run_python(str(path), *arguments)


def test_help_is_quick_and_shows_every_flag():
    begun = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = run_python("-X", "importtime", str(ROOT / "run_classifier.py"), "--helpshort")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begun < 1
    assert "bert_tf.run_config" in result.stderr and "tensorflow" not in result.stderr
    assert result.returncode == 1  # absl's, after help
    assert "Fine-tunes BERT to classify" in result.stdout
    for field in dataclasses.fields(ClassificationConfig):
        name = f"[no]{field.name}" if field.type.startswith("bool") else field.name
        assert f"  --{name}:" in result.stdout
    assert "(default: '5e-05')" in result.stdout


def test_a_good_run(script):
    result = script("--output_dir=mnli", "--do_train=true")
    assert (result.returncode, result.stdout) == (0, "found True\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output_dir=mnlo"], "Error: Task not found: mnlo. Did you mean"),
        (["--output_dir=x", "--max_seq_length=1"], "Error: --max_seq_length=1"),
        (["--output_dir=x", "--do_train", "true"], "Error: unexpected argument 'true'; write --"),
        (["--output_dir=x", "--vocab_file=typo"], "Error: typo: No such file or directory"),
        (["--output_dir=x", "--bert_config_file=typo"], "Error: typo: No such file or directory"),
        ([f"--output_dir={__file__}/x"], f"Error: {__file__}/x: Not a directory"),
    ],
)
def test_bad_input_ends_in_one_line(script, arguments, message):
    result = script(*arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert "Traceback" in script(*arguments, "--verbosity=1").stderr


def test_preempted_training_has_its_own_exit_code(script):
    result = script("--output_dir=mnli", "--max_seq_length=75")
    assert (result.returncode, result.stdout) == (75, "")
    assert result.stderr == "Interrupted: stopped; the same command continues.\n"


def test_other_errors_keep_their_traceback(script):
    result = script("--output_dir=mnli", "--max_seq_length=100")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "a mistake of the script" in result.stderr


NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1.5 7 port.cc:153] oneDNN custom operations are on.",
    "I0000 00:00:1.5 7 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU",
]
KEPT = ["a warning of Python", "E0000 00:00:1.5 7 other.cc:1] something else", "I0000 another"]


def test_a_start_is_quiet_but_for_what_matters():
    code = f"""
import os, sys
from bert_tf import cli
with cli.quiet_start():
    for line in {[*NOISE, *KEPT]}:
        os.write(2, line.encode() + b"\\n")
    raise ValueError("within")
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    found = process.stderr.splitlines()
    assert found[:3] == KEPT and found[3].startswith("Traceback")
    assert found[-1] == "ValueError: within"


STOPPED = """
import ctypes, time
from bert_tf import cli, preemption
with cli.command():
    try:
        {waits}
    finally:
        print("cleaned up", flush=True)
"""
BEGUN = 'print("begun", flush=True); '
PYTHON = BEGUN + "time.sleep(100)"
# As TensorFlow may: Python does not hear of the signal. A mutex that is held already.
C = (
    BEGUN
    + "lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None); "
    + ("libc.pthread_mutex_lock(lock); " * 2)
)
TRAINING = """
        with preemption.watch() as signals:
            signals.noting = True
            print("begun", flush=True)
            while not signals.requested:
                time.sleep(0.01)
            time.sleep(0.5)  # the rest of the step, in which the signal is told
            print("saved", flush=True)
"""


def stopped(waits, *numbers):
    """(stdout, stderr, exit code) of a command that waits so and gets these signals."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED.format(waits=waits)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.5)  # until it waits
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.5)
        out, err = process.communicate(timeout=60)
    return out, err, process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_one_line(number):
    line = preemption.ended(number)
    assert line.startswith(f"Ended by {number.name}. The same command continues training")
    assert stopped(PYTHON, number) == ("cleaned up\n", line, -number)


def test_a_signal_ends_what_hangs_in_c():
    line = preemption.ended(signal.SIGINT)
    assert stopped(C, signal.SIGINT) == ("", line, 128 + signal.SIGINT)


def test_a_noted_signal_is_told_and_ends_the_command_after_training():
    out, err, code = stopped(TRAINING, signal.SIGINT)
    assert (out, code) == ("saved\ncleaned up\n", -signal.SIGINT)
    told, ended = err.strip().splitlines()
    assert told.startswith("SIGINT: training stops after this step") and "Ended by" in ended


def test_a_second_signal_ends_training_at_once():
    hangs = TRAINING.replace("time.sleep(0.01)", C.removeprefix(BEGUN))
    out, err, code = stopped(hangs, signal.SIGINT, signal.SIGINT)
    assert (out, code) == ("", 128 + signal.SIGINT) and "a second signal ends it at once" in err


@pytest.mark.slow
def test_every_command_is_quiet(exported):
    model = str(ROOT / "tests" / "golden" / "checkpoints" / "keras_bert_test")
    export_dir = str(exported[1])
    for command in (
        ["examples/predict.py", export_dir, "a text"],
        ["-m", "bert_tf.checkpoints.inspect", model],
    ):
        assert run_python(*command).stderr == ""
