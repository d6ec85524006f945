"""The official scorer of CoNLL-2000 and -2003, `conlleval` in Perl, said again in Python."""


def conlleval(text: str) -> dict[str, float]:
    """Return precision, recall, f1 and support of lines that end in a right and a predicted tag.

    Raises:
      ValueError: a line that is no blank line has another number of features than the first one.
    """
    number = None
    found = guessed = correct = 0
    inside = False
    last = last_guess = ("O", "")
    for line in text.split("\n"):
        features = line.rstrip(" ").split(" ") if line.strip(" ") else []
        if features:
            if number is not None and len(features) != number:
                raise ValueError(f"unexpected number of features: {len(features)} ({number})")
            number = len(features)
        tag, guess = map(_tag, features[-2:]) if features else (("O", ""), ("O", ""))
        ends, guess_ends = _ends(last, tag), _ends(last_guess, guess)
        if inside:
            if ends and guess_ends and last[1] == last_guess[1]:
                inside = False
                correct += 1
            elif ends != guess_ends or tag[1] != guess[1]:
                inside = False
        starts, guess_starts = _starts(last, tag), _starts(last_guess, guess)
        inside = inside or (starts and guess_starts and tag[1] == guess[1])
        found += starts
        guessed += guess_starts
        last, last_guess = tag, guess
    correct += inside
    precision, recall = correct / guessed if guessed else 0.0, correct / found if found else 0.0
    both = precision + recall
    f1 = 2 * precision * recall / both if both else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "support": found}


def _tag(tag: str) -> tuple[str, str]:
    letter, hyphen, kind = tag.partition("-")
    return letter, kind if hyphen else ""


def _ends(last: tuple[str, str], this: tuple[str, str]) -> bool:
    pairs = {"BB", "BO", "IB", "IO", "EE", "EI", "EO"}
    return last[0] + this[0] in pairs or (last[0] not in ("O", ".") and last[1] != this[1])


def _starts(last: tuple[str, str], this: tuple[str, str]) -> bool:
    pairs = {"BB", "IB", "OB", "OI", "EE", "EI", "OE"}
    return last[0] + this[0] in pairs or (this[0] not in ("O", ".") and last[1] != this[1])
