"""Settings of TF Serving for an export, written beside it as protocol buffers in text form."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from bert_tf import filesystem

# TF Serving's --batching_parameters_file (session_bundle_config.proto, BatchingParameters).
BATCHING = """\
# Requests that arrive within the timeout are computed together.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
# Beyond, requests are refused (UNAVAILABLE) instead of piling up.
max_enqueued_batches { value: 100 }
# As many as there are cores.
num_batch_threads { value: 4 }
# TF Serving pads with a row's first number, which would be words to a model: never pad_variable_
# length_inputs. Who asks for the signature `features` pads all requests to one length.
pad_variable_length_inputs: false
"""

# --monitoring_config_file (monitoring_config.proto, MonitoringConfig).
MONITORING = """\
prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }
"""

# --model_config_file (model_server_config.proto, ModelServerConfig), the export being mounted at
# /models/bert. A new version is served, and the one before it ended, as soon as it is there.
MODELS = """\
model_config_list {
  config { name: "text" base_path: "/models/bert/text" model_platform: "tensorflow" }
  # Only for clients that pad all requests to one length, or without --enable_batching.
  # config { name: "features" base_path: "/models/bert/features" model_platform: "tensorflow" }
}
"""

FILES = {
    "batching_parameters.txt": BATCHING,
    "monitoring_config.txt": MONITORING,
    "models.config": MODELS,
}


@contextlib.contextmanager
def written(export_dir: str) -> Iterator[None]:
    """Writes what is not there yet; what somebody has changed stays.

    If what is done then fails, what was written goes again.
    """
    paths = {os.path.join(export_dir, name): text for name, text in FILES.items()}
    new = [path for path in paths if not filesystem.is_file(path)]
    try:
        for path in new:
            filesystem.write_bytes(path, paths[path].encode())
        yield
    except BaseException:
        for path in filter(filesystem.is_file, new):
            filesystem.remove(path)
        raise
