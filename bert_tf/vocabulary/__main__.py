"""Learns a WordPiece vocabulary, or edits that of a checkpoint.

python -m bert_tf.vocabulary learn --input=corpus.txt --vocab_size=30000 --output=vocab.txt
python -m bert_tf.vocabulary extend --checkpoint=uncased_L-12_H-768_A-12 --words=ibuprofen,mrna \
    --output_dir=output/medical
python -m bert_tf.vocabulary prune --checkpoint=multi_cased_L-12_H-768_A-12 --input=corpus.txt \
    --output_dir=output/small
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from bert_tf import checkpoints, cli, filesystem
from bert_tf.data.corpora import INPUT_FORMATS, Corpus, find_files
from bert_tf.data.text_files import check_encoding
from bert_tf.tasks import vocabulary_learning


def _learn(given: argparse.Namespace) -> None:
    filesystem.refuse_overwriting("output", [given.output], find_files(given.input, "input"))
    words = _count(given, not given.cased)
    tokens = vocabulary_learning.learn(
        words, given.vocab_size, given.num_unused, given.character_coverage, given.min_count
    )
    if len(tokens) < given.vocab_size:
        print(f"The corpus gives {len(tokens)} pieces only; a larger one gives more.")
    filesystem.write_whole(given.output, "".join(f"{token}\n" for token in tokens).encode())
    print(f"{given.output}: {len(tokens)} tokens")


def _count(given: argparse.Namespace, do_lower_case: bool) -> dict[str, int]:
    check_encoding(given.encoding, by_line=True)
    corpus = Corpus(find_files(given.input, "input"), given.input_format, given.encoding)
    words, forgotten = vocabulary_learning.count_words(corpus, do_lower_case, given.num_workers)
    total = sum(words.values()) + forgotten
    print(f"{corpus.lines} lines, {total} words, {len(words)} different ones")
    if forgotten:
        print(
            f"{forgotten} of them were too rare to be remembered ({100 * forgotten / total:.2f}%)"
        )
    if warning := corpus.warning():
        print(warning)
    return words


def _extend(given: argparse.Namespace) -> None:
    from bert_tf.tasks import vocabulary_editing

    _check_target(given, [given.words_file] if given.words_file else [])
    words = given.words.split(",") if given.words else []
    if given.words_file:
        with open(given.words_file, encoding="utf-8") as file:
            words += [word for line in file if (word := line.strip())]
    done = vocabulary_editing.extend(given.checkpoint, words, given.output_dir)
    for word, pieces in done.pieces.items():
        print(f"{word}: was {' '.join(pieces)}")
    if done.known:
        print(f"already there: {', '.join(done.known)}")
    added = len(done.pieces)
    print(f"{given.output_dir}: {added} new tokens, {done.replaced} of them in place of [unusedN]")


def _prune(given: argparse.Namespace) -> None:
    from bert_tf.tasks import vocabulary_editing

    _check_target(given, find_files(given.input, "input"))
    lower = checkpoints.locate(given.checkpoint).lower_cases
    words = _count(given, lower)
    done = vocabulary_editing.prune(given.checkpoint, words, given.output_dir, given.min_count)
    print(f"{given.output_dir}: {done.kept} tokens, {done.dropped} left out")
    if done.changed:
        print(f"{done.changed} words of the corpus are cut in another way now")


def _check_target(given: argparse.Namespace, inputs: Sequence[str]) -> None:
    """Raise ValueError if the new checkpoint would replace what it is made of."""
    vocabulary = checkpoints.locate(given.checkpoint).tokenizer_file.values()
    checkpoints.refuse_replacing(
        "output_dir", given.output_dir, "google", given.checkpoint, [*vocabulary, *inputs]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bert_tf.vocabulary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    learn = commands.add_parser("learn", help="a vocabulary for a corpus")
    learn.add_argument("--vocab_size", type=int, required=True)
    learn.add_argument("--output", required=True, type=cli.path, help="the file to write")
    learn.add_argument("--cased", action="store_true", help="keep capitals and accents")
    learn.add_argument("--num_unused", type=int, default=99, help="tokens called [unusedN]")
    learn.add_argument(
        "--character_coverage",
        type=float,
        default=0.9999,
        help="share of the text whose characters are pieces, the most frequent first",
    )
    learn.add_argument(
        "--min_count", type=int, default=2, help="least occurrences of two pieces to be joined"
    )
    extend = commands.add_parser("extend", help="words into the vocabulary of a checkpoint")
    extend.add_argument("--words", help="with commas in between")
    extend.add_argument("--words_file", type=cli.path, help="one a line")
    prune = commands.add_parser("prune", help="pieces that a corpus does not need out of it")
    prune.add_argument("--min_count", type=int, default=1, help="pieces that occur so often stay")
    for command in (learn, prune):
        command.add_argument(
            "--input", required=True, type=cli.path, help="files or patterns, with commas"
        )
        command.add_argument("--input_format", choices=INPUT_FORMATS, default="text")
        command.add_argument("--encoding", help="of the files, such as cp1252; else UTF-8")
        command.add_argument("--num_workers", type=int, default=os.cpu_count())
    for command in (extend, prune):
        command.add_argument(
            "--checkpoint", required=True, type=cli.path, help="folder, prefix or file"
        )
        command.add_argument(
            "--output_dir", required=True, type=cli.path, help="where the new one is written"
        )
    learn.set_defaults(run=_learn)
    extend.set_defaults(run=_extend)
    prune.set_defaults(run=_prune)
    return parser


@cli.command()
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = _parser().parse_args(arguments)
    if given.command == "extend" and not (given.words or given.words_file):
        sys.exit("error: give --words or --words_file")
    try:
        if given.command != "learn":
            with cli.quiet_start():
                import tensorflow  # noqa: F401
        given.run(given)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
