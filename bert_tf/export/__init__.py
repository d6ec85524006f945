"""SavedModels of a fine-tuned model, in TF Serving's layout.

    export_dir/text/<version>/       raw strings in; assets/ holds the vocabulary. Needs TF.Text's
                                     ops, which TF Serving has.
    export_dir/features/<version>/   Google's features in; stock TensorFlow only.

Both compute in float32, unless asked otherwise, and without dropout, whatever precision the model
was trained in, and hold README.md, the model's card, and assets.extra/tf_serving_warmup_requests.
Beside them lie settings for TF Serving (`serving_config`). A task is exported by a
`servable.Servable`; `python -m bert_tf.export` does it from a checkpoint. Imports of TensorFlow
wait until `export_model` is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert_tf.export.precision import DevSet
    from bert_tf.export.servable import Servable

__all__ = ["ExportError", "export_model"]


class ExportError(RuntimeError):
    """A SavedModel that was written does not answer as Python does."""


def export_model(
    servable: Servable,
    export_dir: str,
    samples: Iterable[Any] = (),
    run_dir: str | None = None,
    precision: str = "float32",
    dev_set: Callable[[], DevSet] | None = None,
) -> str:
    """Writes both SavedModels under the next free version; returns the text one's folder.

    `samples` of the user's own data join a few tricky ones of the task's. All of them go through
    what was written, read back from disk, and must give the ids and, to 1e-5, the answers that
    Python gives; so must the warm-up requests. Only then do the folders get their names, the text
    one last. Renaming is atomic on local file systems, so a killed export leaves at most an
    `unfinished-*` folder, which may be deleted; elsewhere saved_model.pb comes last.

    With another precision the model is measured first: what it scores on the development set and
    how long it takes, beside float32. "bfloat16" writes the same folders, and compares with Python
    in bfloat16, as far as that goes; "int8" writes export_dir/int8/<version>/ for LiteRT, and
    returns it. The card has the numbers.

    Args:
      servable: the model, for instance a `classification.Classifier`. Call this outside of any
        tf.distribute strategy's scope.
      export_dir: local or remote.
      samples: as the servable takes them.
      run_dir: where run.json and metrics.json of the training lie, for the card.
      precision: "float32", "bfloat16" or "int8".
      dev_set: makes what other precisions than float32 are measured by.

    Raises:
      ExportError: naming the first difference; nothing stays behind.
      ValueError: the task has no such export, or there is no development set.
      OSError: export_dir cannot be written; nothing stays behind.
    """
    from bert_tf.export import publication

    if precision == "float32":
        return publication.export_saved_models(servable, export_dir, samples, run_dir)
    if dev_set is None:
        raise ValueError(f"an export in {precision} needs a development set to be measured by")
    if precision == "int8":
        return publication.export_int8(servable, export_dir, run_dir, dev_set())
    return publication.export_bfloat16(servable, export_dir, samples, run_dir, dev_set())
