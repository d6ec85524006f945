"""Settings of TF Serving for an export, written beside it as protocol buffers in text form."""

from __future__ import annotations

import os

from bert_tf import filesystem

# TF Serving's --batching_parameters_file (session_bundle_config.proto, BatchingParameters).
BATCHING = """\
# Requests that arrive within the timeout are computed together. Rows of other lengths are padded
# with zeros, which the input_mask marks as padding.
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
# Beyond, requests are refused (UNAVAILABLE) instead of piling up.
max_enqueued_batches { value: 100 }
# As many as there are cores.
num_batch_threads { value: 4 }
pad_variable_length_inputs: true
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
  config { name: "features" base_path: "/models/bert/features" model_platform: "tensorflow" }
}
"""

FILES = {
    "batching_parameters.txt": BATCHING,
    "monitoring_config.txt": MONITORING,
    "models.config": MODELS,
}


def write(export_dir: str) -> None:
    """Writes what is not there yet; what somebody has changed stays."""
    for name, text in FILES.items():
        path = os.path.join(export_dir, name)
        if not filesystem.is_file(path):
            filesystem.write_bytes(path, text.encode())
