"""The curve of a pre-training run, from its TensorBoard events, as a picture.

python scripts/plot_pretraining.py output/wiki/run output/wiki/curve.png
"""

import argparse

import matplotlib
from matplotlib import pyplot as plt

from bert_tf.reporting.events import read_scalars

matplotlib.use("Agg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="its output_dir")
    parser.add_argument("picture", help="the PNG file to write")
    given = parser.parse_args()
    curves = read_scalars(given.run)
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(*zip(*curves["loss"].items(), strict=True), lw=0.5, alpha=0.4, label="training loss")
    held_out = curves["dev/masked_lm_loss"]
    axes.plot(*zip(*held_out.items(), strict=True), "o-", ms=3, label="masked words, held out")
    entropy = next(iter(curves["dev/unigram_entropy"].values()))
    axes.axhline(entropy, ls="--", color="gray", label=f"unigram entropy ({entropy:.2f})")
    axes.set_xlabel("step")
    axes.set_ylabel("nats")
    axes.legend()
    figure.savefig(given.picture, dpi=110)
    print(given.picture)


if __name__ == "__main__":
    main()
