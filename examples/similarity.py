"""For each sentence of a file the most similar other one, by the cosine of their vectors.

python examples/similarity.py SENTENCES.txt VECTORS.npy

VECTORS.npy is what extract_features.py wrote with --pooling=mean --normalize --output_format=npy.
"""

import sys
from pathlib import Path

import numpy as np


def main() -> None:
    sentences_file, vectors_file = sys.argv[1:]
    sentences = Path(sentences_file).read_text(encoding="utf-8").rstrip("\n").split("\n")
    vectors = np.load(vectors_file)  # [sentences, E], of length 1
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    for sentence, row in zip(sentences, cosines, strict=True):
        print(f"{row.max():.3f}\t{sentence}\t{sentences[row.argmax()]}")


if __name__ == "__main__":
    main()
