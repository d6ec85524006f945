"""From a servable to two folders under a version: written, verified, described, then named."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from bert_tf import checkpoints, filesystem
from bert_tf.checkpoints.files import remove_tree
from bert_tf.export import (
    ExportError,
    card,
    litert,
    precision,
    requests,
    serving_config,
    verify,
)
from bert_tf.export.servable import Case, Model, Servable

TEXT_DIR, FEATURES_DIR, INT8_DIR = "text", "features", "int8"


def export_int8(
    servable: Servable, export_dir: str, run_dir: str | None, dev_set: precision.DevSet
) -> str:
    """As `bert_tf.export.export_model` says of "int8"."""
    litert.check_installed()
    exact = servable.features_model()
    content = litert.convert(exact)
    megabytes = precision.weight_megabytes(exact), len(content) / 1e6
    measured = precision.measure("int8", exact, litert.runner(content), dev_set, megabytes)
    with _unfinished(export_dir) as folder:
        path = os.path.join(folder, INT8_DIR)
        checkpoints.save_description(path, servable.config, **servable.tokenizer.settings)
        filesystem.write_bytes(os.path.join(path, litert.MODEL_FILE), content)
        _write_card(servable, path, [], run_dir, measured)
        return _publish(folder, export_dir, [INT8_DIR])


def export_bfloat16(
    servable: Servable,
    export_dir: str,
    samples: Iterable[Any],
    run_dir: str | None,
    dev_set: precision.DevSet,
) -> str:
    """As `bert_tf.export.export_model` says of "bfloat16"."""
    half = servable.in_bfloat16()
    models = [one.features_model() for one in (servable, half)]
    megabytes = [precision.weight_megabytes(model) for model in models]
    other = precision.signature(models[1])
    measured = precision.measure("bfloat16", models[0], other, dev_set, megabytes)
    return export_saved_models(half, export_dir, samples, run_dir, measured)


def export_saved_models(
    servable: Servable,
    export_dir: str,
    samples: Iterable[Any],
    run_dir: str | None,
    measured: card.Measured | None = None,
) -> str:
    """As `bert_tf.export.export_model` says; `measured` is of another precision than float32."""
    batches = servable.answers([*samples, *servable.tricky_samples()])
    (example,) = servable.answers([servable.example])
    features = servable.features_model()
    models = {
        FEATURES_DIR: (features, servable.features_cases),
        TEXT_DIR: (servable.text_model(features), servable.text_cases),
    }
    if not requests.can_write_warmup():
        print(
            "tensorflow-serving-api is not installed (pip install bert_tf[serving]), so no "
            "warm-up requests are written",
            flush=True,
        )
    needed = len(models) * int(precision.weight_megabytes(features) * 1e6)
    filesystem.check_space({export_dir: needed}, "or give an --export_dir on another disk")
    with _unfinished(export_dir) as folder:
        signatures = []
        for kind, (model, make_cases) in models.items():
            path = os.path.join(folder, kind)
            warmup = [case for case in make_cases(example) if case.function in model.signatures]
            _save(model, path)
            if requests.can_write_warmup():
                requests.write_warmup(path, warmup)
            cases = (case for batch in batches for case in make_cases(batch))
            loaded = verify.check(
                servable, path, cases, warmup if requests.can_write_warmup() else None
            )
            signatures = [_described(kind, loaded, case) for case in warmup] + signatures
        for kind in models:
            _write_card(servable, os.path.join(folder, kind), signatures, run_dir, measured)
        with serving_config.written(export_dir):
            return _publish(folder, export_dir, list(models))


@contextlib.contextmanager
def _unfinished(export_dir: str) -> Iterator[str]:
    """The folder to write into; what still is there at the end goes."""
    folder = os.path.join(export_dir, f"unfinished-{uuid.uuid4().hex[:8]}")
    filesystem.make_dir(folder)
    try:
        yield folder
    except ExportError as error:
        raise ExportError(f"nothing was exported to {export_dir}: {error}") from error
    finally:
        # ram:// lists a file ".extra" in assets/, because of the folder assets.extra/ beside it,
        # and does not find it: what is not found is gone.
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.rmtree(folder)


def _save(model: Model, folder: str) -> None:
    with filesystem.os_errors(folder):
        tf.saved_model.save(model.module, folder, signatures=model.signatures)
        # TensorFlow 2 calls every signature's method Predict.
        updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(folder)
        for name in requests.METHODS.keys() & model.signatures.keys():
            updater.replace_method_name(name, requests.METHODS[name])
        # Removed first: some remote file systems (ram://) append to a file that is there.
        tf.io.gfile.remove(os.path.join(folder, "saved_model.pb"))
        updater.save()


def _described(kind: str, loaded: Any, case: Case) -> card.Signature:
    """A signature as it is on disk, with the case as its example."""
    signature = loaded.signatures[case.function]
    return card.Signature(
        model=kind,
        name=case.function,
        method=case.function if case.function in requests.METHODS else "predict",
        inputs=_types(signature.structured_input_signature[1]),
        outputs=_types(signature.structured_outputs),
        request=json.dumps(requests.rest_body(case), ensure_ascii=False),
    )


def _types(specs: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"{spec.dtype.name} [{', '.join('?' if n is None else str(n) for n in spec.shape)}]"
        for name, spec in specs.items()
    }


def _write_card(
    servable: Servable,
    folder: str,
    signatures: list[card.Signature],
    run_dir: str | None,
    measured: card.Measured | None,
) -> None:
    model = card.Card(
        task_type=servable.task_type,
        use=servable.use,
        labels=servable.labels,
        max_seq_length=servable.max_seq_length,
        reads_whole_texts=servable.reads_whole_texts,
        config=servable.config.to_dict(),
        do_lower_case=servable.tokenizer.do_lower_case,
        signatures=signatures,
        run=card.read_run(run_dir),
        measured=measured,
    )
    filesystem.write_bytes(os.path.join(folder, card.CARD_FILE), card.text(model).encode())


def _publish(folder: str, export_dir: str, kinds: list[str]) -> str:
    """All get the next free version; the last, which announces it, is returned."""
    homes = [os.path.join(export_dir, kind) for kind in kinds]
    for home in homes:
        filesystem.make_dir(home)
    taken = [name for home in homes for name in filesystem.list_dir(home)]
    version = str(max((int(name) for name in taken if name.isdecimal()), default=0) + 1)
    targets = [os.path.join(home, version) for home in homes]
    for number, (kind, target) in enumerate(zip(kinds, targets, strict=True)):
        try:
            _move(os.path.join(folder, kind), target)
        except BaseException:
            for moved in targets[:number]:
                tf.io.gfile.rmtree(moved)
            raise
    return targets[-1]


def _move(source: str, target: str) -> None:
    """Renames a folder. Object stores have none to rename: there, file by file."""
    with filesystem.os_errors(target):
        if not filesystem.is_remote(source):
            tf.io.gfile.rename(source, target)
            return
        paths = [os.path.join(top, x) for top, _, files in tf.io.gfile.walk(source) for x in files]
        paths = [path for path in paths if filesystem.is_file(path)]  # see `_unfinished`
        try:
            for path in sorted(paths, key=lambda path: path.endswith("/saved_model.pb")):
                moved = target + path.removeprefix(source)
                tf.io.gfile.makedirs(os.path.dirname(moved))
                tf.io.gfile.rename(path, moved)
        except BaseException:
            remove_tree(target)
            raise
