"""From a dataclass to flags and back, in this process and as a script."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl import flags

from bert_tf import cli
from bert_tf.run_config import cli_flag

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
    if config.max_seq_length == 100:
        raise ValueError("a mistake of the script")
    from bert_tf.data import glue
    glue.find(config.output_dir)
    print("found", config.do_train)


cli.run(RunConfig, main)
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "run_something.py"
    path.write_text(SCRIPT)

    def run(*arguments):
        command = [sys.executable, str(path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return run


def test_help_is_quick_and_shows_every_flag(script):
    begun = time.perf_counter()
    result = script("--helpshort")
    assert time.perf_counter() - begun < 1
    assert "Does something." in result.stdout
    for name in ("output_dir", "[no]do_train", "learning_rate", "precision"):
        assert f"  --{name}: " in result.stdout
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
    ],
)
def test_bad_input_ends_in_one_line(script, arguments, message):
    result = script(*arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert "Traceback" in script(*arguments, "--verbosity=1").stderr


def test_other_errors_keep_their_traceback(script):
    result = script("--output_dir=mnli", "--max_seq_length=100")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "a mistake of the script" in result.stderr
