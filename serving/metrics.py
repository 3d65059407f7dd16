"""``GET /metrics`` for Prometheus, and a line of JSON in the log for each request.

Neither has a prompt, a text, a title or the id of a document in it: a log is kept for longer than a removal may take.
A request is logged by its route, ``/v1/documents/<path:id>``, and by its key's id, when its answer was sent whole.
"""

import json
import logging
import time
from collections import Counter as Tally
from collections.abc import Iterable
from contextlib import suppress

from flask import Blueprint, Flask, Response, g, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.access import current_key
from serving.engine import Engine
from serving.errors import NoDatastore
from silo.attribution import GeneratedToken

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

logger = logging.getLogger("serving.requests")


class Metrics:
    """What is counted while requests are answered."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        same = {"registry": self.registry}
        self._tokens = Counter("silo_tokens", "Tokens that were read and made.", ["kind"], **same)
        self._share = Counter("silo_datastore_mass", "Sum of the datastore's shares of tokens that were made.", **same)
        self._first = Histogram("silo_first_token_seconds", "From request to first token.", buckets=_SECONDS, **same)
        self._seconds = Histogram(
            "silo_request_seconds", "From request to the end of its answer.", ["route"], buckets=_SECONDS, **same
        )
        self._answers = Counter("silo_answers", "Answers by route and status.", ["route", "status"], **same)
        self.registry.register(_State(engine))

    def read(self, n_tokens: int) -> None:
        """Tokens of a prompt."""
        self._tokens.labels("prompt").inc(n_tokens)

    def made(self, token: GeneratedToken) -> None:
        """A token of a completion."""
        self._tokens.labels("completion").inc()
        self._share.inc(min(1.0, max(0.0, 1 - float(token.parametric_mass))))

    def first_token(self, seconds: float) -> None:
        """How long it took."""
        self._first.observe(seconds)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._answers.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)


class _State(Collector):
    """What is looked at when somebody asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """The state now."""
        makers = self._engine.makers
        yield GaugeMetricFamily(
            "silo_requests", "Requests for completions that are answered or wait.", makers.n_requests
        )
        is_ready = makers.trouble is None
        yield GaugeMetricFamily("silo_engine_ready", "Whether completions can be made.", int(is_ready))
        yield GaugeMetricFamily("silo_completions_waiting", "Completions that wait to be begun.", makers.n_waiting)
        with suppress(NoDatastore, AttributeError, OSError):
            yield GaugeMetricFamily("silo_datastore_epoch", "Version of the datastore.", self._engine.epoch or 0)
            states = GaugeMetricFamily("silo_opt_outs", "Opt-out requests by state.", labels=["state"])
            for state, n in self._opt_outs().items():
                states.add_metric([state], n)
            yield states

    def _opt_outs(self) -> "Tally[str]":
        from datastore.request_states import State
        from datastore.requests import requests

        return Tally(dict.fromkeys(map(str, State), 0)) + Tally(
            str(one.state) for one in requests(self._engine.whole_store())
        )


def blueprint(metrics: Metrics) -> Blueprint:
    """The endpoint."""
    routes = Blueprint("metrics", __name__)

    @routes.get("/metrics")
    def show() -> Response:
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    return routes


def register(app: Flask, metrics: Metrics) -> None:
    """Count and log each request to ``app``."""

    @app.before_request
    def begin() -> None:
        g.began, g.metrics = time.monotonic(), metrics

    @app.after_request
    def end(response: Response) -> Response:
        began, key = g.get("began", time.monotonic()), current_key()
        route = request.url_rule.rule if request.url_rule is not None else "none"
        facts = {"method": request.method, "route": route, "key": key.id if key else None}
        n_bytes = request.content_length

        @response.call_on_close
        def log() -> None:
            seconds = time.monotonic() - began
            metrics.answered(route, response.status_code, seconds)
            logger.info(
                json.dumps(facts | {"status": response.status_code, "bytes": n_bytes, "seconds": round(seconds, 4)})
            )

        return response


def current_metrics() -> Metrics | None:
    """Those of the current request."""
    metrics: Metrics | None = g.get("metrics")
    return metrics
