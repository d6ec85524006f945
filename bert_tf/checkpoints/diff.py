"""How two checkpoints differ: `python -m bert_tf.checkpoints.diff A B`.

Of any two families: names are Google's on both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bert_tf import checkpoints, cli
from bert_tf.tokenization import create_tokenizer

if TYPE_CHECKING:
    import numpy as np

_SHOWN = 20


def diff(a: str, b: str) -> str:
    """A description for people, a line for each difference, and how many tensors are equal.

    Raises:
      ValueError: as `checkpoints.read`.
    """
    lines = [*_configs(a, b), *_vocabularies(a, b)]
    lines += _tensors(checkpoints.read(a), checkpoints.read(b))
    return "\n".join(lines)


def _configs(a: str, b: str) -> Iterator[str]:
    places = [checkpoints.locate(path) for path in (a, b)]
    configs = [checkpoints.config_of(place) for place in places]
    if None in configs:
        yield f"config: {' and '.join(p.config_file or 'none' for p in places)} cannot be compared"
        return
    first, second = (config.to_dict() for config in configs if config)
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            yield f"config {key}: {first.get(key)!r} and {second.get(key)!r}"


def _vocabularies(a: str, b: str) -> Iterator[str]:
    places = [checkpoints.locate(path) for path in (a, b)]
    if not all(place.tokenizer_file for place in places):
        return
    settings: list[dict[str, Any]] = [{**place.tokenizer_file} for place in places]
    first, second = (create_tokenizer(**files) for files in settings)
    moved = sum(first.inv_vocab.get(i) != token for i, token in second.inv_vocab.items())
    moved += sum(i not in second.inv_vocab for i in first.inv_vocab)
    if moved:
        yield f"vocabulary: {moved} ids stand for other tokens"
    if places[0].do_lower_case != places[1].do_lower_case:
        yield f"do_lower_case: {places[0].do_lower_case} and {places[1].do_lower_case}"


def _tensors(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> list[str]:
    import numpy as np

    both = sorted(a.keys() & b.keys())
    lines = [f"only in the first: {name} {a[name].shape}" for name in sorted(a.keys() - both)]
    lines += [f"only in the second: {name} {b[name].shape}" for name in sorted(b.keys() - both)]
    shaped = [name for name in both if a[name].shape != b[name].shape]
    lines += [f"{name}: {a[name].shape} and {b[name].shape}" for name in shaped]
    changed = [
        (float(np.abs(np.subtract(a[name], b[name], dtype=np.float64)).max(initial=0)), name)
        for name in both
        if name not in shaped and not np.array_equal(a[name], b[name])
    ]
    changed.sort(key=lambda item: (-item[0], item[1]))
    lines += [f"{name}: differs by {largest:.3g} at most" for largest, name in changed]
    hidden = len(lines) - _SHOWN
    if hidden > 0:
        lines = [*lines[:_SHOWN], f"and {hidden} more"]
    equal = len(both) - len(shaped) - len(changed)
    return [*lines, f"{equal} tensors are equal to the bit, {len(changed)} differ in their values"]


@cli.command()
def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bert_tf.checkpoints.diff", description=__doc__.splitlines()[0]
    )
    parser.add_argument("first", type=cli.path, help="folder, prefix or file")
    parser.add_argument("second", type=cli.path, help="the same, of any family")
    given = parser.parse_args(argv)
    try:
        with cli.quiet_start():  # TensorFlow, for some families
            text = diff(given.first, given.second)
        print(text)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
