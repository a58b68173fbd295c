"""What a load run says: summary, table, picture, file."""
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit.load import metrics
from labkit.load.health import Health
from labkit.load.record import Record

SCHEMA = 1
PERCENTILES = (50, 95, 99)
METRICS = ("ttft", "ttft_scheduled", "tpot", "gap", "e2e")


@dataclass(slots=True)
class LoadResult:
    """The records of one run and where they come from.

    `configuration` holds what was asked for (arrivals, prompts, limits), `server` what is known of the other side (url, name, badge,
    model), `trace_hash` identifies prompts and arrival times: the same hash means the same questions at the same times.
    `reason` is "complete", "stopped" (by the user) or "timeout" (of the whole run).
    """

    records: list[Record]
    requests: int
    server: dict[str, Any]
    configuration: dict[str, Any]
    seed: int
    trace_hash: str
    client: Health
    origin: int = 0  # perf_counter_ns at the schedule's zero
    reason: str = "complete"
    started: str = ""  # wall clock, ISO 8601 with offset
    hardware: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    objectives: dict[str, float] = field(default_factory=dict)  # milliseconds, see metrics.is_good

    @property
    def failures(self) -> dict[str, int]:
        """How many requests failed, by cause."""
        return dict(Counter(record.error.cause for record in self.records if record.error))

    def values(self, metric: str) -> list[float]:
        """Every value of "ttft", "ttft_scheduled", "tpot", "gap" or "e2e", in milliseconds."""
        return metrics.values(self.records, metric)

    def percentile(self, metric: str, p: float) -> metrics.Percentile:
        return metrics.percentile(self.values(metric), p)

    @property
    def seconds(self) -> float:
        return metrics.window(self.records)

    @property
    def output_tokens(self) -> int:
        return sum(record.tokens for record in self.records)

    @property
    def throughput(self) -> float:
        """Output tokens per second of the window, those of failed requests included: the server made them."""
        return self.output_tokens / self.seconds if self.seconds else 0.0

    def goodput(self, objectives: Mapping[str, float] | None = None) -> float:
        """Requests per second that met all `objectives` (milliseconds; default: the run's own)."""
        return metrics.goodput(self.records, self.objectives if objectives is None else objectives)

    def summary(self) -> dict[str, Any]:
        """Plain numbers. Latencies in milliseconds; a percentile that n does not support is None."""
        ok = sum(record.ok for record in self.records)
        summary: dict[str, Any] = {
            "requests": self.requests, "sent": sum(record.t_send > 0 for record in self.records), "ok": ok,
            "failed": self.failures, "reason": self.reason, "seconds": self.seconds, "output_tokens": self.output_tokens,
            "throughput_tokens_per_s": self.throughput, "requests_per_s": ok / self.seconds if self.seconds else 0.0,
            "gap_is": metrics.gap_name(self.records),
        }
        for metric in METRICS:
            samples = self.values(metric)
            row: dict[str, Any] = {"n": len(samples), "mean": sum(samples) / len(samples) if samples else None}
            for p in PERCENTILES:
                found = metrics.percentile(samples, p)
                row[f"p{p}"] = found.value
                if metric != "gap":  # pooled gaps are not independent samples
                    row[f"p{p}_bounds"] = None if found.value is None else [found.low, found.high]
            summary[f"{metric}_ms"] = row
        if self.objectives:
            summary |= {"objectives_ms": self.objectives, "goodput_requests_per_s": self.goodput()}
        return summary | {"client": asdict(self.client) | {"limited": self.client.client_limited}}

    def table(self):
        """The summary as a table, for a notebook or a terminal."""
        from labkit.load.table import table

        return table(self)

    def plot(self):
        """The run as a matplotlib Figure: throughput, TTFT and TPOT over time, every request a dot, and their distributions."""
        from labkit.load.plot import plot

        return plot(self)

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from: server, configuration, seed, trace hash, time, hardware, versions."""
        names = ("server", "configuration", "seed", "trace_hash", "started", "hardware", "versions")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA, "summary": self.summary(), **self.provenance(), "requests": self.requests, "origin": self.origin,
            "reason": self.reason, "objectives": self.objectives, "client": asdict(self.client),
            "records": [record.to_dict() for record in self.records],
        }

    def to_json(self) -> str:
        """One JSON object with everything: summary, provenance and every record."""
        return json.dumps(self.to_dict(), separators=(",", ":"), allow_nan=False)

    def save(self, path: str | Path) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json() + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> LoadResult:
        """The result that `save` wrote. Raises ValueError for anything else."""
        try:
            values = json.loads(Path(path).read_text())
            if values.pop("schema") != SCHEMA:
                raise ValueError(f"{path} is of another schema than {SCHEMA}: read it with the labkit that wrote it")
            values.pop("summary")
            values["records"] = [Record.from_dict(record) for record in values["records"]]
            values["client"] = Health(**values["client"] | {"reasons": tuple(values["client"]["reasons"])})
            return cls(**values)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a saved load result: {error}") from error
