"""Makes examples/mnli/ from GLUE's MNLI development set.

    python scripts/make_mnli_sample.py MNLI/dev_matched.tsv examples/mnli

Every premise stands in one split only, so that nothing is known from training about a premise in
the development or test set. The same input gives the same files.
"""

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

SIZES = {"dev_matched": 1000, "test_matched": 1000, "train": 4000}
# The columns of GLUE's three layouts, by position in the development set's sixteen.
COLUMNS = {
    "dev_matched": range(16),
    "test_matched": range(10),
    "train": [*range(11), 15],
}
PREMISE = 8


def split_rows(rows: list[list[str]]) -> dict[str, list[list[str]]]:
    """Deals whole premises to the splits, in the order of their hash, until each is full."""
    by_premise = defaultdict(list)
    for row in rows:
        by_premise[row[PREMISE]].append(row)
    premises = sorted(by_premise, key=lambda text: hashlib.sha256(text.encode()).digest())
    splits: dict[str, list[list[str]]] = {name: [] for name in SIZES}
    for premise in premises:
        for name, size in SIZES.items():
            if len(splits[name]) + len(by_premise[premise]) <= size:
                splits[name] += by_premise[premise]
                break
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="GLUE's MNLI/dev_matched.tsv")
    parser.add_argument("target", type=Path, help="folder for the three files")
    arguments = parser.parse_args()
    text = arguments.source.read_text(encoding="utf-8")
    header, *rows = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    arguments.target.mkdir(parents=True, exist_ok=True)
    for name, chosen in split_rows(rows).items():
        chosen.sort(key=lambda row: int(row[0]))
        with open(arguments.target / f"{name}.tsv", "w", encoding="utf-8", newline="\n") as file:
            for row in [header, *chosen]:
                file.write("\t".join(row[column] for column in COLUMNS[name]) + "\n")
        print(f"{name}.tsv: {len(chosen)} rows")


if __name__ == "__main__":
    main()
