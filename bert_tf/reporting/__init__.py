"""`report.html`: a run on one page that needs no network.

`render(RunReport(...))` gives the page. `Predictions(...).sections()` says what is to say of
classes and numbers, and `parts` builds any other section. `events.read_scalars(output_dir)` reads
the curves; it alone imports TensorFlow. matplotlib and jinja2 are imported when a page is made.
"""

from bert_tf.reporting.page import RunReport, render
from bert_tf.reporting.predictions import Predictions

__all__ = ["Predictions", "RunReport", "render"]
