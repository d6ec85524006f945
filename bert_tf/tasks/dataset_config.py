"""Flags of the programs that read a folder with a training, a development and a test file."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from bert_tf import filesystem
from bert_tf.checkpoints import given
from bert_tf.data.text_files import FEW_BAD_ROWS, BadRows, check_encoding, listed
from bert_tf.run_config import RunConfig, cli_flag

_NAMED = 20  # files that a message lists


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(RunConfig):
    """One run on the files of a folder."""

    data_dir: str = cli_flag(None, "Folder of the task's files.", required=True, free=True)
    dev_split: float | None = cli_flag(
        None,
        "Without a development file: the share of the training file that is taken for it, such as "
        "0.1. Classes keep their shares. <output_dir>/dev_split.tsv lists the rows, which are the "
        "same ones for every --random_seed.",
    )
    labels: str | None = cli_flag(
        None,
        "The classes in the order of their ids, with commas in between; one with a comma in it "
        "stands in double quotes. By default those of the training file.",
    )
    skip_bad_rows: bool = cli_flag(
        False,
        "Leave out rows (of tagged text: sentences) that cannot be used, and list them, instead "
        "of stopping.",
    )
    max_bad_rows: float = cli_flag(
        0.05,
        "With --skip_bad_rows: the largest share of a file's rows that may be left out, from 0 to "
        f"1; more is an error. Up to {FEW_BAD_ROWS} rows may always be.",
        free=True,
    )
    encoding: str | None = cli_flag(
        None,
        "The encoding of the files, such as cp1252, cp1251, gb18030 or big5; by default UTF-8, or "
        "UTF-16 with a byte order mark.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dev_split is not None and not 0 < self.dev_split < 1:
            raise ValueError(
                f"--dev_split={self.dev_split}: give a share above 0 and below 1, such as 0.1"
            )
        if not 0 <= self.max_bad_rows <= 1:
            raise ValueError(
                f"--max_bad_rows={self.max_bad_rows}: give a share from 0 to 1, such as 0.2 for a "
                "fifth of a file's rows"
            )
        check_encoding(self.encoding)

    def bad_rows(self) -> BadRows:
        """Return what becomes of the bad rows of a file, as the flags say."""
        return BadRows(self.skip_bad_rows, self.max_bad_rows)

    def check_inputs(self) -> None:
        given.check(self)

    def label_list(self) -> list[str] | None:
        """Return the names in --labels, or None where the flag is left out.

        Raises:
          ValueError: there are fewer than two, one is empty or there twice, or a quote is open.
        """
        if self.labels is None:
            return None
        try:
            (row,) = csv.reader([self.labels], skipinitialspace=True, strict=True)
        except (csv.Error, ValueError):
            row = []
        names = [name.strip() for name in row]
        if len(set(names)) < max(2, len(names)) or not all(names):
            raise ValueError(
                f"--labels={self.labels}: give two or more different labels with commas in "
                "between, such as --labels=ham,spam; a label with a comma in it stands in double "
                """quotes: --labels='"ham, eggs",spam'"""
            )
        return names

    def read_splits(self) -> dict[str, str]:
        """Return the splits whose files the run reads -> the flag that asks for it."""
        dev = "dev" if self.dev_split is None else "train"
        found = {"train": "do_train"} if self.do_train else {}
        if self.do_eval or self.export_precision != "float32":
            found.setdefault(dev, "do_eval" if self.do_eval else "export_precision")
        if self.do_predict:
            found["test"] = "do_predict"
        return found

    def check_dev_split(self, noted: Mapping[str, Any], source: str) -> None:
        """Raise ValueError if a model that is only used was trained on other rows than are left.

        Args:
          noted: what lies beside the model; without "dev_split" nothing is known.
          source: the model, for the message.
        """
        if self.dev_split is not None and noted.get("dev_split", self.dev_split) != self.dev_split:
            raise ValueError(
                f"--dev_split={self.dev_split}, but {source} was trained with "
                f"{noted['dev_split'] or 'the whole training file'}: it has seen some of these rows"
            )

    def check_files(self, path_of: Callable[[str], str]) -> None:
        """Check that the files that the run reads are there; of a remote folder nothing is checked.

        Args:
          path_of: the path of `train`, `dev` or `test`, which may be missing.

        Raises:
          ValueError: a file is missing, or there is a development file although --dev_split makes
            one; the message says what is there.
        """
        if filesystem.is_remote(self.data_dir):
            return
        if not os.path.isdir(self.data_dir):
            raise ValueError(f"--data_dir={self.data_dir}: there is no such folder")
        for split, flag in self.read_splits().items():
            if not filesystem.is_file(path := path_of(split)):
                hint = f"name your file {os.path.relpath(path, self.data_dir)}"
                if split == "dev" and filesystem.is_file(train := path_of("train")):
                    hint += f", or take a part of {os.path.basename(train)} with --dev_split=0.1"
                raise ValueError(
                    f"{path}: there is no such file, but --{flag} needs it. {self.data_dir} "
                    f"holds {_content(self.data_dir)}; {hint}"
                )
        if self.dev_split is not None and filesystem.is_file(path := path_of("dev")):
            raise ValueError(
                f"--dev_split={self.dev_split} is for folders without a development file, but "
                f"there is {path}; leave the flag out, or give another folder"
            )


def _content(folder: str) -> str:
    """Return the names in a folder as a message lists them."""
    names = sorted(
        name + "/" * os.path.isdir(os.path.join(folder, name))
        for name in os.listdir(folder)
        if not name.startswith(".")
    )
    return listed(names, _NAMED) if names else "no files"
