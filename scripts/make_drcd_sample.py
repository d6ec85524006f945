"""Makes examples/drcd_zh/ from DRCD's development set, as GLUE made QNLI from SQuAD.

    python scripts/make_drcd_sample.py DRCD/dev.json

Each question is asked of two sentences of its passage: the one that holds the annotated answer,
and of the others the one most like the question. Every article stands in one split only. The same
input gives the same files.
"""

import argparse
import hashlib
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

SIZES = {"dev": 300, "test": 300, "train": 1200}  # rows, two a question
SEED = "drcd_zh"
LONGEST = 125  # characters of question and sentence, which with [CLS], [SEP], [SEP] make 128
SENTENCE = re.compile(r"[^。！？]+[。！？]+[」』”’》）]*|[^。！？]+$")

Row = dict[str, str]


def overlap(question: str, sentence: str) -> int:
    """How many different pairs of neighbouring characters the two share."""
    pairs = [{a + b for a, b in pairwise(text)} for text in (question, sentence)]
    return len(pairs[0] & pairs[1])


def question_rows(context: str, qa: dict) -> list[Row]:
    """The two rows of a question, in the order of the passage; none if it cannot be asked so."""
    question = qa["question"].strip()
    spans = [(a["answer_start"], a["answer_start"] + len(a["text"])) for a in qa["answers"]]
    texts = {answer["text"] for answer in qa["answers"]}
    holding, others = [], []
    for match in SENTENCE.finditer(context):
        if len(question) + len(match[0].strip()) > LONGEST:
            continue
        if all(match.start() <= start and end <= match.end() for start, end in spans):
            holding.append(match)
        elif not any(text in match[0] for text in texts):
            others.append(match)
    if not holding or not others:
        return []
    hardest = max(others, key=lambda match: overlap(question, match[0]))
    rows = []
    for number, match in enumerate(sorted([holding[0], hardest], key=re.Match.start), start=1):
        label = "answer" if match is holding[0] else "no_answer"
        sentence = match[0].strip()
        row = {"id": f"{qa['id']}-{number}", "question": question, "sentence": sentence}
        rows.append(row | {"label": label})
    return rows


def shuffled(items: list[dict]) -> list[dict]:
    """In the order of the hash of their ids, which is the same everywhere."""
    return sorted(items, key=lambda item: hashlib.sha256((SEED + item["id"]).encode()).digest())


def article_rows(article: dict) -> Iterator[Row]:
    """The rows of one question of each passage, if any can be asked so."""
    for paragraph in article["paragraphs"]:
        asked = (question_rows(paragraph["context"], qa) for qa in shuffled(paragraph["qas"]))
        yield from next(filter(None, asked), [])


def split_rows(articles: list[dict]) -> dict[str, list[Row]]:
    """Deals whole articles to the splits, in the order of their hash, until each is full."""
    splits: dict[str, list[Row]] = {name: [] for name in SIZES}
    for article in shuffled(articles):
        rows = list(article_rows(article))
        for name, size in SIZES.items():
            if len(splits[name]) + len(rows) <= size:
                splits[name] += rows
                break
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="DRCD's development set, in SQuAD's JSON")
    parser.add_argument(
        "target", type=Path, nargs="?", default="examples/drcd_zh", help="folder of the files"
    )
    arguments = parser.parse_args()
    articles = json.loads(arguments.source.read_text(encoding="utf-8"))["data"]
    arguments.target.mkdir(parents=True, exist_ok=True)
    for name, rows in split_rows(articles).items():
        columns = ["id", "question", "sentence", "label"][: 3 if name == "test" else 4]
        path = arguments.target / f"{name}.jsonl"
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                line = {column: row[column] for column in columns}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        print(f"{path.name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
