"""`report.html`: a run on one page that needs no network.

`render(RunReport(...))` gives the page. `events.read_scalars(output_dir)` reads the curves; it
alone imports TensorFlow. matplotlib and jinja2 are imported when a page is made.
"""

from bert_tf.reporting.page import render
from bert_tf.reporting.run import RunReport

__all__ = ["RunReport", "render"]
