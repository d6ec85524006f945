#!/usr/bin/env bash
# Whether XLA for TPUs takes the training step of every head: on any Linux machine, without a TPU.
# TensorFlow for TPUs goes into an environment of its own; newer libtpu ends the import there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ ! -x .venv-tpu/bin/python ]; then
  "${PYTHON:-python3}" -m venv .venv-tpu
  .venv-tpu/bin/pip install --quiet "tensorflow-tpu==2.20.0" "libtpu==0.0.17" "keras>=3.15,<3.16" \
    scipy
fi
exec .venv-tpu/bin/python scripts/lower_to_tpu.py
