"""Traces reach a real OTLP receiver: batches with their stages, deliveries, requests; and cost nothing while off."""

import gzip
import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from infra.clock import now_ms
from infra.errors import ConfigurationError
from infra.times import rfc3339
from ingest.pipeline import Outcome
from riverchief.brokers.local import free_port
from riverchief.otel import Tracing
from sensors.reading import Message
from sensors.stations import Station
from tests.rig import Running, eventually
from tests.says import says


class Receiver:
    """A collector: takes OTLP over HTTP and keeps the spans it was sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    receiver.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
                    for scope in group.scope_spans:
                        receiver.spans += scope.spans
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def attributes(of: Any) -> dict[str, Any]:
    """What stands beside a span or an event."""
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in of.attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def outcome(**seconds: float) -> Outcome:
    none = np.zeros(1, np.int64)
    return Outcome(1, none, none, (), 0, (), 0, seconds)


def test_a_batch_is_a_span_with_its_stages_end_to_end(receiver: Receiver) -> None:
    tracing = Tracing(receiver.url, 1.0)
    tracing.batch([Message("s1", b"", 0)], outcome(decode=0.25, store=0.5))
    tracing.stop()
    (batch,), (decode,), (store,) = (receiver.named(name) for name in ("batch", "decode", "store"))
    assert attributes(batch)["riverchief.messages"] == 1
    assert decode.parent_span_id == store.parent_span_id == batch.span_id
    assert decode.trace_id == store.trace_id == batch.trace_id
    assert decode.start_time_unix_nano == batch.start_time_unix_nano
    assert store.start_time_unix_nano == decode.end_time_unix_nano
    assert store.end_time_unix_nano - store.start_time_unix_nano == 500_000_000
    assert receiver.resources[0]["service.name"] == "riverchief"


def test_only_the_share_that_was_asked_for_is_sent(receiver: Receiver) -> None:
    none, some = Tracing(receiver.url, 0.0), Tracing(receiver.url, 0.2)
    for _ in range(1000):
        none.batch([], outcome(store=0.001))
    none.stop()
    assert receiver.spans == []
    for _ in range(1000):
        some.batch([], outcome(store=0.001))
    some.stop()
    assert 100 < len(receiver.named("batch")) < 300
    assert len(receiver.named("store")) == len(receiver.named("batch"))


@pytest.mark.parametrize("url", ["", "collector:4318", "grpc://collector:4317"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=says("settings.otlp")):
        Tracing(url, 1.0)


def test_without_the_packages_the_setting_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=says("settings.otlp_packages")):
        Tracing("http://127.0.0.1:4318", 1.0)


def test_while_the_setting_is_empty_nothing_of_it_is_loaded() -> None:
    code = "import sys, riverchief.serve, api.app; print('opentelemetry.sdk.trace' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.broker
def test_a_site_tells_batches_requests_and_deliveries_with_the_message_that_raised_them(
    running: Callable[[str], Running], receiver: Receiver, tmp_path: Path
) -> None:
    site = running("mosquitto")
    port, platform = free_port(), free_port()
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[threshold]]\nid = "ph-acid"\nparameter = "ph"\nside = "below"\nlimit = 6.0\nclear = 6.2\nsamples = 2\n'
        'keep_firing_s = 600\ncolour = "red"\n'
    )
    site.more = (
        f"[api]\nport = {port}\n[site]\nrules = '{rules}'\n[watch]\notlp_url = '{receiver.url}'\ntrace_share = 1.0\n"
        f"[outbox]\nurl = 'http://127.0.0.1:{platform}/'\nsecret = 'x'\n"
    )
    site.register(Station("s1", "站一", "station one", 113.1, 23.0))
    site.start("serve")
    address = f"http://127.0.0.1:{port}"
    eventually("it is there", lambda: _answers(f"{address}/healthz"))
    for seq in range(2):
        at = rfc3339(now_ms() - 60_000 + 30_000 * seq)
        body = {"station": "s1", "seq": seq, "boot": 3, "readings": [{"at": at, "values": {"ph": 5.0}}]}
        httpx.post(f"{address}/api/v1/readings", json=body, timeout=60).raise_for_status()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    httpx.get(f"{address}/api/v1/stations/s1/latest", headers=headers, timeout=60).raise_for_status()
    eventually("the delivery was tried", lambda: receiver.named("deliver"))
    eventually("the request was told", lambda: receiver.named("GET /api/v1/stations/{key}/latest"))
    asked = receiver.named("GET /api/v1/stations/{key}/latest")[0]
    assert asked.trace_id.hex() == trace, "it goes on the trace the client began"
    assert attributes(asked)["http.response.status_code"] == 200
    delivery = receiver.named("deliver")[0]
    assert attributes(delivery)["riverchief.message_id"] == "s1/3/1"
    assert delivery.status.code == Status.StatusCode.STATUS_CODE_ERROR, "nobody listened there"
    raised = eventually("the batch", lambda: [e for span in receiver.named("batch") for e in span.events])
    assert attributes(raised[0])["riverchief.message_id"] == "s1/3/1"
    assert attributes(raised[0])["riverchief.incident_id"] == attributes(delivery)["riverchief.incident_id"]


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.broker
def test_a_receiver_that_is_away_holds_nobody_up(running: Callable[[str], Running]) -> None:
    site = running("mosquitto")
    port = free_port()
    site.more = f"[api]\nport = {port}\n[watch]\notlp_url = 'http://127.0.0.1:{free_port()}'\ntrace_share = 1.0\n"
    site.register(Station("s1", "站一", "station one", 113.1, 23.0))
    site.start("serve")
    address = f"http://127.0.0.1:{port}"
    eventually("it is there", lambda: _answers(f"{address}/healthz"))
    body = {"station": "s1", "readings": [{"at": rfc3339(now_ms()), "values": {"ph": 7.0}}]}
    assert httpx.post(f"{address}/api/v1/readings", json=body, timeout=60).json()["stored"] == 1
    assert site.stop() == 0
