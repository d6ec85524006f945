"""What several test files share."""

import gzip
from pathlib import Path

import pytest
from hypothesis import settings

# Machines are shared: how long an example takes says nothing.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

VOCABS = Path(__file__).parent / "golden" / "vocabs"


@pytest.fixture(scope="session")
def released_vocab(tmp_path_factory):
    """Name of a released model (`bert-base-uncased`, ...) -> the path of its vocabulary."""
    folder = tmp_path_factory.mktemp("vocabs")

    def unpacked(name: str) -> Path:
        path = folder / name / "vocab.txt"
        if not path.exists():
            path.parent.mkdir()
            path.write_bytes(gzip.decompress((VOCABS / f"{name}-vocab.txt.gz").read_bytes()))
        return path

    return unpacked


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A tiny classifier, and the export_dir that it was exported to."""
    import exporting

    from bert_tf.export import export_model
    from bert_tf.export.classification import Classifier

    folder = tmp_path_factory.mktemp("exported")
    servable = Classifier(**exporting.arguments(folder))
    export_model(servable, str(folder / "export"), exporting.SAMPLES)
    return servable, folder / "export"
