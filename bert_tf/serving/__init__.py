"""A server for bert-as-service's clients, and clients of it. Without TensorFlow.

`bert-serving-start -model_dir ...` is the server; `BertClient`, `ConcurrentBertClient` and
`AsyncBertClient` are the clients.
"""

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
