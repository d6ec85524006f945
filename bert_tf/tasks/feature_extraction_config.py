"""Flags of `extract_features.py`: those of google-research/bert's, and ours. Without TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import os

from bert_tf import filesystem
from bert_tf.checkpoints import given
from bert_tf.data.text_files import check_encoding
from bert_tf.run_config import check_values, cli_flag, shared_flag

OUTPUT_FORMATS = ("jsonl", "npy", "parquet")
NO_POOLING, POOLED = "none", "pooled"
POOLING_NAMES = (NO_POOLING, "cls", POOLED, "mean", "max", "mean_max", "last")
# Name -> the hidden states it needs, the embeddings being the first; whether they are summed.
# The six of Devlin et al. 2019, table 7, and plain sums.
FEATURES = {
    "embeddings": (slice(0, 1), False),
    "second_to_last_hidden": (slice(-2, -1), False),
    "last_hidden": (slice(-1, None), False),
    "weighted_sum_last_four": (slice(-4, None), True),
    "concat_last_four": (slice(-4, None), False),
    "weighted_sum_all": (slice(1, None), True),
    "sum_last_four": (slice(-4, None), True),
    "sum_all": (slice(1, None), True),
}
_WEIGHTED = ("weighted_sum_last_four", "weighted_sum_all")
_LAYERS = "-1,-2,-3,-4"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureExtractionConfig:
    """One pass over a file of sentences or pairs: the model, and which of its vectors to write."""

    input_file: str = cli_flag(
        None, "Text, one sentence a line, or a pair as `first ||| second`.", required=True
    )
    output_file: str = cli_flag(
        None,
        "Where the vectors go; <output_file>.partial until they are complete.",
        required=True,
    )
    encoding: str | None = cli_flag(
        None, "The encoding of --input_file, such as cp1252 or gb18030; by default UTF-8."
    )
    init_checkpoint: str = shared_flag(
        "init_checkpoint",
        help="The model: a folder, a TF1 checkpoint prefix, or a Hugging Face file.",
        required=True,
    )
    bert_config_file: str | None = shared_flag("bert_config_file")
    vocab_file: str | None = shared_flag("vocab_file")
    tokenization: str | None = shared_flag("tokenization")
    spm_model_file: str | None = shared_flag("spm_model_file")
    keep_special_tokens: bool | None = shared_flag("keep_special_tokens")
    do_lower_case: bool | None = shared_flag("do_lower_case")
    max_seq_length: int = shared_flag("max_seq_length")
    batch_size: int = cli_flag(32, "Lines in one batch.")
    layers: str = cli_flag(
        _LAYERS, "Layers to write, in this order: 0 is the first, -1 the last of the encoder."
    )
    features: str | None = cli_flag(
        None,
        "Instead of --layers, one vector of them: the six of table 7 of the BERT paper, or a plain "
        "sum. The weights of a weighted one are given by --layer_weights, not learned here.",
        choices=tuple(FEATURES),
    )
    layer_weights: str | None = cli_flag(
        None,
        "With --features=weighted_sum_last_four or weighted_sum_all, the weights of these layers "
        "from the first to the last, separated by commas.",
    )
    pooling: str = cli_flag(
        NO_POOLING,
        "One vector a line instead of one a token: the first token's, the pooler's output, the "
        "mean, the maximum, mean and maximum joined, or the last token's ([SEP]).",
        choices=POOLING_NAMES,
    )
    normalize: bool = cli_flag(False, "Scale each vector to length 1.")
    output_format: str = cli_flag(
        "jsonl",
        "jsonl as Google's; npy: one float32 array (without --pooling: of all tokens, and "
        "<name>.offsets.npy says where each line's begin); parquet needs pyarrow.",
        choices=OUTPUT_FORMATS,
    )
    precision: str = shared_flag("precision")
    pad_to_max_seq_length: bool = shared_flag(
        "pad_to_max_seq_length",
        help="Compute lines in the order of the file, all padded to --max_seq_length, as Google's "
        "program does, instead of by length: slower, and equal but for rounding.",
    )
    use_one_hot_embeddings: bool = cli_flag(
        False, "Look words up by a matrix product, which suits some TPUs; the result is the same."
    )
    distribution_strategy: str = shared_flag(
        "distribution_strategy",
        help="Which devices compute: off (the first GPU, or else the CPU), one_device (the same, "
        "fixed), mirrored (all GPUs of this machine), tpu.",
        choices=("off", "one_device", "mirrored", "tpu"),
    )
    num_gpus: int | None = shared_flag("num_gpus")
    use_tpu: bool = shared_flag("use_tpu")
    tpu_name: str | None = shared_flag("tpu_name")
    tpu_zone: str | None = shared_flag("tpu_zone")
    gcp_project: str | None = shared_flag("gcp_project")
    master: str | None = shared_flag("master")
    num_tpu_cores: int = shared_flag("num_tpu_cores")

    def __post_init__(self) -> None:
        check_encoding(self.encoding, by_line=True)
        check_values(self)
        leasts = {"batch_size": 1, "num_tpu_cores": 1, "max_seq_length": 3, "num_gpus": 0}
        for name, least in leasts.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"--{name}={value}: give {least} or more")
        self._check_ending()
        chosen = [] if self.layers == _LAYERS else [f"--layers={self.layers}"]
        if self.features:
            chosen.append(f"--features={self.features}")
        if self.pooling == POOLED:
            chosen.append(f"--pooling={POOLED}, which is of the last layer")
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other; give one of them")
        self.layer_indexes()
        if self.weights() and self.features not in _WEIGHTED:
            raise ValueError(
                f"--layer_weights={self.layer_weights} is for --features={' or '.join(_WEIGHTED)}"
            )
        if self.features in _WEIGHTED and not self.weights():
            raise ValueError(
                f"--features={self.features} needs --layer_weights, a number for each layer from "
                "the first to the last, such as those that your own model has learned; "
                f"--features={self.features.removeprefix('weighted_')} adds the layers as they are"
            )

    def check_inputs(self) -> None:
        """Check the files that the flags name. Raises ValueError."""
        given.check(self)
        path = self.input_file
        if not filesystem.is_remote(path) and not os.path.isfile(path):
            raise ValueError(f"--input_file={path}: there is no such file")

    def _check_ending(self) -> None:
        """A name that says another format is a mistake in one of both flags."""
        ending = os.path.splitext(self.output_file)[1].lower().removeprefix(".")
        if ending in OUTPUT_FORMATS and ending != self.output_format:
            raise ValueError(
                f"--output_file={self.output_file} would hold {self.output_format}; add "
                f"--output_format={ending}, or give another name"
            )

    @property
    def sums(self) -> bool:
        """Whether hidden states that make one vector are added up, not joined."""
        return self.features is None or FEATURES[self.features][1]

    def layer_indexes(self) -> list[int]:
        """`--layers`. Raises ValueError if one is not a whole number."""
        try:
            return [int(index) for index in self.layers.split(",")]
        except ValueError as error:
            raise ValueError(
                f"--layers={self.layers}: give whole numbers, separated by commas"
            ) from error

    def weights(self) -> list[float]:
        """`--layer_weights`; empty if not given. Raises ValueError if one is not a number."""
        if self.layer_weights is None:
            return []
        try:
            weights = [float(weight) for weight in self.layer_weights.split(",")]
        except ValueError:
            weights = [math.nan]
        if not all(map(math.isfinite, weights)):
            raise ValueError(
                f"--layer_weights={self.layer_weights}: give numbers, separated by commas"
            )
        return weights

    def states(self, num_layers: int) -> list[tuple[int | str, list[int]]]:
        """The vectors that are written: their names, and the hidden states each is made of.

        Args:
          num_layers: layers of the encoder. State 0 is the embeddings, state n that of layer n
            (from 1); negative numbers are not used.

        Raises:
          ValueError: the model has no such layer, or not as many as there are weights.
        """
        if self.pooling == POOLED:
            return [(POOLED, [num_layers])]
        if self.features is None:
            for index in self.layer_indexes():
                if not -num_layers <= index < num_layers:
                    raise ValueError(
                        f"--layers={self.layers}: this model has {num_layers} layers, from 0 to "
                        f"{num_layers - 1} or from -{num_layers} to -1; there is no {index}"
                    )
            return [(index, [index % num_layers + 1]) for index in self.layer_indexes()]
        part = FEATURES[self.features][0]
        used = list(range(num_layers + 1))[part]
        if part.start < -num_layers:
            raise ValueError(
                f"--features={self.features} needs {-part.start} layers; this model has "
                f"{num_layers}"
            )
        if self.weights() and len(self.weights()) != len(used):
            raise ValueError(
                f"--layer_weights={self.layer_weights}: --features={self.features} adds up "
                f"{len(used)} layers of this model; give as many weights"
            )
        return [(self.features, used)]
