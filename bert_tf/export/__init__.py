"""SavedModels of a fine-tuned model, in TF Serving's layout.

    export_dir/text/<version>/       raw strings in; assets/ holds the vocabulary. Needs TF.Text's
                                     ops, which TF Serving has.
    export_dir/features/<version>/   Google's features in; stock TensorFlow only.

Both compute in float32, without dropout, whatever precision the model was trained in, and hold
README.md, the model's card, and assets.extra/tf_serving_warmup_requests. A task is exported by a
`servable.Servable`; `python -m bert_tf.export` does it from a checkpoint. Imports of TensorFlow
wait until `export_model` is called.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert_tf.export.servable import Servable

__all__ = ["ExportError", "export_model"]


class ExportError(RuntimeError):
    """A SavedModel that was written does not answer as Python does."""


def export_model(
    servable: Servable, export_dir: str, samples: Iterable[Any] = (), run_dir: str | None = None
) -> str:
    """Writes both SavedModels under the next free version; returns the text one's folder.

    `samples` of the user's own data join a few tricky ones of the task's. All of them go through
    what was written, read back from disk, and must give the ids and, to 1e-5, the answers that
    Python gives; so must the warm-up requests. Only then do the folders get their names, the text
    one last. Renaming is atomic on local file systems, so a killed export leaves at most an
    `unfinished-*` folder, which may be deleted; elsewhere saved_model.pb comes last.

    Args:
      servable: the model, for instance a `classification.Classifier`. Call this outside of any
        tf.distribute strategy's scope.
      export_dir: local or remote.
      samples: as the servable takes them.
      run_dir: where run.json and metrics.json of the training lie, for the card.

    Raises:
      ExportError: naming the first difference; nothing stays behind.
      OSError: export_dir cannot be written; nothing stays behind.
    """
    from bert_tf.export import publication

    return publication.export_model(servable, export_dir, samples, run_dir)
