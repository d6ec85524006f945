"""A server for bert-as-service's clients, and clients of it. Without TensorFlow.

`bert-serving-start -model_dir ...` is the server; `BertClient`, `ConcurrentBertClient` and
`AsyncBertClient` are the clients.
"""

try:
    import zmq  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error}; bert_tf.serving needs packages of its own: pip install bert_tf[serving]"
    ) from error

from bert_tf.serving.async_client import AsyncBertClient
from bert_tf.serving.client import BertClient, ConcurrentBertClient
from bert_tf.serving.connection import Response, ServerBusyError, ServingError

__all__ = [
    "AsyncBertClient",
    "BertClient",
    "ConcurrentBertClient",
    "Response",
    "ServerBusyError",
    "ServingError",
]
