"""Part of the training file as the development set, where there is no file for it."""

from collections import Counter
from collections.abc import Iterable, Sequence

FILE = "dev_split.tsv"  # in output_dir, which rows it is

# Not --random_seed: runs with several seeds are compared on the same rows, and a model that is
# only evaluated is never evaluated on rows that it has seen.
_SEED = 12345


def held_out(groups: Sequence[str], share: float) -> list[int]:
    """Return the positions of the rows that make the development set, in order.

    They depend on the arguments alone. Each group has the same share of them, as far as that
    divides; the only row of a group is left for training. With more groups than rows to take,
    they are taken from all rows alike.

    Args:
      groups: the group of each row, such as its label; one for all to draw from all alike.
      share: of the rows, above 0 and below 1.

    Raises:
      ValueError: there are fewer than two rows.
    """
    from sklearn.model_selection import train_test_split  # slow to import, and few need it

    if len(groups) < 2:
        raise ValueError(f"--dev_split={share}: {len(groups)} rows cannot be split in two")
    count = min(max(1, round(share * len(groups))), len(groups) - 1)
    sizes = Counter(groups)
    places = [place for place, group in enumerate(groups) if sizes[group] > 1]
    kinds = {groups[place] for place in places}
    stratify: list[str] | None = [groups[place] for place in places]
    if not len(kinds) <= count <= len(places) - len(kinds):  # scikit-learn wants one of each
        places, stratify = list(range(len(groups))), None
    _, chosen = train_test_split(places, test_size=count, random_state=_SEED, stratify=stratify)
    return sorted(chosen)


def listing(rows: Iterable[tuple[int, str]]) -> str:
    """Return the text of the file that lists the rows: `line` in the training file, and `id`."""
    return "line\tid\n" + "".join(f"{line}\t{name}\n" for line, name in rows)
