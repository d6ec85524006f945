"""Reading text files of examples: one row a line, errors that name file and line.

Every reader hands a row that cannot be used to a function, most often `BadRows.add`, which raises
the error or, where bad rows are to be skipped, notes it: so no row is lost without a word.
"""

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches

from bert_tf import filesystem

_SHOWN = 20  # bad rows listed one by one
_NAMED = 30  # names that a hint lists
FEW_BAD_ROWS = 10  # of a file may be left out, whatever share of it they are
# What no text of a row may hold: NUL, and bytes that are not UTF-8 as `surrogateescape` keeps them.
_BROKEN = re.compile("[\0\udc80-\udcff]")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
SAVE_AS_UTF8 = "save the file as UTF-8, or give its --encoding"
_ENCODINGS = ["cp1252", "cp1250", "cp1251", "gb18030", "big5", "cp932", "euc_jp", "cp949"]
_GUESSED_FROM = 1 << 16  # bytes by which an encoding is guessed
_SPREADSHEET = "open it in the spreadsheet program and save it as 'CSV UTF-8'"
_OTHER_FILES = {  # the first bytes of a file -> what it is, and what to do
    b"PK\x03\x04": f"a ZIP archive, such as a spreadsheet (.xlsx, .ods); {_SPREADSHEET}",
    b"\xd0\xcf\x11\xe0": f"an old file of Excel or Word (.xls, .doc); {_SPREADSHEET}",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"PAR1": "a Parquet file; save its rows as CSV or JSON lines",
    b"%PDF": "a PDF; save its text as UTF-8",
}


class BadRow(ValueError):
    """A row that cannot be used; the message starts with `file:line: `.

    Attributes:
      label: the row's label, where it could be read.
    """

    def __init__(self, file: str, line: int, problem: str, label: str | None = None) -> None:
        super().__init__(f"{file}:{line}: {problem}")
        self.file, self.line, self.problem, self.label = file, line, problem, label


OnBad = Callable[[BadRow], None]


def refuse(error: BadRow) -> None:
    """Ends the reading with the error: what a reader does with a bad row by default."""
    raise error


class BadRows:
    """What becomes of rows that cannot be used, and what else is to be said of a file.

    Args:
      skip: whether they are left out and noted; else the first one is an error.
      most: the largest share of a file's rows that may be left out; `FEW_BAD_ROWS` always may.

    Attributes:
      found: the messages of those that were left out.
      labels: those that they have, where they could be read.
      lost: labels of which no row is left, for `str`.
      notes: what was guessed about the file, a sentence part each.
    """

    def __init__(self, skip: bool = False, most: float = 1.0):
        self.skip, self.most = skip, most
        self.found: list[str] = []
        self.lost: list[str] = []
        self.notes: list[str] = []
        self.labels: set[str] = set()

    def add(self, bad: BadRow) -> None:
        """Notes a row that is left out. Raises it where rows are not to be skipped."""
        if not self.skip:
            raise bad
        self.found.append(str(bad))
        if bad.label is not None and bad.label.strip():
            self.labels.add(legible(bad.label))

    def finish(self, path: str, kept: int) -> None:
        """Raises ValueError if more rows of a file were left out than may be.

        Args:
          kept: the number of those that are used.
        """
        rows = kept + len(self.found)
        if len(self.found) > max(FEW_BAD_ROWS, self.most * rows):
            raise ValueError(
                f"{path}: {len(self.found)} of {rows} rows cannot be used, more than "
                f"--max_bad_rows={self.most:g} allows (a share of the rows). The first is "
                f"{self.found[0]}"
            )

    def __str__(self) -> str:
        """How many, and the first ones line by line."""
        if not self.found:
            return "no bad rows"
        more = len(self.found) - _SHOWN
        lines = [f"{len(self.found)} bad rows were left out (--skip_bad_rows):"]
        lines += [f"  {message}" for message in self.found[:_SHOWN]]
        lines += [f"  and {more} more"] if more > 0 else []
        if self.lost:
            lines.append(f"No row is left of these labels: {', '.join(map(repr, self.lost))}.")
        return "\n".join(lines)


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """` Did you mean 'x'? There are: x, y.` to end an error about an unknown name."""
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"{hint} There are: {listed(names, _NAMED)}."


