"""Flags of bert-serving-start: those of bert-as-service 1.10 (`-x v` or `-x=v`), and a few more."""

from __future__ import annotations

import argparse
import enum
import itertools
import math
import os
import re
import sys
from collections.abc import Callable

SERVER_VERSION = "1.10.0"  # what bert-serving-client 1.10.0 asks of a server

MAX_WORKERS = 1024
DEFAULT_LENGTH = 25  # bert-as-service's -max_seq_len


class PoolingStrategy(enum.IntEnum):
    """How a text's vector is made of its tokens'; the numbers are the protocol's."""

    NONE = 0
    REDUCE_MAX = 1
    REDUCE_MEAN = 2
    REDUCE_MEAN_MAX = 3
    FIRST_TOKEN = 4
    LAST_TOKEN = 5
    CLS_POOLED = 6
    CLASSIFICATION = 7
    REGRESSION = 8
    CLS_TOKEN = 4
    SEP_TOKEN = 5

    def __str__(self) -> str:
        return self.name


class Parser(argparse.ArgumentParser):
    """A parser of `-x v` and `-x=v` that takes `--x v` and `--x=v` too."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._one_dash(text) for text in given], namespace)

    def _one_dash(self, text: str) -> str:
        known = text.startswith("--") and text[1:].partition("=")[0] in self._option_string_actions
        return text[1:] if known else text


def parser() -> Parser:
    """The command line of the server."""
    made = Parser(
        prog="bert-serving-start",
        description="Serves BERT's vectors to bert-as-service's clients.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    _add_model(made.add_argument_group("model", "which weights, config and vocabulary"))
    _add_text(made.add_argument_group("text and vectors"))
    _add_network(made.add_argument_group("network"))
    _add_workers(made.add_argument_group("workers and batches"))
    _add_switch(made, "verbose", "log every batch")
    made.add_argument(
        "-version", action="version", version=f"%(prog)s of bert_tf, protocol {SERVER_VERSION}"
    )
    return made


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-model_dir",
        required=True,
        type=path,
        help="a folder of Google's or Hugging Face's layout, or an output_dir of ours",
    )
    add("-tuned_model_dir", type=path, help="take the weights from this folder instead")
    add("-ckpt_name", type=path, help="name of the checkpoint in the folder; found if not given")
    add("-config_name", type=path, help="name of the config in -model_dir; found if not given")
    add("-num_labels", type=_integer(1), help="check that a fine-tuned model has so many labels")
    _add_switch(group, "cased_tokenization", "never lower-case the texts")
    add("-graph_tmp_dir", help="accepted and unused: no graph file is written")


def _add_text(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-max_seq_len",
        type=_length,
        default=argparse.SUPPRESS,
        help="cut texts to this many pieces, [CLS] and [SEP] included; NONE for the model's own "
        "limit (default: the length that a fine-tuned model was trained for; the model's limit "
        f"if a head answers and no length is noted; {DEFAULT_LENGTH} for other models)",
    )
    add(
        "-pooling_layer",
        type=_integer(None),
        nargs="+",
        default=[-2],
        help="encoder layers (0 is the first, -1 the last), several are joined",
    )
    add(
        "-pooling_strategy",
        type=_strategy,
        default=PoolingStrategy.REDUCE_MEAN,
        metavar="STRATEGY",
        help=f"one of {', '.join(PoolingStrategy.__members__)}",
    )
    for name, text in (
        ("mask_cls_sep", "mask [CLS] and [SEP], in attention as well"),
        ("no_special_token", "no [CLS] and [SEP] around texts that come as tokens"),
        ("no_position_embeddings", "leave the position embeddings out"),
        ("show_tokens_to_client", "send the tokens along"),
        ("fixed_embed_length", "NONE pooling with -max_seq_len NONE: pad to the model's limit"),
    ):
        _add_switch(group, name, text)


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-bind", default="127.0.0.1", help="address to listen at; 0.0.0.0 for every network")
    add("-port", "-port_in", "-port_data", type=port, default=5555, help="of requests")
    add("-port_out", "-port_result", type=port, default=5556, help="of results")
    add("-http_port", type=port, help="of HTTP, which is spoken if this is given")
    add(
        "-http_max_connect",
        type=_integer(1),
        default=256,
        help="HTTP requests computed at a time; others wait for their turn",
    )
    add("-cors", default="*", help="the origin whose pages may ask over HTTP; * for all")
    add(
        "-model_name",
        type=_name,
        default="bert",
        help="what the model is called over HTTP, in /v1/models/<name>:predict",
    )
    _add_switch(
        group, "allow_remote_terminate", "let any client end the server (bert-serving-terminate)"
    )


def _add_workers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-num_worker", type=_integer(1, MAX_WORKERS), default=1, help="processes that compute")
    add("-max_batch_size", type=_integer(1), default=256, help="texts in one batch")
    add(
        "-priority_batch_size",
        type=_integer(0),
        default=16,
        help="requests of up to so many texts go before larger ones",
    )
    add("-max_waiting", type=_integer(1), default=262144, help='texts that wait; then it is "busy"')
    add(
        "-batch_wait",
        type=number(float, 0, 60_000),
        default=2.0,
        help="milliseconds a text waits for company",
    )
    add(
        "-prefetch_size",
        type=_integer(0),
        default=1,
        help="full batches sent to a worker ahead of time",
    )
    _add_switch(group, "cpu", "use no GPU")
    add("-device_map", type=_integer(0), nargs="+", default=[], help="GPUs of the workers, in turn")
    add(
        "-gpu_memory_fraction",
        type=number(float, 0, 1),
        default=0.5,
        help="accepted and unused: memory grows as it is needed",
    )
    _add_switch(group, "xla", "compile the model, once for each shape of batch")
    _add_switch(group, "fp16", "compute in half precision (bfloat16 on a CPU) and send float16")


def _add_switch(group: argparse._ActionsContainer, name: str, text: str) -> None:
    """Add a flag that needs no value, and takes `=true` and `=false`."""
    group.add_argument(
        f"-{name}", nargs="?", const=True, default=False, type=_boolean, metavar="BOOL", help=text
    )


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return values[text.lower()]


def number(
    kind: type[int] | type[float], least: float | None, most: float | None = None
) -> Callable[[str], float]:
    """Return a reader of numbers of a kind, from `least` to `most`."""
    what = "a whole number" if kind is int else "a number"
    if most is not None:
        what += f" from {least} to {most}"
    elif least is not None:
        what += f" of {least} or more"

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        low, high = -math.inf if least is None else least, math.inf if most is None else most
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r:.40} is not {what}")
        return value

    return read


def _integer(least: int | None, most: int | None = None) -> Callable[[str], float]:
    return number(int, least, most)


def path(text: str) -> str:
    """Read a path; `~` is the home folder, also behind `=`, where the shell leaves it."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; give one, or leave the flag out")
    return os.path.expanduser(text)


def port(text: str) -> float:
    """Read a port; 0 is any that is free."""
    return _integer(0, 65535)(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a name has letters, digits, _, - and .")
    return text


def _length(text: str) -> float | None:
    if text.upper() == "NONE":
        return None
    try:
        return _integer(4)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or NONE") from None


def _strategy(text: str) -> PoolingStrategy:
    try:
        return PoolingStrategy[text]
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"{text} is none of {', '.join(PoolingStrategy.__members__)}"
        ) from None


def check(arguments: argparse.Namespace) -> None:
    """Raise ValueError for flags that exclude each other."""
    names = ("port", "port_out", "http_port")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name)}
    for name, other in itertools.combinations(given, 2):
        if given[name] == given[other]:
            raise ValueError(
                f"-{name} and -{other} are both {given[name]}; give two ports, or 0 for any that "
                "is free"
            )
