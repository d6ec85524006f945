"""A development set out of the training file, and what is said where a file is missing."""

from collections import Counter

import pytest

from bert_tf.data import dev_split
from bert_tf.tasks.classification_config import ClassificationConfig
from bert_tf.tasks.dataset_config import DatasetConfig


def test_every_class_has_its_share_and_the_rows_are_always_the_same():
    groups = ["ham"] * 60 + ["spam"] * 30 + ["once"] + ["eggs"] * 10
    rows = dev_split.held_out(groups, 0.1)
    assert Counter(groups[row] for row in rows) == {"ham": 6, "spam": 3, "eggs": 1}
    assert rows == sorted(rows) == dev_split.held_out(list(groups), 0.1)
    assert rows == [1, 14, 29, 34, 49, 54, 69, 78, 88, 93]  # of earlier runs too
    assert dev_split.held_out(groups[::-1], 0.1) != rows


def test_more_classes_than_rows_to_take():
    groups = [str(n // 2) for n in range(100)]
    assert len(dev_split.held_out(groups, 0.1)) == 10
    assert len(dev_split.held_out([str(n) for n in range(30)], 0.5)) == 15
    assert len(dev_split.held_out(["a", "b"], 0.1)) == 1
    with pytest.raises(ValueError, match=r"--dev_split=0\.5: 1 rows cannot be split"):
        dev_split.held_out(["a"], 0.5)


def config(folder, **flags):
    return ClassificationConfig(
        task_name="csv", data_dir=str(folder), output_dir=str(folder.parent), **flags
    )


def test_a_missing_file_is_told_with_what_is_there(tmp_path):
    (tmp_path / "tickets.csv").touch()
    (tmp_path / "notes").mkdir()
    with pytest.raises(
        ValueError, match=r"train\.csv: .*--do_train needs it\. .* holds notes/, ti"
    ):
        config(tmp_path, do_train=True).check_inputs()
    (tmp_path / "train.csv").touch()
    with pytest.raises(
        ValueError, match=r"dev\.csv: .* a part of train\.csv with --dev_split=0\.1"
    ):
        config(tmp_path, do_train=True, do_eval=True).check_inputs()
    config(tmp_path, do_train=True, do_eval=True, dev_split=0.1).check_inputs()
    with pytest.raises(ValueError, match=r"test\.csv: there is no such file, but --do_predict"):
        config(tmp_path, do_train=True, do_predict=True).check_inputs()
    (tmp_path / "dev.csv").touch()
    with pytest.raises(ValueError, match=r"--dev_split=0\.1 is for folders without a dev"):
        config(tmp_path, do_train=True, do_eval=True, dev_split=0.1).check_inputs()
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        config(tmp_path / "nowhere", do_train=True).check_inputs()
    with pytest.raises(ValueError, match="--dev_split=1: give a share above 0 and below 1"):
        config(tmp_path, do_train=True, dev_split=1)


def test_flags_are_checked_with_the_files(tmp_path):
    wrong = ClassificationConfig(
        task_name="tvs", data_dir=str(tmp_path), output_dir=str(tmp_path / "run"), do_eval=True
    )
    with pytest.raises(ValueError, match="Task not found: tvs. Did you mean 'tsv'"):
        wrong.check_inputs()
    published = ClassificationConfig(
        task_name="mnli", data_dir=str(tmp_path), output_dir=str(tmp_path / "run"), do_eval=True
    )
    with pytest.raises(
        ValueError, match=r"dev_matched\.tsv: .* holds no files; name your file dev"
    ):
        published.check_inputs()


def test_a_label_with_a_comma():
    def labels(value):
        return DatasetConfig(data_dir="data", output_dir="run", labels=value).label_list()

    assert labels("ham, spam") == ["ham", "spam"]
    assert labels('"Kündigung, Vertrag", Other') == ["Kündigung, Vertrag", "Other"]
    assert labels('"say ""no""",yes') == ['say "no"', "yes"]
    assert labels(None) is None
    for wrong in ("ham", "ham,ham", "ham,,spam", '"ham,spam', '"ham"s,spam', "", "a,b\nc,d"):
        with pytest.raises(ValueError, match="give two or more different labels with commas"):
            labels(wrong)
