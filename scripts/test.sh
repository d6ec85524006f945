#!/usr/bin/env bash
# The whole default test suite from a fresh clone: lint, types, tests. Arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup "[test]"

echo "== ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== mypy (the modules without TensorFlow)"
.venv/bin/mypy
echo "== pytest"
.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
