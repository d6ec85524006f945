"""Makes two files of a SQuAD file: its first articles and its last ones, to train and to score.

python scripts/split_squad.py dev-v1.1.json --articles=24 --first=train.json --last=dev.json
"""

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dataset", type=Path, help="SQuAD 1.1 or 2.0, as published")
    parser.add_argument("--articles", type=int, required=True, help="articles in each of the two")
    parser.add_argument("--first", type=Path, required=True, help="file for the first articles")
    parser.add_argument("--last", type=Path, required=True, help="file for the last articles")
    given = parser.parse_args()
    document = json.loads(given.dataset.read_text(encoding="utf-8"))
    articles, count = document["data"], given.articles
    if not 0 < count <= len(articles) // 2:
        parser.error(f"--articles={count}: give 1 to {len(articles) // 2}, so that none is shared")
    for path, part in ((given.first, articles[:count]), (given.last, articles[-count:])):
        path.write_text(json.dumps(document | {"data": part}), encoding="utf-8")
        questions = sum(len(p["qas"]) for article in part for p in article["paragraphs"])
        print(f"{path}: {len(part)} articles, {questions} questions")


if __name__ == "__main__":
    main()
