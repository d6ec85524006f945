"""A `RunReport` as one HTML page: figures are drawn here, the template lays all out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

from bert_tf.reporting import figures
from bert_tf.reporting.parts import Figure, Section, Text, named_values, number

_FIRST_CURVES = ("loss", "learning_rate")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunReport:
    """One run, of any program.

    Attributes:
      title: the heading, for example `mnli: 1,000 development examples`.
      score: the name and the value of the deciding metric, if the run was evaluated.
      warnings: what makes the score doubtful, a sentence each.
      details: what is said of the predictions.
      metrics: the content of metrics.json; groups may nest.
      curves: name -> step -> value, as `events.read_scalars` gives them; none without training.
      flags, versions, fingerprints: name -> value, as run.json has them.
    """

    title: str
    score: tuple[str, float] | None = None
    warnings: Sequence[str] = ()
    details: Sequence[Section] = ()
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Mapping[int, float]] = dataclasses.field(default_factory=dict)
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fingerprints: Mapping[str, str] = dataclasses.field(default_factory=dict)


def render(report: RunReport) -> str:
    """The page: UTF-8 HTML without a script or an address; the same bytes for the same report."""
    import jinja2

    source = resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals["number"] = number
    environment.globals["is_text"] = lambda cell: isinstance(cell, Text)
    page = environment.from_string(source).render(report=report, sections=_sections(report))
    # Half of a surrogate pair, which JSON can hold, is no character: it stands as its escape.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _sections(report: RunReport) -> Iterator[Section]:
    if any(report.curves.values()):
        yield _curves(report.curves)
    yield from report.details
    yield from named_values("Metrics", "Every number of the run", dict(_flat(report.metrics)))
    yield from named_values("Flags", "What the run was told", report.flags)
    yield from named_values("Versions", "Packages that made the run", report.versions)
    yield from named_values("Data", "SHA-256 of what was read", report.fingerprints)


def _curves(curves: Mapping[str, Mapping[int, float]]) -> Section:
    names = sorted(name for name, values in curves.items() if values)
    first = [name for name in _FIRST_CURVES if name in names]
    drawn = []
    for name in dict.fromkeys(first + names):
        steps, values = list(curves[name]), list(map(number, curves[name].values()))
        lowest, highest = (number(f(curves[name].values())) for f in (min, max))
        words = (
            f"{name}: {values[0]} at step {steps[0]}, {values[-1]} at step {steps[-1]}; "
            f"lowest {lowest}, highest {highest}"
        )
        if len(steps) > figures.CURVE_POINTS:
            words += ". The line is the mean of neighbouring steps, the band their range"
        drawn.append(Figure(figures.curve(curves[name]), words, words))
    return Section("Curves", figures=drawn)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"eval": {"loss": 1}}` -> `("eval.loss", 1)`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