def listed(names: Sequence[str], most: int) -> str:
    """Return `x, y and 3 more`: the first names, no more than `most`, and how many are left."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_encoding(name: str | None, by_line: bool = False) -> None:
    """Raises ValueError unless `name` is None or an encoding of text that Python knows.

    Args:
      by_line: whether files are cut into lines before they are decoded.
    """
    try:
        end = "\n".encode(name or "utf-8")
    except LookupError as error:
        raise ValueError(
            f"--encoding={name} is unknown; give such as cp1252 (Western Europe on Windows), "
            "cp1251 (Cyrillic), gb18030 (Chinese), big5 or shift_jis"
        ) from error
    if by_line and end != b"\n":
        raise ValueError(
            f"--encoding={name}: this program reads line by line, which needs an encoding whose "
            "line end is one byte; save the file as UTF-8"
        )


def read_text(
    path: str,
    encoding: str | None = None,
    remedy: str = "--data_dir must be the folder that holds it",
) -> str:
    """The text of a file, local or remote: UTF-8, or UTF-16 with a byte order mark.

    Bytes that are not UTF-8 stay in it as lone surrogates, which `broken` finds.

    Args:
      encoding: another one, as the user says; then all bytes must be of it.
      remedy: what to do if the file cannot be read, for the message.

    Raises: ValueError if the file is missing or is no text, or BadRow if it has not the encoding
      given, or is UTF-16 that is damaged.
    """
    try:
        data = filesystem.read_bytes(path)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error}); {remedy}"
        raise ValueError(f"{path}: {problem}") from error
    refuse_other_files(path, data)
    if encoding is not None and codecs.lookup(encoding).name != "utf-8":
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeError as error:
            line = data[: getattr(error, "start", 0)].count(b"\n") + 1
            problem = f"--encoding={encoding} is not that of this file ({error})"
            raise BadRow(path, line, problem) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            problem = f"the file is damaged UTF-16 ({error.reason}); save it as UTF-8"
            raise BadRow(path, 1, problem) from error
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="surrogateescape")


def rows_text(path: str, encoding: str | None = None) -> str:
    """`read_text` of a file of rows, of which single ones may be damaged.

    Raises: BadRow if the whole file has another encoding: most lines with other characters than
      ASCII's are not UTF-8, and there are several.
    """
    text = read_text(path, encoding)
    if _NOT_UTF8.search(text) is None:
        return text
    other = [(n, line) for n, line in enumerate(text.split("\n"), 1) if not line.isascii()]
    bad = [(number, line) for number, line in other if _NOT_UTF8.search(line)]
    if len(bad) == 1 or 2 * len(bad) < len(other):
        return text
    likely = likely_encoding("\n".join(x for _, x in bad).encode("utf-8", "surrogateescape"))
    number, line = bad[0]
    share = f"{len(bad)} of {len(other)} lines that are not all ASCII have such bytes"
    problem = f"{broken(line)}, and {share}"
    raise BadRow(path, number, f"{problem}; give {likely}, or save it as UTF-8")


def likely_encoding(data: bytes) -> str:
    """`--encoding=cp1252 (or cp1250)`, as bytes that are not UTF-8 look, to end a message."""
    import charset_normalizer  # few need it

    matches = charset_normalizer.from_bytes(data[:_GUESSED_FROM], cp_isolation=_ENCODINGS)
    # Those that read the bytes alike come together: the most frequent first.
    found = [n for m in matches for n in sorted(m.could_be_from_charset, key=_ENCODINGS.index)]
    first, *others = list(dict.fromkeys(found))[:3] or ["cp1252"]
    return f"--encoding={first}" + (f" (or {', '.join(others)})" if others else "")


def refuse_other_files(path: str, start: bytes) -> None:
    """Raises ValueError if a file begins as one that is no text, whatever its name says."""
    for magic, what in _OTHER_FILES.items():
        if start.startswith(magic):
            raise ValueError(f"{path} is no text file, but {what}")


def broken(text: str) -> str | None:
    """What is wrong with the text of a row from `read_text`: no UTF-8, or a NUL; else None."""
    found = _BROKEN.search(text)
    if found is None:
        return None
    if found.group() == "\0":
        return "NUL character"
    return f"byte 0x{ord(found.group()) - 0xDC00:02x} is not UTF-8 text"


def legible(text: str) -> str:
    """Return a text from `read_text` with U+FFFD in the place of bytes that are not UTF-8."""
    return _NOT_UTF8.sub("\ufffd", text)


def every_line(path: str, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of each line, ending in "\\n" or "\\r\\n", broken or not.

    Empty lines at the end of the file are left out.
    """
    # Not splitlines(): it would also split on U+2028, U+0085 and other characters of the text.
    for number, line in enumerate(rows_text(path, encoding).rstrip("\r\n").split("\n"), start=1):
        yield number, line.removesuffix("\r")


def lines(
    path: str, on_bad: OnBad = refuse, encoding: str | None = None
) -> Iterator[tuple[int, str]]:
    """The lines of `every_line` that are not broken."""
    for number, line in every_line(path, encoding):
        if problem := broken(line):
            on_bad(BadRow(path, number, f"{problem}; {SAVE_AS_UTF8}"))
        else:
            yield number, line


def tsv_rows(
    path: str, on_bad: OnBad = refuse, encoding: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and cells of each row of a tab-separated file.

    As Google's `csv.reader(delimiter="\\t", quotechar=None)`, quotes are text like any other; a
    cell may have any length.
    """
    for number, line in lines(path, on_bad, encoding):
        yield number, line.split("\t")
