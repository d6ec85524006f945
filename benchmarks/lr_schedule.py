"""What the line on which the learning rate falls is worth: Google's, a tenth higher, transformers'.

    python benchmarks/lr_schedule.py --init_checkpoint=downloads/all-MiniLM-L6-v2

Google's schedule goes on from 0.9 of the peak after a warm-up of a tenth. The tagger of
examples/ner_en learns its first sentences with each of the three and the same seeds; F1 is that of
the entities of dev.txt.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from bert_tf.tasks import tagging
from bert_tf.tasks.tagging_config import TaggingConfig

DATA = Path(__file__).parent.parent / "examples" / "ner_en"
PEAK = 1e-4
SCHEDULES = {
    "google": ("google", 1.0),
    "google, 1.1 times the peak": ("google", 1.1),
    "linear": ("linear", 1.0),
}


def sample(folder: Path, sentences: int) -> None:
    """Write so many sentences of the training set, and the whole development set."""
    folder.mkdir()
    texts = (DATA / "train.txt").read_text("utf-8").split("\n\n")
    (folder / "train.txt").write_text("\n\n".join(texts[:sentences]) + "\n", "utf-8")
    shutil.copy(DATA / "dev.txt", folder)


def f1(folder: Path, name: str, seed: int, given: argparse.Namespace) -> float:
    schedule, factor = SCHEDULES[name]
    config = TaggingConfig(
        task_name="conll",
        data_dir=str(folder / "data"),
        init_checkpoint=given.init_checkpoint,
        output_dir=str(folder / f"{schedule}-{factor}-{seed}"),
        do_train=True,
        do_eval=True,
        max_seq_length=96,
        train_batch_size=8,
        eval_batch_size=64,
        learning_rate=PEAK * factor,
        lr_schedule=schedule,
        num_train_epochs=given.num_train_epochs,
        random_seed=seed,
    )
    return 100 * tagging.run(config)["metrics"]["eval"]["f1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--init_checkpoint", required=True)
    parser.add_argument("--sentences", type=int, default=400)
    parser.add_argument("--num_train_epochs", type=float, default=4.0)
    parser.add_argument("--num_seeds", type=int, default=3)
    given = parser.parse_args()
    scores: dict[str, list[float]] = {name: [] for name in SCHEDULES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sample(folder / "data", given.sentences)
        for seed in range(1, given.num_seeds + 1):
            for name, found in scores.items():
                found.append(f1(folder, name, seed, given))
    print("| schedule | F1 of each seed | mean |\n|---|---|---|")
    for name, found in scores.items():
        each = ", ".join(f"{score:.2f}" for score in found)
        print(f"| {name} | {each} | {statistics.mean(found):.2f} |")


if __name__ == "__main__":
    main()
