"""BERT for TensorFlow and Keras; importing this imports neither.

Keras finds a saved model's layers by names that are registered. As soon as both this and Keras are
imported, in any order, each of our names is registered with a stand-in, which imports the layer
when a model that has it is loaded. So `import bert_tf` is all that `keras.saving.load_model` needs.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# The name of each layer, or optimizer, that Keras may save -> its module.
_REGISTERED = {
    "BertModel": "modeling",
    "CRF": "crf",
    "Dropout": "dropout",
    "KerasOptimizer": "keras_optimizer",
    "Logits": "heads",
    "Pretraining": "heads",
    "Schedule": "keras_optimizer",
    "SpanHead": "heads",
    "TaskModel": "heads",
}


class _StandIn:
    """A class that is not imported yet."""

    def __init__(self, name: str):
        self._name = name

    def from_config(self, config: dict[str, Any], **options: Any) -> Any:
        """Import the class, which registers itself in this one's place, and make its object."""
        module = importlib.import_module(f"bert_tf.{_REGISTERED[self._name]}")
        return getattr(module, self._name).from_config(config, **options)


def _register(keras: ModuleType) -> None:
    known = keras.saving.get_custom_objects()
    for name in _REGISTERED:
        known.setdefault(f"bert_tf>{name}", _StandIn(name))


class _UntilKeras:
    """A finder in `sys.meta_path`; registers when Keras has been imported."""

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register
        return spec


if hasattr(_keras := sys.modules.get("keras"), "saving"):
    _register(_keras)
else:
    sys.meta_path.insert(0, _UntilKeras())
