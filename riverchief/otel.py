"""OpenTelemetry traces (OTLP over HTTP): spans of batches and their stages, of deliveries, of requests.

Nothing of it is loaded while ``watch.otlp_url`` is empty. Spans are made afterwards, from figures that are measured
anyway, so that a batch that is not sampled costs the drawing of a random number. The receiver being away costs spans,
never readings: they wait in a bounded queue of another thread and are dropped when it is full.
"""

import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from governance.notify.outbox import Attempt, Status
from infra.errors import ConfigurationError
from infra.texts import say
from ingest.pipeline import Outcome
from sensors.reading import Message as Arrived

if TYPE_CHECKING:
    from opentelemetry.trace import Span

TIMEOUT_S = 5.0
MS, S = 1_000_000, 1_000_000_000


class Tracing:
    """Makes and sends spans. ``batch`` is made to watch the intake, ``delivery`` the deliverer.

    Parameters
    ----------
    url : str
        The receiver, without ``/v1/traces``; ConfigurationError if it is none, or the packages are not installed.
    share : float
        Of batches, deliveries and requests that come without a decision of their own; 0 to 1.
    """

    def __init__(self, url: str, share: float) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        except ImportError:
            raise ConfigurationError(say("settings.otlp_packages")) from None
        address = _address(url)
        resource = Resource.create({"service.name": "riverchief", "service.version": version("riverchief")})
        self._provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(share)))
        exporter = OTLPSpanExporter(endpoint=f"{address}/v1/traces", timeout=TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._trace = trace
        self._tracer = self._provider.get_tracer("riverchief")

    def stop(self) -> None:
        """Send waiting spans and stop; gives up after a few seconds."""
        self._provider.shutdown()

    def batch(self, messages: Sequence[Arrived], outcome: Outcome) -> None:
        """A batch was stored and acknowledged just now: its stages, laid end to end, and the incidents it raised."""
        ended = time.time_ns()
        at = ended - round(sum(outcome.seconds.values()) * S)
        span = self._tracer.start_span("batch", start_time=at)
        if span.is_recording():
            span.set_attributes(
                {
                    "riverchief.messages": len(messages),
                    "riverchief.stored": int(outcome.stored.sum()),
                    "riverchief.duplicate": int(outcome.duplicate.sum()),
                    "riverchief.quarantined": len(outcome.rejected),
                }
            )
            inside = self._trace.set_span_in_context(span)
            for stage, seconds in outcome.seconds.items():
                part = self._tracer.start_span(stage, context=inside, start_time=at)
                at += round(seconds * S)
                part.end(end_time=at)
            for event in outcome.enqueued:
                raised: dict[str, str | int] = {"riverchief.incident_id": event.incident_id}
                raised["riverchief.event_id"] = event.event_id
                if event.finding is not None and event.finding.message is not None:
                    raised["riverchief.message_id"] = event.finding.message
                span.add_event("incident", raised)
        span.end(end_time=ended)

    def delivery(self, attempt: Attempt) -> None:
        """An attempt at a delivery has been settled."""
        span = self._tracer.start_span("deliver", kind=self._trace.SpanKind.CLIENT, start_time=attempt.began_ms * MS)
        if span.is_recording():
            row = attempt.delivery
            span.set_attributes({"riverchief.incident_id": row.incident_id, "riverchief.event_id": row.event_id})
            if message := attempt.data.get("message"):
                span.set_attribute("riverchief.message_id", message)
            if attempt.http_status is not None:
                span.set_attribute("http.response.status_code", attempt.http_status)
            if attempt.status is not Status.DELIVERED:
                self._fail(span)
        span.end(end_time=attempt.ended_ms * MS)

    def requests(self, app: ASGIApp) -> ASGIApp:
        """The application with a span for each request, which goes on a trace the client began (``traceparent``)."""
        from opentelemetry.propagate import extract

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            span = self._tracer.start_span(scope["method"], context=extract(headers), kind=self._trace.SpanKind.SERVER)

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        self._fail(span)
                await send(message)

            try:
                await app(scope, receive, watched if span.is_recording() else send)
            except BaseException:
                self._fail(span)
                raise
            finally:
                if (pattern := _pattern(scope)) is not None:
                    span.update_name(f"{scope['method']} {pattern}")
                    span.set_attributes({"http.request.method": scope["method"], "http.route": pattern})
                span.end()

        return traced

    def _fail(self, span: "Span") -> None:
        span.set_status(self._trace.StatusCode.ERROR)


def _address(url: str) -> str:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    if address.scheme not in {"http", "https"} or not address.host:
        raise ConfigurationError(say("settings.otlp"))
    return url.rstrip("/")


def _pattern(scope: Scope) -> str | None:
    """The path with the names of its variable parts for their values; None where no route of ours answered.

    Names of spans must be few, and a path may hold what is nobody's business.
    """
    if "endpoint" not in scope:
        return None
    segments = str(scope["path"]).removeprefix(scope.get("root_path", "")).split("/")
    for name, value in scope.get("path_params", {}).items():
        places = [i for i, segment in enumerate(segments) if segment == str(value)]
        if places:
            segments[places[-1]] = f"{{{name}}}"
    return "/".join(segments)
