"""What a worker computes, by pooling strategy: against the encoder's own outputs."""

import numpy as np
import pytest
from serving import save, tiny_encoder

from bert_tf import heads
from bert_tf.packing import pack
from bert_tf.serving import assets, flags
from bert_tf.serving.model import ServedModel
from bert_tf.serving.rows import RowMaker, features

OF_HEADS = ("CLS_POOLED", "CLASSIFICATION", "REGRESSION")
TEXTS = [("we liked this film", None), ("the book was bad", "he never read it"), ("", None)]
TEXTS += [("bad", None), ("we", "it")]  # the short ones share lines


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a model with a pooler, and the model."""
    folder = tmp_path_factory.mktemp("model")
    made = tiny_encoder()
    save(made, folder)
    return folder, made


def answers(folder, *given, texts=TEXTS):
    """The server's vectors of texts, which share lines, and a line of features for each text."""
    arguments = flags.parser().parse_args(["-model_dir", str(folder), *given])
    plan, tokenizer = assets.read(arguments)
    rows = [RowMaker(plan, tokenizer)(text) for text in texts]
    mask = arguments.mask_cls_sep
    return ServedModel(plan)(features(rows, mask)), alone([features([row], mask) for row in rows])


def alone(batches):
    """Batches of one row -> one batch, [B, F] and [B]."""
    longest = max(batch["length"].item() for batch in batches)

    def padded(x):
        return np.pad(x, [(0, 0), (0, longest - x.shape[1])]) if x.ndim == 2 else x

    return {name: np.concatenate([padded(batch[name]) for batch in batches]) for name in batches[0]}


def by_hand(strategy, states, batch):
    """One vector a text, row by row in NumPy; without pooling those of its tokens."""
    pooled = []
    for tokens, mask, length in zip(states, batch["input_mask"], batch["length"], strict=True):
        real = tokens[mask.astype(bool)]
        mean, most = real.mean(0), real.max(0)
        pooled.append(
            {
                "REDUCE_MEAN": mean,
                "REDUCE_MAX": most,
                "REDUCE_MEAN_MAX": np.concatenate([mean, most]),
                "FIRST_TOKEN": tokens[0],
                "CLS_TOKEN": tokens[0],
                "LAST_TOKEN": tokens[length - 1],
                "SEP_TOKEN": tokens[length - 1],
                "NONE": (tokens * mask[:, np.newaxis])[:length],
            }[strategy]
        )
    return pooled


def encoded(made, batch):
    fed = {name: batch[name] for name in ("input_ids", "input_mask", "segment_ids")}
    return made(fed, training=False)


BY_HAND = [name for name in flags.PoolingStrategy.__members__ if name not in OF_HEADS]


@pytest.mark.parametrize("layers", [(-2,), (-1, 0, 1)])
@pytest.mark.parametrize("strategy", BY_HAND)
@pytest.mark.parametrize("more", [(), ("-mask_cls_sep",), ("-xla",)])
def test_strategies(model, strategy, layers, more):
    folder, made = model
    given = ["-pooling_strategy", strategy, "-pooling_layer", *map(str, layers), *more]
    vectors, batch = answers(folder, *given)
    outputs = encoded(made, batch)["encoder_outputs"]
    states = np.concatenate([outputs[layer] for layer in layers], -1)
    for found, expected in zip(vectors, by_hand(strategy, states, batch), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("unit", ["we ", "学", "x" * 300 + " ", " \n", "Σας ", "é", "a b" * 3])
def test_long_texts_are_cut_before_they_are_tokenized(model, unit):
    """The pieces of a row are the same as of the whole text."""
    folder, _ = model
    plan, tokenizer = assets.read(flags.parser().parse_args(["-model_dir", str(folder)]))
    maker = RowMaker(plan, tokenizer)
    long = "It was " + unit * (100_000 // len(unit)) + " it"
    for text in ((long, None), (long, "he saw it"), ("he saw it", long), (long, long)):
        whole = pack(
            *(tokenizer.encode(part or "") for part in text),
            cls_id=tokenizer.cls_token_id,
            sep_id=tokenizer.sep_token_id,
            max_seq_length=plan.max_length,
        )
        assert maker(text).input_ids.tolist() == whole[0]


def test_without_position_embeddings(model):
    """A token's vectors do not depend on its place: those of a text are all alike."""
    given = ["-pooling_strategy=NONE", "-no_position_embeddings", "-no_special_token"]
    same = [["it"] * 6]
    vectors, _ = answers(model[0], *given, texts=same)
    np.testing.assert_allclose(vectors[0], vectors[0][:1].repeat(6, axis=0), atol=1e-5)
    vectors, _ = answers(model[0], *given[::2], texts=same)
    assert abs(vectors[0][0] - vectors[0][1]).max() > 0.1


def test_the_pooler(model):
    vectors, batch = answers(model[0], "-pooling_strategy=CLS_POOLED")
    pooled = encoded(model[1], batch)["pooled_output"]
    np.testing.assert_allclose(vectors, pooled, atol=1e-5)


def test_compiled_and_in_half_precision(model):
    exact, _ = answers(model[0])
    compiled, _ = answers(model[0], "-xla")
    np.testing.assert_allclose(compiled, exact, atol=1e-5)
    half, _ = answers(model[0], "-fp16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, exact, atol=0.1)


@pytest.mark.parametrize("strategy", ["REDUCE_MEAN", "NONE"])
def test_lines_longer_than_any_row_and_than_the_positions(model, strategy):
    """Compiled or not, a line is as long as it comes."""
    longest = model[1].config.max_position_embeddings
    words = ["it was bad " * n for n in (longest, longest // 4, 1, 2, 3, 1, 4, longest // 5)]
    texts, given = [(text, None) for text in words], ["-max_seq_len=NONE", "-pooling_strategy"]
    found = [answers(model[0], *given, strategy, *xla, texts=texts)[0] for xla in ((), ("-xla",))]
    for plain, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(plain, compiled, atol=1e-5)
    alone = [answers(model[0], *given, strategy, texts=[text])[0][0] for text in texts]
    for together, by_itself in zip(found[0], alone, strict=True):
        np.testing.assert_allclose(together, by_itself, atol=1e-5)


def test_tokens_without_special_ones(model):
    tokens = ["we", "liked", "this", "film"]
    _, whole = answers(model[0], texts=[tokens])
    _, bare = answers(model[0], "-no_special_token", texts=[tokens])
    assert bare["input_ids"].tolist() == whole["input_ids"][:, 1:-1].tolist()


@pytest.mark.parametrize(("strategy", "outputs"), [("CLASSIFICATION", 3), ("REGRESSION", 1)])
def test_heads(model, tmp_path, strategy, outputs):
    made = heads.classifier(model[1].config, outputs)
    save(made, tmp_path)
    found, batch = answers(tmp_path, f"-pooling_strategy={strategy}")
    logits = encoded(made, batch)["logits"].numpy()
    if strategy == "CLASSIFICATION":
        logits = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, logits, atol=1e-5)
