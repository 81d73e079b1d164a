"""The stand-in of InfluxDB 2.7 answers as the real one did, and ``setup influx`` works with it from empty."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import httpx

from tests.influx2 import TOKEN, Influx2

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "influxdb-2.7-exchanges.jsonl").read_text("utf-8").splitlines()
]
RECORDED_NS = 1_796_136_640_198_187_012
"""When the calls were recorded."""
CUT = 4000
"""So many characters of an answer were recorded at most."""
HEADERS = ("content-type", "x-influxdb-build", "x-influxdb-version", "x-platform-error-code")
"""The headers that speak; the others are of the transport."""

_ID = r"<[a-z]+-(?:id|token)>|\b[0-9a-f]{16}\b"
_TIME = r"\b\d{4}-\d\d-\d\dT[\d:]+(?:\.\d{4,})?Z"
"""A time of the server's clock: whole seconds or more than milliseconds. The data's own times have milliseconds."""


class Names:
    """Ids and tokens that a server makes: the recorded name of each stands for one of the stand-in's, and for no other.

    Times of the server's clock need only be times.
    """

    def __init__(self) -> None:
        self._ours = {"<operator-token>": TOKEN}

    def filled(self, text: str) -> str:
        """A recorded request with the names of the stand-in."""
        return re.sub(_ID, lambda found: self._ours[found[0]], text)

    def agree(self, recorded: str, ours: str) -> bool:
        """Whether an answer is the recorded one; learns new names."""
        names = re.findall(_ID, recorded)
        form = "".join(
            r"([\w=-]+)" if re.fullmatch(_ID, part) else _TIME if re.fullmatch(_TIME, part) else re.escape(part)
            for part in re.split(f"({_ID}|{_TIME})", recorded)
        )
        found = (re.match if len(recorded) == CUT else re.fullmatch)(form, ours)
        if found is None:
            return False
        learned = [self._ours.setdefault(name, made) for name, made in zip(names, found.groups(), strict=True)]
        return learned == list(found.groups()) and len(set(self._ours.values())) == len(self._ours)


def test_the_stand_in_answers_every_recorded_call_as_the_real_server_did() -> None:
    names = Names()
    with Influx2(buckets=("telegraf", "water"), clock_ns=lambda: RECORDED_NS) as fake:
        for exchange in RECORDED:
            request, recorded = exchange["request"], exchange["response"]
            answer = httpx.request(
                request["method"],
                fake.url + names.filled(request["path"]),
                content=_body(exchange, names),
                headers=_headers(exchange, names),
                trust_env=False,
            )
            assert answer.status_code == recorded["status"], exchange["note"]
            headers = {name: answer.headers.get(name) for name in HEADERS}
            assert headers == {name: recorded["headers"].get(name) for name in HEADERS}, exchange["note"]
            assert names.agree(recorded["body"], answer.text), (exchange["note"], recorded["body"], answer.text)


def _headers(exchange: dict[str, Any], names: Names) -> dict[str, str]:
    token = exchange["request"]["token"]
    headers = {} if token == "none" else {"Authorization": f"Token {names.filled(token)}"}
    if exchange["response"]["headers"].get("content-type") == "application/csv":
        headers["Accept"] = "application/csv"  # which the recording leaves out
    if exchange["note"] == "write gzip":
        headers["Content-Encoding"] = "gzip"
    return headers


def _body(exchange: dict[str, Any], names: Names) -> bytes:
    if exchange["note"] == "write gzip":  # the recording is text and lost the bytes; the query after it shows the point
        return gzip.compress(b"water,station=c ph=7.3 1796136639982")
    return names.filled(exchange["request"]["body"] or "").encode()
