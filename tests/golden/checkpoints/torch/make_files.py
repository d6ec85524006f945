"""Writes this folder's files with PyTorch 2.13.0 and safetensors 0.8.0: `python make_files.py`.

A one-layer BERT with pre-training heads under the old gamma/beta names. The k-th tensor counts
100k, 100k + 1, ...; dtypes, strides and sharing are as varied as in files one meets.
"""

import torch
from safetensors.torch import save_file

H, WIDE, V, P, T = 4, 8, 6, 5, 2
DENSE = {
    "attention.self.query": (H, H),
    "attention.self.key": (H, H),
    "attention.self.value": (H, H),
    "attention.output.dense": (H, H),
    "intermediate.dense": (WIDE, H),
    "output.dense": (H, WIDE),
}


def shapes():
    yield "bert.embeddings.word_embeddings.weight", (V, H)
    yield "bert.embeddings.position_embeddings.weight", (P, H)
    yield "bert.embeddings.token_type_embeddings.weight", (T, H)
    for name in ("gamma", "beta"):
        yield f"bert.embeddings.LayerNorm.{name}", (H,)
    for name, shape in DENSE.items():
        yield f"bert.encoder.layer.0.{name}.weight", shape
        yield f"bert.encoder.layer.0.{name}.bias", shape[:1]
    for scope in ("attention.output", "output"):
        for name in ("gamma", "beta"):
            yield f"bert.encoder.layer.0.{scope}.LayerNorm.{name}", (H,)
    yield "bert.pooler.dense.weight", (H, H)
    yield "bert.pooler.dense.bias", (H,)
    yield "cls.predictions.bias", (V,)
    yield "cls.predictions.transform.dense.weight", (H, H)
    yield "cls.predictions.transform.dense.bias", (H,)
    for name in ("gamma", "beta"):
        yield f"cls.predictions.transform.LayerNorm.{name}", (H,)
    yield "cls.seq_relationship.weight", (2, H)


def main():
    state = {}
    for k, (name, shape) in enumerate(shapes()):
        state[name] = torch.arange(torch.Size(shape).numel()).reshape(shape).float() + 100 * k
    query = "bert.encoder.layer.0.attention.self.query.weight"
    state[query] = state[query].t().contiguous().t()  # strides (1, 4)
    biases = [f"bert.encoder.layer.0.attention.self.{name}.bias" for name in ("key", "value")]
    state.update(zip(biases, torch.stack([state[name] for name in biases]), strict=True))
    state["bert.embeddings.position_ids"] = torch.arange(P).expand((1, -1))
    state["bert.pooler.dense.bias"] = state["bert.pooler.dense.bias"].half()
    state["cls.seq_relationship.bias"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    weight = state["cls.seq_relationship.weight"].double()
    state["cls.seq_relationship.weight"] = torch.nn.Parameter(weight)
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    module = torch.nn.Module()  # its state_dict() is an OrderedDict with _metadata
    ordered = module.state_dict()
    ordered.update(state)
    torch.save(ordered, "zip.bin")
    torch.save(ordered, "legacy.bin", _use_new_zipfile_serialization=False)
    copies = {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}
    save_file(copies, "model.safetensors", metadata={"format": "pt"})


main()
