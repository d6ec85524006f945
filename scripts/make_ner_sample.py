"""Makes examples/ner_en/ from SQuAD's development set: sentences whose entities are marked by rule.

    python scripts/make_ner_sample.py SQuAD/dev-v1.1.json

The tags are what the patterns and lists below say, and nothing else: no person has looked at them.
Every article stands in one split only, and with it many of the places. The same input gives the
same files.
"""

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SIZES = {"dev": 200, "test": 200, "train": 800}  # sentences
ARTICLES = {"dev": 8, "test": 8, "train": 32}
SEED = "ner_en"
WORDS = range(6, 41)  # in a sentence
SENTENCE = re.compile(r"[A-Z].*?[a-z0-9)\"”][.!?](?=\s+[A-Z]|\s*$)")
WORD = re.compile(
    r"(?:[A-Z]\.){2,}|\d+(?:[.,]\d+)*(?:st|nd|rd|th|s)?\b|['’]s\b"
    r"|[^\W\d_]+(?:['’](?!s\b)[^\W\d_]+)*|\w+|\S"
)
WITHOUT = 4  # one of so many sentences without entities is kept

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?: (?:thousand|million|billion|trillion))?"
_UNIT = (
    "(?:km|kilometers|kilometres|miles|mi|m|meters|metres|cm|mm|feet|ft|inches|acres|hectares|"
    "tons|tonnes|kg|kilograms|pounds|lb|people|residents|inhabitants|students|hours|minutes|"
    "seconds|days|weeks|months|years|°C|°F)"
)
_PLACES = """Afghanistan Africa Alaska Albania Algeria Angola Antarctica Arabia Argentina Arizona
Arkansas Armenia Asia Athens Australia Austria Baghdad Bangladesh Barcelona Beijing Belgium Berlin
Birmingham Bolivia Boston Brazil Britain Brussels Bulgaria Cairo California Cambodia Cambridge
Canada Chicago Chile China Cologne Colombia Colorado Connecticut Croatia Cuba Cyprus Delhi Denmark
Denver Detroit Dublin Ecuador Edinburgh Egypt England Ethiopia Europe Finland Florence Florida
France Fresno Geneva Georgia Germany Ghana Glasgow Greece Guatemala Haiti Hamburg Hawaii Hungary
Iceland Idaho Illinois India Indiana Indonesia Iowa Iran Iraq Ireland Israel Istanbul Italy
Jacksonville Jamaica Japan Jerusalem Jordan Kansas Kentucky Kenya Korea Kuwait Lebanon Leipzig
Libya Lisbon London Louisiana Luxembourg Madrid Maine Malaysia Manchester Maryland
Massachusetts Melbourne Mexico Miami Michigan Minnesota Mississippi Missouri Mombasa Mongolia
Montana Montreal Morocco Moscow Munich Nairobi Nebraska Nepal Netherlands Nevada Newcastle Nigeria
Normandy Norway Ohio Oklahoma Ontario Oregon Oxford Pakistan Palestine Panama Paris Pennsylvania
Peru Philadelphia Philippines Poland Portugal Prague Prussia Quebec Queensland Romania Rome Russia
Rwanda Scotland Seattle Serbia Siberia Sicily Singapore Somalia Spain Strasbourg Sudan Sweden
Switzerland Sydney Syria Taiwan Tanzania Tasmania Tennessee Texas Thailand Tibet Tokyo Toronto
Tunisia Turkey Uganda Ukraine Utah Venezuela Venice Vermont Vienna Vietnam Virginia Wales
Warsaw Wisconsin Wyoming Yemen Zimbabwe"""
_LONG_PLACES = (
    "United States|United Kingdom|Soviet Union|New York City|New York|New Zealand|New England|"
    "New Jersey|New Mexico|New Orleans|North America|South America|Latin America|North Carolina|"
    "South Carolina|North Dakota|South Dakota|South Africa|North Korea|South Korea|Saudi Arabia|"
    "Sri Lanka|Hong Kong|Los Angeles|San Francisco|San Diego|Las Vegas|Southern California|"
    "Northern Ireland|West Virginia|New South Wales|Puerto Rico|Czech Republic|Costa Rica"
)
_PEOPLES = """African Africans American Americans Arab Arabs Asian Asians Australian Australians
Austrian Belgian Brazilian British Canadian Canadians Chinese Cuban Czech Danish Dutch Egyptian
English European Europeans Finnish French German Germans Greek Greeks Hungarian Indian Indians
Iranian Iraqi Irish Israeli Italian Italians Japanese Jewish Jews Kenyan Kenyans Korean Latin
Mexican Mongol Mongolian Mongols Norman Normans Norwegian Ottoman Pakistani Persian Persians Polish
Portuguese Prussian Roman Romans Russian Russians Scottish Serbian Soviet Spanish Swedish Swiss
Syrian Tibetan Turkish Turks Ukrainian Vietnamese Welsh"""

