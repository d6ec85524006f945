"""What is in a checkpoint: `python -m bert_tf.checkpoints.inspect PATH`.

Family, config, parameters, heads, optimizer, numbers, vocabulary, and what is odd about them.
"""

from __future__ import annotations

import argparse
import math
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bert_tf import checkpoints, cli
from bert_tf.checkpoints import names

if TYPE_CHECKING:
    import numpy as np

    from bert_tf.config import BertConfig
    from bert_tf.tokenization import Tokenizer

Shapes = Mapping[str, tuple[int, ...]]

_POOLER = "bert/pooler/dense/kernel"
# What a variable says is there, and for what it is.
_HEADS = {
    _POOLER: "pooler",
    "cls/predictions/output_bias": "masked words (cls/predictions)",
    "cls/seq_relationship/output_weights": "next sentence (cls/seq_relationship)",
    "cls/squad/output_weights": "answers (cls/squad)",
    "crf/transitions": "CRF",
}


def inspect(path: str) -> str:
    """A description for people, a line for each part.

    Raises:
      ValueError: as `checkpoints.read`.
    """
    place = checkpoints.locate(path)
    found = checkpoints.contents(path)
    tensors = found.tensors
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    config, problem = _config(place)
    tokenizer, mismatch = _tokenizer(path, place)
    lines = [
        ("weights", place.weights),
        ("family", found.family),
        ("sizes", _sizes(shapes)),
        ("config", place.config_file or ("by the weights" if config else "none")),
        ("parameters", _parameters(shapes)),
        ("numbers", _numbers(tensors)),
        ("heads", ", ".join(_heads(shapes)) or "none"),
        ("optimizer", _optimizer(shapes, path)),
        ("vocabulary", _vocabulary(place, tokenizer)),
    ]
    if task := checkpoints.saved_task(path):
        lines.append(("task", ", ".join(f"{key} {value}" for key, value in task.items())))
    if labels := checkpoints.saved_labels(path):
        lines.append(("labels", ", ".join(labels)))
    lines += [("found", note) for note in found.notes]
    odd = [problem, mismatch, *_oddities(shapes, config, tokenizer)]
    lines += [("odd", text) for text in odd if text]
    return "\n".join(f"{title:<12}{text}" for title, text in lines)


def _config(place: checkpoints.Location) -> tuple[BertConfig | None, str | None]:
    """The config, or what is wrong with it."""
    try:
        config = checkpoints.config_of(place)
        absent = "there is no bert_config.json or config.json beside the weights"
        return config, None if config else absent
    except ValueError as error:
        return None, str(error)


def _tokenizer(path: str, place: checkpoints.Location) -> tuple[Tokenizer | None, str | None]:
    from bert_tf.tokenization import create_tokenizer

    if not place.tokenizer_file:
        return None, "there is no vocab.txt or spiece.model beside the weights"
    try:
        settings: dict[str, Any] = {**place.tokenizer_file}
        return create_tokenizer(**settings, do_lower_case=place.lower_cases), None
    except ValueError as error:
        return None, str(error)


def _sizes(shapes: Shapes) -> str:
    return (
        ", ".join(f"{key} {value}" for key, value in names.sizes(shapes).items()) or "no BERT in it"
    )


def _parameters(shapes: Shapes) -> str:
    counts: Counter[str] = Counter()
    for name, shape in shapes.items():
        if not names.is_optimizer_state(name):
            counts["all"] += math.prod(shape)
            counts["encoder"] += math.prod(shape) if names.is_encoder(name) else 0
    return f"{counts['all']:,}, {counts['encoder']:,} of them in the encoder"


def _numbers(tensors: Mapping[str, np.ndarray]) -> str:
    kinds = Counter(str(x.dtype) for name, x in tensors.items() if name != "global_step")
    return ", ".join(f"{count} tensors of {kind}" for kind, count in kinds.most_common())


def _heads(shapes: Shapes) -> Iterator[str]:
    yield from (head for name, head in _HEADS.items() if name in shapes)
    if "output_bias" in shapes:
        yield f"classifier or tagger of {shapes['output_bias'][0]} outputs"


def _optimizer(shapes: Shapes, path: str) -> str:
    slots = sum(names.is_optimizer_state(name) for name in shapes)
    if not slots:
        return "none"
    kind = "LAMB" if any(re.search(r"/lamb\w*$", name, re.I) for name in shapes) else "Adam"
    return f"{kind}, {slots} tensors, step {checkpoints.global_step(path)}"


def _vocabulary(place: checkpoints.Location, tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return "none"
    case = {True: "lower-cased", False: "cased", None: "casing not known"}[place.do_lower_case]
    return f"{tokenizer.vocab_file}: {tokenizer.num_tokens} tokens, {case} ({place.case_reason})"


def _oddities(
    shapes: Shapes, config: BertConfig | None, tokenizer: Tokenizer | None
) -> Iterator[str]:
    found = names.sizes(shapes)
    for key, value in found.items():
        said = getattr(config, key, value)
        if said != value:
            yield f"the config says {key}={said}, the weights {value}"
    if tokenizer is not None and found.get("vocab_size") not in (None, tokenizer.num_tokens):
        yield (
            f"the vocabulary has {tokenizer.num_tokens} tokens, the word embeddings "
            f"{found['vocab_size']} rows"
        )
    if tokenizer is not None:
        if tokenizer.mask_token_id is None:
            yield "the vocabulary has no [MASK], so it cannot be pre-trained on"
        if tokenizer.do_lower_case and tokenizer.vocab.keys() & set(string.ascii_uppercase):
            yield "text is lower-cased, but the vocabulary has capital letters"
    if _POOLER not in shapes:
        yield "there is no pooler: a classifier on top starts with a random one"
    known = [name for name in shapes if _is_known(name)]
    if rest := sorted(shapes.keys() - set(known)):
        more = f" and {len(rest) - 5} more" if len(rest) > 5 else ""
        yield f"no part of BERT: {', '.join(rest[:5])}{more}"


def _is_known(name: str) -> bool:
    model = re.sub(r"/(adam|lamb)_[mv]$|/Adam(_1)?$", "", name)
    heads = model in _HEADS or model.startswith(("cls/", "crf/", "output_"))
    return names.is_optimizer_state(model) or names.to_hugging_face(model) is not None or heads


@cli.command()
def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bert_tf.checkpoints.inspect", description=__doc__.splitlines()[0]
    )
    parser.add_argument("path", type=cli.path, help="folder, prefix or file")
    given = parser.parse_args(argv)
    try:
        with cli.quiet_start():  # TensorFlow, for some families
            text = inspect(given.path)
        print(text)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
