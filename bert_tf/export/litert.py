"""The features model for LiteRT (TensorFlow Lite), with matrices in int8."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import tensorflow as tf

from bert_tf.export.precision import Answer
from bert_tf.export.servable import Model

MODEL_FILE = "model.tflite"


def check_installed() -> None:
    """Raises ValueError if LiteRT, without which nothing can be measured, is not there."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ValueError(
            "--export_precision=int8 needs the package ai-edge-litert; pip install bert_tf[litert]"
        )


def convert(model: Model) -> bytes:
    """The model's features signature, for any number of rows of any length, without strings."""
    signature = model.signatures["features"]

    @tf.function(autograph=False, input_signature=signature.input_signature)
    def numbers(*features):
        answers = signature(*features)
        return {name: x for name, x in answers.items() if x.dtype != tf.string}

    concrete = numbers.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model.module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]  # of the weights alone: no data is given
    return converter.convert()


def runner(content: bytes) -> Answer:
    """The converted model as a function, on all cores."""
    from ai_edge_litert.interpreter import Interpreter

    threads = len(os.sched_getaffinity(0))
    interpreter: Any = Interpreter(model_content=content, num_threads=threads)
    run = interpreter.get_signature_runner()

    return lambda features: run(**features)
