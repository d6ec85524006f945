"""What a server counts: in bert-as-service's words, for Prometheus, and for its status page."""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections import OrderedDict, deque
from typing import Any

import numpy as np
import prometheus_client as prometheus

_ACTIVE_SECONDS = 180.0
_RECENT = 1000  # requests, batches or seconds that averages are over
_MAX_CLIENTS = 10_000  # that are told apart; the one that was silent longest is forgotten
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Statistics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.started = time.time()
        self.registry = prometheus.CollectorRegistry()
        named: Any = {"registry": self.registry, "namespace": "bert_serving"}
        self._requests = prometheus.Counter("requests", "Requests, by kind.", ["kind"], **named)
        self._answers = prometheus.Counter("answers", "Answers, by outcome.", ["outcome"], **named)
        self._texts = prometheus.Counter("texts", "Texts of requests, be they refused.", **named)
        self._truncated = prometheus.Counter(
            "truncated_texts", "Texts that were cut to -max_seq_len.", **named
        )
        self._latency = prometheus.Histogram(
            "request_seconds", "From a request to its answer.", buckets=_SECONDS, **named
        )
        self._batch = prometheus.Histogram(
            "batch_rows", "Texts computed together.", buckets=_ROWS, **named
        )
        self._compute = prometheus.Histogram(
            "batch_seconds", "From a batch to its vectors.", buckets=_SECONDS, **named
        )
        self._waiting = prometheus.Gauge("waiting_texts", "Texts that wait.", **named)
        self._ready = prometheus.Gauge("ready_workers", "Workers that compute.", **named)
        self._restarts = prometheus.Gauge(
            "worker_restarts", "Workers that had to start again.", **named
        )
        self._clients: OrderedDict[bytes, tuple[int, float]] = OrderedDict()  # requests, last seen
        self._totals: Counts[str] = Counts()
        self._sizes: deque[int] = deque(maxlen=_RECENT)
        self._arrivals: deque[float] = deque(maxlen=_RECENT)
        self._latencies: deque[float] = deque(maxlen=_RECENT)
        self._batches: deque[int] = deque(maxlen=_RECENT)

    def request(self, identity: bytes, kind: str, texts: int = 0) -> None:
        """A request came: `kind` is "data", "system" or "malformed"."""
        self._requests.labels(kind).inc()
        self._totals[kind] += 1
        if kind == "malformed":
            return
        now = time.monotonic()
        count, _ = self._clients.pop(identity, (0, 0.0))
        self._clients[identity] = (count + 1, now)
        if len(self._clients) > _MAX_CLIENTS:
            self._clients.popitem(last=False)
        if kind == "data":
            self._arrivals.append(now)
            self._sizes.append(texts)
            self._texts.inc(texts)
            self._totals["texts"] += texts

    def answered(self, outcome: str, seconds: float | None = None, truncated: int = 0) -> None:
        """`outcome` is "vectors" or the kind of a refusal, `truncated` counts texts."""
        self._answers.labels(outcome).inc()
        self._totals[outcome] += 1
        self._truncated.inc(truncated)
        self._totals["truncated"] += truncated
        if seconds is not None:
            self._latency.observe(seconds)
            self._latencies.append(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        self._batch.observe(rows)
        self._compute.observe(seconds)
        self._batches.append(rows)

    def state(self, waiting: int, ready: int, restarts: int) -> None:
        """How things are now, before a report."""
        self._waiting.set(waiting)
        self._ready.set(ready)
        self._restarts.set(restarts)

    def metrics(self) -> str:
        """Prometheus's text format."""
        return prometheus.generate_latest(self.registry).decode()

    def recent(self) -> dict[str, Any]:
        """Of the last requests and batches: latencies in milliseconds, rows, requests a second."""
        latencies, rate = 1000 * np.array(self._latencies or [0.0]), self._per_second()
        return {
            "latency_p50_ms": round(float(np.percentile(latencies, 50)), 2),
            "latency_p99_ms": round(float(np.percentile(latencies, 99)), 2),
            "batch_rows": round(float(np.mean(self._batches or [0])), 1),
            "batch_sizes": self._batch_sizes(),
            "requests_per_second": round(rate[-1] if rate else 0.0, 1),
            "truncated_texts": self._totals["truncated"],
            "answers": {k: self._totals[k] for k in ("vectors", "busy", "bad_request", "failed")},
        }

    def _batch_sizes(self) -> dict[str, int]:
        """How many of the last batches had up to so many rows, and more than the number before."""
        places = np.searchsorted(_ROWS, list(self._batches))
        counts = np.bincount(places, minlength=len(_ROWS) + 1).tolist()
        return dict(zip([*map(str, _ROWS), "more"], counts, strict=True))

    def original(self) -> dict[str, Any]:
        """`statistic` of bert-as-service's status."""
        now = time.monotonic()
        active = sum(now - seen < _ACTIVE_SECONDS for _, seen in self._clients.values())
        data, system = self._totals["data"], self._totals["system"]
        counts = [count for count, _ in self._clients.values()]
        return {
            "num_data_request": data,
            "num_total_seq": self._totals["texts"],
            "num_sys_request": system,
            "num_total_request": data + system,
            "num_total_client": len(self._clients),
            "num_active_client": active,
            **_summary("request_per_client", counts),
            **_summary("size_per_request", list(self._sizes)),
            **_summary("last_two_interval", np.diff(list(self._arrivals)).tolist()),
            **_summary("request_per_second", self._per_second()),
        }

    def _per_second(self) -> list[float]:
        """Requests in each of the last whole seconds, as far as the last arrivals reach."""
        if not self._arrivals:
            return []
        age = np.floor(time.monotonic() - np.array(self._arrivals)).astype(int)
        return np.bincount(age[age < 60])[::-1].astype(float).tolist()


def _summary(name: str, values: list[Any]) -> dict[str, Any]:
    if not values:
        return {}
    least, most = min(values), max(values)
    return {
        f"avg_{name}": float(np.mean(values)),
        f"min_{name}": least,
        f"max_{name}": most,
        f"num_min_{name}": values.count(least),
        f"num_max_{name}": values.count(most),
    }
