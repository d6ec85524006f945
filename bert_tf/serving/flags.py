"""Flags of bert-serving-start: those of bert-as-service 1.10 (`-x v` or `-x=v`), and a few more."""

from __future__ import annotations

import argparse
import enum
import re

SERVER_VERSION = "1.10.0"  # what bert-serving-client 1.10.0 asks of a server


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


def parser() -> argparse.ArgumentParser:
    """The command line of the server."""
    made = argparse.ArgumentParser(
        prog="bert-serving-start",
        description="Serves BERT's vectors to bert-as-service's clients.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    _add_model(made.add_argument_group("model", "which weights, config and vocabulary"))
    _add_text(made.add_argument_group("text and vectors"))
    _add_network(made.add_argument_group("network"))
    _add_workers(made.add_argument_group("workers and batches"))
    made.add_argument("-verbose", action="store_true", help="log every batch")
    made.add_argument(
        "-version", action="version", version=f"%(prog)s of bert_tf, protocol {SERVER_VERSION}"
    )
    return made


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-model_dir",
        required=True,
        help="a folder of Google's or Hugging Face's layout, or an output_dir of ours",
    )
    add("-tuned_model_dir", help="take the weights from this folder instead")
    add("-ckpt_name", help="name of the checkpoint in the folder; found if not given")
    add("-config_name", help="name of the config in -model_dir; found if not given")
    add("-num_labels", type=_at_least(1), help="check that a fine-tuned model has so many labels")
    add("-cased_tokenization", action="store_true", help="never lower-case the texts")
    add("-graph_tmp_dir", help="accepted and unused: no graph file is written")


def _add_text(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-max_seq_len",
        type=_length,
        default=25,
        help="pieces of a text, [CLS] and [SEP] included; NONE for the model's own limit",
    )
    add(
        "-pooling_layer",
        type=int,
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
        add(f"-{name}", action="store_true", help=text)


def _add_network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-bind", default="127.0.0.1", help="address to listen at; 0.0.0.0 for every network")
    add("-port", "-port_in", "-port_data", type=_port, default=5555, help="of requests")
    add("-port_out", "-port_result", type=_port, default=5556, help="of results")
    add("-http_port", type=_port, help="of HTTP, which is spoken if this is given")
    add(
        "-http_max_connect",
        type=_at_least(1),
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
    add(
        "-allow_remote_terminate",
        action="store_true",
        help="let any client end the server (bert-serving-terminate)",
    )


def _add_workers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("-num_worker", type=_at_least(1), default=1, help="processes that compute")
    add("-max_batch_size", type=_at_least(1), default=256, help="texts in one batch")
    add(
        "-priority_batch_size",
        type=int,
        default=16,
        help="requests of up to so many texts go before larger ones",
    )
    add(
        "-max_waiting", type=_at_least(1), default=262144, help='texts that wait; then it is "busy"'
    )
    add("-batch_wait", type=float, default=2.0, help="milliseconds a text waits for company")
    add(
        "-prefetch_size",
        type=_at_least(0),
        default=1,
        help="full batches sent to a worker ahead of time",
    )
    add("-cpu", action="store_true", help="use no GPU")
    add("-device_map", type=int, nargs="+", default=[], help="GPUs of the workers, in turn")
    add(
        "-gpu_memory_fraction",
        type=float,
        default=0.5,
        help="accepted and unused: memory grows as it is needed",
    )
    add("-xla", action="store_true", help="compile the model, once for each shape of batch")
    add(
        "-fp16",
        action="store_true",
        help="compute in half precision (bfloat16 on a CPU) and send float16",
    )


def _at_least(least: int):  # type: ignore[no-untyped-def]
    def integer(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} must be {least} or more")
        return int(text)

    return integer


def _port(text: str) -> int:
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; 0 to 65535, 0 for any that is free")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a name has letters, digits, _, - and .")
    return text


def _length(text: str) -> int | None:
    if text.upper() == "NONE":
        return None
    if int(text) <= 3:
        raise argparse.ArgumentTypeError(f"{text} must be more than 3, or NONE")
    return int(text)


def _strategy(text: str) -> PoolingStrategy:
    try:
        return PoolingStrategy[text]
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"{text} is none of {', '.join(PoolingStrategy.__members__)}"
        ) from None
