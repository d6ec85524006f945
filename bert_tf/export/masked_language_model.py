"""SavedModels of a pre-trained model: the words behind masks, and how likely a text is.

Every signature of words returns, for B texts with up to M masks,

    positions       int32   [B, M]      where each mask is in the row; -1 where there is none
    tokens          string  [B, M, 5]   the likeliest pieces, the likeliest first
    probabilities   float32 [B, M, 5]

`serving_default` takes `text`, strings [B] with "[MASK]" in them, or, in the features model, what
`features` takes; `examples` takes serialized tf.Examples of the same. `score` takes `text` and
returns `pseudo_log_likelihood` float32 [B], in nats, and `pieces` int32 [B], of how many (Salazar
et al., 2020). Texts are cut to max_seq_length.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bert_tf import heads
from bert_tf.config import BertConfig
from bert_tf.export import ExportError
from bert_tf.export.features import (
    FEATURES,
    FeaturesModule,
    Tensors,
    inference_copy,
    padded,
    serialize_example,
    serialize_examples,
)
from bert_tf.export.finetuned import FineTuned
from bert_tf.export.servable import TOLERANCE, Arrays, Case, Model, Servable
from bert_tf.export.text import TextModule, parse_text_examples, shown
from bert_tf.fill_mask import TOP_K, MaskFiller, check_tied, keeping_masks
from bert_tf.graph_packing import pack_pairs
from bert_tf.packing import pack
from bert_tf.tokenization import Tokenizer

_ROWS = 16  # masked copies that are computed together


class Batch(NamedTuple):
    """Texts and what Python makes of them."""

    samples: list[str]
    features: Arrays  # FEATURES, int32 [B, F]
    words: Arrays  # the three outputs of words, with one candidate more
    scores: Arrays  # those of `score`


class _AtMasks:
    """The model at the masks of its rows: FEATURES -> `positions` [B, M] and `logits` [B, M, V]."""

    def __init__(self, model: keras.Model, mask_id: int):
        self.weights, self._model, self._mask_id = model.weights, model, mask_id

    def __call__(self, inputs: Tensors, training: bool) -> Tensors:
        ids = inputs["input_ids"]
        there = (ids == self._mask_id) & (inputs["input_mask"] > 0)
        places = tf.broadcast_to(tf.range(tf.shape(ids)[1]), tf.shape(ids))
        positions = tf.ragged.boolean_mask(places, there).to_tensor(-1)  # [B, M]
        inputs = {**inputs, "masked_lm_positions": tf.maximum(positions, 0)}
        logits = self._model(inputs, training=training)["masked_lm_logits"]
        return {"positions": positions, "logits": logits}


class MaskedLanguageModel(Servable):
    """A model of `heads.pretraining`, packed or not, trained under any tf.distribute strategy.

    Raises: ValueError for arguments that do not fit together, or a vocabulary without [MASK].
    """

    task_type = "masked_lm"
    use = "Finds the words behind the [MASK]s of a text, and says how likely a text is."
    labels: list[str] = []
    example = "This is the [MASK] of a sentence."

    def __init__(
        self, model: keras.Model, config: BertConfig, tokenizer: Tokenizer, max_seq_length: int
    ):
        tokenizer, self.mask_id = keeping_masks(tokenizer)
        super().__init__(config, tokenizer, max_seq_length)
        pairs = any("seq_relationship" in weight.path for weight in model.weights)
        self.model = inference_copy(
            model,
            lambda: heads.pretraining(config, next_sentence=pairs),
            "a pre-training model of this config",
        )

    @classmethod
    def from_checkpoint(cls, source: FineTuned) -> "MaskedLanguageModel":
        """The one in a checkpoint. Raises ValueError if it has no head for masked words."""
        check_tied(source.tensors, source.path)
        model = source.load(heads.pretraining(source.config, next_sentence=False))
        return cls(model, source.config, source.tokenizer, source.max_seq_length)

    # ----------------------------------------------------------------------------- the graphs

    def features_model(self) -> Model:
        module = FeaturesModule(_AtMasks(self.model, self.mask_id), self._words)
        names = ("serving_default", "features")
        return Model(module, dict.fromkeys(names, module.features) | {"examples": module.examples})

    def _words(self, outputs: Tensors) -> Tensors:
        """Logits at masks -> what the module's docstring lists."""
        ids, pieces = zip(*sorted(self.tokenizer.inv_vocab.items()), strict=True)
        shares = tf.nn.softmax(outputs["logits"])
        if len(ids) < self.config.vocab_size:  # rows without a token are no candidates
            shares = tf.gather(shares, ids, axis=-1)
        probabilities, places = tf.math.top_k(shares, TOP_K)
        there = outputs["positions"] >= 0
        tokens = tf.gather(tf.constant(pieces), places)
        return {
            "positions": outputs["positions"],
            "tokens": tf.where(there[:, :, tf.newaxis], tokens, ""),
            "probabilities": tf.where(there[:, :, tf.newaxis], probabilities, 0.0),
        }

    def text_model(self, features: Model) -> Model:
        """`serving_default`, `score`; `tokenize`, no signature, gives the features themselves."""
        module = TextModule(features, self.tokenizer)
        special = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        text = tf.TensorSpec([None], tf.string, "text")

        @tf.function(autograph=False, input_signature=[text])
        def tokenize(text):
            rows = pack_pairs(module.tokenizer(text), None, *special, self.max_seq_length)
            return dict(zip(FEATURES, rows, strict=True))

        @tf.function(autograph=False, input_signature=[text])
        def fill(text):
            return module.model.features(**tokenize(text))

        @tf.function(autograph=False, input_signature=[text])
        def score(text):
            return self._graph_score(tokenize(text))

        @tf.function(
            autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "examples")]
        )
        def examples(examples):
            return module.model.features(**parse_text_examples(examples, ("text",), tokenize))

        module.tokenize, module.fill, module.score, module.examples = (
            tokenize,
            fill,
            score,
            examples,
        )
        own = {"serving_default": fill, "score": score, "examples": examples}
        return Model(module, features.signatures | own)

    def _graph_score(self, rows: Tensors) -> Tensors:
        """FEATURES [B, F] -> the outputs of `score`: a copy of a row for each of its N pieces."""
        pieces = tf.reduce_sum(rows["input_mask"], axis=1) - 2  # [B]
        owner = tf.repeat(tf.range(tf.shape(pieces)[0]), pieces)  # [N]
        places = tf.ragged.range(1, pieces + 1).values  # [N]
        count = tf.shape(owner)[0]
        missing = -count % _ROWS

        def chunk(part: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            owners, positions = part
            copies = {name: tf.gather(values, owners) for name, values in rows.items()}
            ids = copies["input_ids"]
            here = tf.one_hot(positions, tf.shape(ids)[1], on_value=True, off_value=False)
            copies["input_ids"] = tf.where(here, self.mask_id, ids)
            copies["masked_lm_positions"] = positions[:, tf.newaxis]
            logits = self.model(copies, training=False)["masked_lm_logits"][:, 0]
            truth = tf.gather(ids, positions, batch_dims=1)
            return -tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)

        parts = [tf.reshape(tf.pad(x, [[0, missing]]), [-1, _ROWS]) for x in (owner, places)]
        found = tf.map_fn(chunk, tuple(parts), fn_output_signature=tf.float32)
        found = tf.reshape(found, [-1])[:count]
        total = tf.math.unsorted_segment_sum(found, owner, tf.shape(pieces)[0])
        return {"pseudo_log_likelihood": total, "pieces": pieces}

    # ------------------------------------------------------------------------- what Python says

    def tricky_samples(self) -> list[str]:
        """Texts on which tokenizers and packers have been seen to differ, and few or many masks."""
        return [
            "",
            "[MASK]",
            "No mask at all: Thé naïve café, ÀÉÎÕÜ; ﬁne Ａ１ e\u0301 \u00ad-\u200b- ΟΔΟΣ",
            "[MASK][MASK] of [MASK]. [SEP] [PAD]",
            "北京是[MASK]国的首都。",
            "word " * (self.max_seq_length + 9) + "[MASK]",
        ]

    def answers(self, samples: Iterable[str]) -> list[Batch]:
        """One text at a time, as `fill_mask` does."""
        filler = MaskFiller(self.model, self.tokenizer, self.max_seq_length)
        return [self._answer(filler, sample) for sample in samples]

    def _answer(self, filler: MaskFiller, sample: str) -> Batch:
        tokenizer = self.tokenizer
        ids, segments = pack(
            tokenizer.encode(sample),
            None,
            cls_id=tokenizer.cls_token_id,
            sep_id=tokenizer.sep_token_id,
            max_seq_length=self.max_seq_length,
        )
        places = np.flatnonzero(np.array(ids) == self.mask_id).astype(np.int32)
        words = {
            "positions": places[np.newaxis],
            "tokens": np.zeros((1, 0, TOP_K + 1), object),
            "probabilities": np.zeros((1, 0, TOP_K + 1), np.float32),
        }
        if len(places):
            shares = np.exp(filler.log_probs([ids], [places.tolist()]))  # [1, M, V]
            best = filler.best(shares, TOP_K + 1)
            names = [tokenizer.inv_vocab[int(i)].encode() for i in best.ravel()]
            words["tokens"] = np.array(names, object).reshape(best.shape)
            words["probabilities"] = np.take_along_axis(shares, best, -1).astype(np.float32)
        total = filler.score_row(ids) if len(ids) > 2 else 0.0
        scores = {
            "pseudo_log_likelihood": np.array([total], np.float32),
            "pieces": np.array([len(ids) - 2], np.int32),
        }
        return Batch([sample], padded([(ids, segments)]), words, scores)

    def features_cases(self, batch: Batch) -> Iterator[Case]:
        expected, rows = batch.words, [shown(sample) for sample in batch.samples]
        serialized = serialize_examples(batch.features)
        yield Case("serving_default", batch.features, expected, rows)
        yield Case("features", batch.features, expected, rows)
        yield Case("examples", {"examples": serialized}, expected, rows)

    def text_cases(self, batch: Batch) -> Iterator[Case]:
        rows = [shown(sample) for sample in batch.samples]
        text = {"text": np.array([sample.encode() for sample in batch.samples], object)}
        examples = [serialize_example({"text": [sample.encode()]}) for sample in batch.samples]
        yield Case("tokenize", text, batch.features, rows)
        yield Case("serving_default", text, batch.words, rows)
        yield Case("features", batch.features, batch.words, rows)
        yield Case("examples", {"examples": np.array(examples, object)}, batch.words, rows)
        yield Case("score", text, batch.scores, rows)

    def check(self, case: Case, answers: Arrays) -> None:
        """The candidates too, but not which of two equals comes first."""
        expected: dict[str, Any] = dict(case.expected)
        tokens = expected.pop("tokens", None)
        if tokens is not None:
            shares = expected["probabilities"]
            expected["probabilities"] = shares[..., :TOP_K]
            apart = -np.diff(shares, axis=-1) > 2 * TOLERANCE  # from the next one
            clear = apart & np.concatenate(
                [np.ones((*apart.shape[:-1], 1), bool), apart[..., :-1]], axis=-1
            )
            if (answers["tokens"] != tokens[..., :TOP_K])[clear].any():
                raise ExportError(
                    f"tokens of {case.rows} from {case.function}: Python "
                    f"{tokens[..., :TOP_K].tolist()}, SavedModel {answers['tokens'].tolist()}"
                )
        super().check(case._replace(expected=expected), answers)
