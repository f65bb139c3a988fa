"""Settings as data: a name, a default and one line of help. Only :mod:`trimtab.app` reads the environment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; the environment variable is ``TRIMTAB_`` and the name in capitals."""

    name: str
    default: str
    help: str


SETTINGS: tuple[Setting, ...] = (
    Setting("home", "", "Directory that holds everything durable of a project; else `.trimtab/` beside its file."),
    Setting("host", "127.0.0.1", "Address that the servers bind to; loopback unless you say otherwise."),
    Setting("port", "8080", "Port of the data plane (predictions)."),
    Setting("grpc_port", "off", "Port of the Open Inference Protocol over gRPC; `off` serves none."),
    Setting("console_port", "8000", "Port of the console and the API (events, status, decisions)."),
    Setting("workers", "1", "Serving workers that share the data-plane port."),
    Setting("max_body", "1048576", "Largest request body in bytes; a larger one is answered with 413."),
    Setting("max_batch_rows", "10000", "Most events or requests in one body."),
    Setting(
        "max_queue",
        "1024",
        "Most requests that wait in one worker; more are answered with 429, a model's share by how many are asked.",
    ),
    Setting("deadline_ms", "10000", "How long a caller waits who sends no X-Trimtab-Deadline-Ms; 0: for ever."),
    Setting(
        "server",
        "httptools",
        "What carries HTTP in the workers: `httptools`, our own small server, or `uvicorn`, the maintained one.",
    ),
    Setting("access_log", "", "File for a line of JSON per request; empty for none."),
    Setting("access_log_share", "1", "Share of requests that the access log takes; server errors are always taken."),
    Setting("trace_share", "0", "Share of requests that are traced over OpenTelemetry; 0 traces nothing."),
    Setting(
        "providers", "cpu", "What models run on, best first, of tensorrt, cuda and cpu; what is absent is skipped."
    ),
    Setting(
        "memory_budget",
        "0",
        "Memory for models in a worker, as in 2GB; the least recently asked make room. 0: no limit.",
    ),
    Setting("model_python", "", "Python of models in child processes, unless a version names one; by default ours."),
    Setting(
        "cache_bytes",
        "0",
        "Memory for a cache of predictions in each worker, as in 64MB; 0 keeps none (docs/cache.md).",
    ),
    Setting("cache_ttl", "60s", "How long a prediction in the cache is good for."),
    Setting(
        "precomputed", "on", "Whether workers look for answers computed ahead (`trimtab batch --precompute`), or `off`."
    ),
    Setting(
        "records",
        "sync",
        "When predictions are recorded: `sync` before the answer leaves, `sync+fsync` on disk by then, `batched:5ms`.",
    ),
    Setting(
        "records_when_full",
        "refuse",
        "When records cannot be written: `refuse` answers with 503, `drop` answers and counts what is lost.",
    ),
    Setting("records_segment", "64MB", "Size at which a file of records is followed by a new one, so that it can go."),
    Setting("records_spools", "delete", "Files of records that are whole in Parquet: `delete` or `keep` them."),
    Setting(
        "records_keep", "forever", "How long prediction records are kept in Parquet: `forever`, or days as in `90d`."
    ),
    Setting("quarantine_rows", "100000", "Most bad rows kept in a source's quarantine report."),
    Setting("job_time", "3600", "Seconds after which a training job is ended."),
)