# Of two that begin at one character the first counts; a match ends where a word ends.
PATTERNS = {
    "MONEY": rf"(?:US)?[$£€] ?{_NUMBER}|{_NUMBER} (?:US dollars|dollars|euros|pounds sterling)",
    "PERCENT": rf"{_NUMBER}(?: ?%| percent| per cent)",
    "QUANTITY": rf"{_NUMBER} {_UNIT}",
    "DATE": rf"\d{{1,2}} {_MONTH}(?:,? \d{{4}})?|{_MONTH} \d{{1,2}}(?:, \d{{4}})?|{_MONTH} \d{{4}}"
    rf"|(?<=[Ii]n ){_MONTH}|\d{{1,2}}(?:st|nd|rd|th) century"
    r"|1\d{3}[–-]\d{2,4}|1\d{3}s|20[012]0s|1\d{3}|20[012]\d",
    "PLACE": f"{_LONG_PLACES}|{'|'.join(_PLACES.split())}",
    "PEOPLE": "|".join(_PEOPLES.split()),
}
ENTITY = re.compile(
    r"(?<![\w.,–-])(?:" + "|".join(f"(?P<{k}>{p})" for k, p in PATTERNS.items()) + r")(?!\w|[,.]\d)"
)

Sentence = list[tuple[str, str]]  # words and tags


def tagged(text: str) -> Sentence:
    """The words of a sentence; a word inside of an entity has its B- or I- tag."""
    rows = []
    found = list(ENTITY.finditer(text))
    for word in WORD.finditer(text):
        tag = "O"
        for entity in found:
            if entity.start() <= word.start() < entity.end():
                tag = f"{'B' if word.start() == entity.start() else 'I'}-{entity.lastgroup}"
        rows.append((word[0], tag))
    return rows


def hashed(text: str) -> int:
    """An order and a choice that are the same everywhere."""
    return int.from_bytes(hashlib.sha256((SEED + text).encode()).digest()[:8])


def article_sentences(article: dict) -> Iterator[str]:
    """Sentences of plain characters, of those without entities one in `WITHOUT`."""
    for paragraph in article["paragraphs"]:
        for match in SENTENCE.finditer(paragraph["context"]):
            text = " ".join(match[0].split())
            is_kept = ENTITY.search(text) or hashed(text) % WITHOUT == 0
            if is_kept and len(WORD.findall(text)) in WORDS and "[" not in text:
                yield text


def split_sentences(articles: list[dict]) -> dict[str, list[Sentence]]:
    """Deals whole articles to the splits, and takes as many sentences of each split as it has."""
    articles = sorted(articles, key=lambda article: hashed(article["title"]))
    splits = {}
    for name, size in SIZES.items():
        own, articles = articles[: ARTICLES[name]], articles[ARTICLES[name] :]
        texts = {text for article in own for text in article_sentences(article)}
        splits[name] = [tagged(text) for text in sorted(texts, key=hashed)[:size]]
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="SQuAD's development set, version 1.1")
    parser.add_argument(
        "target", type=Path, nargs="?", default="examples/ner_en", help="folder of the files"
    )
    arguments = parser.parse_args()
    articles = json.loads(arguments.source.read_text(encoding="utf-8"))["data"]
    arguments.target.mkdir(parents=True, exist_ok=True)
    for name, sentences in split_sentences(articles).items():
        blocks = ["".join(f"{word} {tag}\n" for word, tag in rows) for rows in sentences]
        path = arguments.target / f"{name}.txt"
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write("\n".join(blocks))
        tags = Counter(tag[2:] for rows in sentences for _, tag in rows if tag[0] == "B")
        print(f"{path.name}: {len(sentences)} sentences, {dict(sorted(tags.items()))}")


if __name__ == "__main__":
    main()
