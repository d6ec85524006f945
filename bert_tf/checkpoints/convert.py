"""Converts a checkpoint: `python -m bert_tf.checkpoints.convert --from ... --to ...`.

The config, the vocabulary, the task and a classifier's labels go along. The target's name says the
format (`bert_model.ckpt`, `model.safetensors`, `model.weights.h5`); for a folder `--format` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bert_tf import checkpoints, cli
from bert_tf.checkpoints import location, names


def convert(
    source: str, target: str, format: str | None = None, strip_optimizer: bool = False
) -> str:
    """Reads one checkpoint and writes another; values are kept to the bit.

    Args:
      source: as `checkpoints.read`.
      target: as the path of `checkpoints.save`.
      format: one of `location.FORMATS`; by default what the target's name says.
      strip_optimizer: leave Adam's slots and global_step out, as all but Google's always do.

    Returns:
      What was done, for people.

    Raises:
      ValueError: the format is not known, or a part of the source is missing.
      OSError: the target could not be written.
    """
    format = format or location.format_of(target)
    if format is None:
        raise ValueError(
            f"--to={target} does not say the format; add --format={'|'.join(location.FORMATS)}, or "
            "end it in .ckpt, .safetensors or .weights.h5"
        )
    checkpoints.refuse_replacing("to", target, format, source)
    place, found = location.locate(source), checkpoints.contents(source)
    config = checkpoints.config_of(place)
    stripped = strip_optimizer or format != location.GOOGLE
    tensors = dict(found.tensors)
    for name in filter(names.is_optimizer_state, found.tensors if stripped else ()):
        del tensors[name]
    path = checkpoints.save(
        tensors,
        target,
        format,
        config=config,
        **place.tokenizer_file,
        do_lower_case=place.do_lower_case,
        keep_special_tokens=place.keep_special_tokens,
        labels=checkpoints.saved_labels(source),
        task=checkpoints.saved_task(source),
    )
    dropped = len(found.tensors) - len(tensors)
    slots = f", without {dropped} of the optimizer's state" if dropped else ""
    lines = [f"{path}: {len(tensors)} tensors{slots}, from {found.family}", *found.notes]
    if place.do_lower_case is not None:
        lines.append(f"do_lower_case={place.do_lower_case}: {place.case_reason}")
    absent = ["config"] * (config is None) + ["vocabulary"] * (not place.tokenizer_file)
    lines += [f"no {part} beside {source}, so none was written" for part in absent]
    return "\n".join(lines)


@cli.command()
def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bert_tf.checkpoints.convert", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--from", dest="source", required=True, type=cli.path, help="folder, prefix or file"
    )
    parser.add_argument(
        "--to", dest="target", required=True, type=cli.path, help="prefix, file or folder"
    )
    parser.add_argument("--format", choices=location.FORMATS, help="for a target that is a folder")
    parser.add_argument("--strip_optimizer", action="store_true", help="leave out Adam's slots")
    arguments = parser.parse_args(argv)
    try:
        with cli.quiet_start():  # TensorFlow, for some families
            text = convert(**vars(arguments))
        print(text)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
