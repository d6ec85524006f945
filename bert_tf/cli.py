"""Dataclass -> absl flags -> dataclass, and how a script starts and ends.

A field of the dataclass is a flag: its name, type and default are the field's, and its metadata
holds `help`, and where they apply `choices` (legal values) and `required`.
"""

import contextlib
import os
import re
import sys
import tempfile
import traceback
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

from absl import app, flags, logging

from bert_tf import preemption
from bert_tf.preemption import EXIT_CODE, Interrupted, PreemptedError
from bert_tf.run_config import is_path

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

# What TensorFlow says on every machine before its log levels are read.
_NOISE = re.compile(rb"WARNING: All log messages before absl::|I\d{4} .* (port|cudart_stub)\.cc:")

_DEFINE: dict[type, Callable[..., object]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_boolean,
}


def define_flags(
    config_class: type["DataclassInstance"], flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines one flag for each field of a dataclass, as flags of the running script."""
    types_of = typing.get_type_hints(config_class)
    for field in fields(config_class):
        _define_flag(field, _value_type(types_of[field.name]), flag_values)


def config_from_flags(
    config_class: type[Config], flag_values: flags.FlagValues = flags.FLAGS
) -> Config:
    """The dataclass with the values of the parsed flags; `~` in a path is the home folder."""
    values = {field.name: flag_values[field.name].value for field in fields(config_class)}
    for name, value in values.items():
        if isinstance(value, str) and is_path(name):
            values[name] = path(value)
    return config_class(**values)


def path(text: str) -> str:
    """Return paths with commas in between, `~` being the home folder: the type of such flags.

    A shell puts it in for `--flag ~/x`, but not for `--flag=~/x`.
    """
    return ",".join(map(os.path.expanduser, text.split(",")))


def run(config_class: type[Config], main: Callable[[Config], object]) -> None:
    """Runs a script: parses the command line and calls `main` with the configuration.

    Bad input (a ValueError or the like that bert_tf raises, or any OSError that names a file) and
    a loss that is not finite end the script with their message and exit code 1, any other
    exception with a traceback. SIGTERM or Ctrl-C during training ends it with
    `preemption.EXIT_CODE` once a checkpoint is written.
    `--verbosity=0` logs the first examples, `--verbosity=1` also shows every traceback.
    """
    define_flags(config_class)

    def start(arguments: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
        try:
            if arguments[1:]:
                raise ValueError(f"unexpected argument {arguments[1]!r}; write --flag=value")
            main(config_from_flags(config_class))
        except PreemptedError as error:
            print(f"{error}; the same command continues.", file=sys.stderr)
            sys.exit(EXIT_CODE)
        except (ValueError, OSError, RuntimeError, FloatingPointError, MemoryError) as error:
            message = _message(error)
            if logging.get_verbosity() >= logging.DEBUG or message is None:
                raise
            print(f"Error: {message}", file=sys.stderr)
            sys.exit(1)

    with command():
        app.run(start)


@contextlib.contextmanager
def command() -> Iterator[None]:
    """Around a command, or above its function: SIGTERM and Ctrl-C end it within seconds.

    TensorFlow's C++ code says nothing but what kills it: its errors become exceptions, and a GPU
    that it cannot use is told in `distribution.describe`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with preemption.interruptible():
            yield
    except Interrupted as error:
        preemption.end(error.number)


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Around the import of TensorFlow: without its lines about itself and its libraries.

    They are no log messages yet, so that only the file descriptor can be held back; all other
    lines on standard error come when the import is done.
    """
    sys.stderr.flush()
    error = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(error, 2)
            os.close(error)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not _NOISE.match(line)))


def _define_flag(field: Field, value_type: type, flag_values: flags.FlagValues) -> None:
    options = {
        "default": None if field.default is MISSING else field.default,
        "help": field.metadata["help"],
        "required": field.metadata.get("required", False),
        "flag_values": flag_values,
        # `--helpshort` shows the flags of the running script, not of this module.
        "module_name": sys.argv[0],
    }
    if choices := field.metadata.get("choices"):
        flags.DEFINE_enum(field.name, enum_values=list(choices), **options)
    else:
        _DEFINE[value_type](field.name, **options)


def _value_type(annotation: Any) -> type:
    """`int` for `int` and for `int | None`."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        (annotation,) = (a for a in typing.get_args(annotation) if a is not type(None))
    return annotation


def _message(error: BaseException) -> str | None:
    """What to tell the user; None if the error is not the user's but a mistake in some program."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    *_, last = traceback.walk_tb(error.__traceback__)
    by_us = Path(last[0].f_code.co_filename).is_relative_to(Path(__file__).parent)
    return str(error) if by_us else None
