"""What the external platform receives, and how it can believe it."""

import json
from dataclasses import replace

import pytest

from governance.incidents.cloudevents import MalformedEvent, SignatureInvalid, build, parse, sign, verify
from governance.incidents.finding import Colour
from governance.incidents.from_findings import apply_finding
from governance.incidents.lifecycle import apply_action
from governance.incidents.model import Action, Order
from infra.errors import ConfigurationError
from infra.texts import Text
from tests.cases import OPERATOR, a_finding
from tests.says import says

AT = 1_778_580_000_000  # 2026-05-12T10:00:00Z
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

FINDING = a_finding(
    AT,
    since_ms=AT - 600_000,
    rule="do-low",
    version="2",
    cause="qicha/do",
    station="qicha",
    parameter="do",
    value=1.2,
    colour=Colour.ORANGE,
    text=Text("奇槎涌溶解氧1.2", "Qicha: oxygen 1.2"),
    message="qicha/3/1842",
)


def opened():
    step = apply_finding(None, FINDING, AT + 500)
    assert step is not None
    return replace(step[0], id=7), step[1]


def test_the_event_says_where_what_how_urgent_and_why():
    incident, effects = opened()
    event = build(incident, effects, source="/riverchief/chancheng", finding=FINDING)
    assert json.loads(event.body) == {
        "specversion": "1.0",
        "id": event.id,
        "source": "/riverchief/chancheng",
        "type": "river.incident.opened",
        "subject": "incidents/7",
        "time": "2026-05-12T10:00:00.500Z",
        "datacontenttype": "application/json",
        "data": {
            "incident": 7,
            "seq": 1,
            "what": "fired",
            "state": "reported",
            "colour": "orange",
            "notify": "page",
            "retrospective": False,
            "cause": "qicha/do",
            "kind": "threshold",
            "station": "qicha",
            "parameter": "do",
            "value": 1.2,
            "limit": 2.0,
            "observed_at": "2026-05-12T10:00:00Z",
            "since": "2026-05-12T09:50:00Z",
            "opened_at": "2026-05-12T10:00:00.500Z",
            "recovered_at": None,
            "closed_at": None,
            "accepted_at": None,
            "source": "rule",
            "matter": "",
            "region": "",
            "reach": "",
            "responsible": "",
            "department": None,
            "joint": [],
            "due_at": "2026-05-12T10:30:00.500Z",
            "escalated_to": "",
            "supervised": False,
            "emergency": "",
            "merged_into": None,
            "rule": {"id": "do-low", "version": "2"},
            "message": "qicha/3/1842",
            "title": {"zh": "奇槎涌溶解氧1.2", "en": "Qicha: oxygen 1.2"},
            "headline": None,
            "text": {"zh": "奇槎涌溶解氧1.2", "en": "Qicha: oxygen 1.2"},
            "by": "do-low",
            "role": "",
            "comment": None,
            "attachments": [],
            "measurement": {},
            "details": {"version": "2", "kind": "threshold", "station": "qicha", "parameter": "do"},
        },
    }


def test_an_event_built_twice_has_the_same_id_and_the_next_change_another():
    incident, effects = opened()
    first = build(incident, effects, source="/riverchief", finding=FINDING)
    assert build(incident, effects, source="/riverchief", finding=FINDING) == first
    later, change = apply_action(incident, Order(Action.ACCEPT), OPERATOR, AT + 500)
    assert build(later, change, source="/riverchief").id != first.id
    assert "." not in build(later, change, source="https://river.example.cn/a").id


def test_what_a_person_did_is_told_with_name_comment_and_the_incidents_headline():
    incident, _ = opened()
    closed, effects = apply_action(
        incident, Order(Action.FALSE_ALARM, comment="探头离水", reason="sensor_fault"), OPERATOR, AT + 9_000
    )
    event = json.loads(build(closed, effects, source="/riverchief").body)
    assert event["type"] == "river.incident.closed"
    assert {k: event["data"][k] for k in ("by", "comment", "state", "closed_at", "value", "rule", "what")} == {
        "by": OPERATOR.name,
        "comment": "探头离水",
        "state": "false_alarm",
        "closed_at": "2026-05-12T10:00:09Z",
        "value": 1.2,
        "rule": {"id": "do-low", "version": "2"},
        "what": "false_alarm",
    }


def test_a_value_that_is_no_number_is_told_as_none():
    incident, effects = opened()
    event = build(incident, effects, source="/riverchief", finding=replace(FINDING, value=float("nan")))
    assert json.loads(event.body)["data"]["value"] is None


def test_signing_gives_the_published_example_of_standard_webhooks():
    headers = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secret", [SECRET, "a plain secret", "密钥"])
def test_what_was_signed_is_believed_whatever_the_case_of_the_header_names(secret: str):
    body = b"{}"
    headers = sign(secret, "e-1", 1000, body)
    verify(secret, headers, body, 1000)
    verify(secret, {name.title(): value for name, value in headers.items()}, body, 1300)
    verify(secret, headers, body, 700)


def test_while_a_secret_is_changed_one_of_two_signatures_is_enough():
    old, new = sign("old", "e-1", 1000, b"{}"), sign("new", "e-1", 1000, b"{}")
    both = new | {"webhook-signature": f"{old['webhook-signature']} v2,abc {new['webhook-signature']}"}
    verify("new", both, b"{}", 1000)
    verify("old", both, b"{}", 1000)
    with pytest.raises(SignatureInvalid):
        verify("third", both, b"{}", 1000)


@pytest.mark.parametrize(
    ("change", "body", "now_s", "secret"),
    [
        pytest.param({}, b'{"a":2}', 1000, "s", id="tampered body"),
        pytest.param({}, b'{"a":1}', 1301, "s", id="too old"),
        pytest.param({}, b'{"a":1}', 699, "s", id="from the future"),
        pytest.param({}, b'{"a":1}', 1000, "another", id="wrong secret"),
        pytest.param({"webhook-id": "e-2"}, b'{"a":1}', 1000, "s", id="another id"),
        pytest.param({"webhook-timestamp": "1001"}, b'{"a":1}', 1000, "s", id="another time"),
        pytest.param({"webhook-timestamp": "soon"}, b'{"a":1}', 1000, "s", id="no time"),
        pytest.param({"webhook-timestamp": "9" * 5000}, b'{"a":1}', 1000, "s", id="endless time"),
        pytest.param({"webhook-signature": ""}, b'{"a":1}', 1000, "s", id="no signature"),
        pytest.param({"webhook-signature": "v1,é"}, b'{"a":1}', 1000, "s", id="garbled signature"),
    ],
)
def test_what_was_not_signed_like_this_and_just_now_is_not_believed(change, body: bytes, now_s: int, secret: str):
    headers = sign("s", "e-1", 1000, b'{"a":1}') | change
    with pytest.raises(SignatureInvalid) as refusal:
        verify(secret, headers, body, now_s)
    assert "another" not in str(refusal.value)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_named(missing: str):
    headers = {k: v for k, v in sign("s", "e-1", 1000, b"{}").items() if k != missing}
    with pytest.raises(SignatureInvalid, match=says("platform.header_missing", name=missing)):
        verify("s", headers, b"{}", 1000)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!"])
def test_a_secret_that_cannot_protect_is_refused_and_not_repeated_in_the_message(secret: str):
    with pytest.raises(ConfigurationError) as refusal:
        sign(secret, "e-1", 1000, b"{}")
    assert "not base64!" not in str(refusal.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"specversion":"1.0","id":"1","source":"/a"}',
        b'{"specversion":"1.0","id":"","source":"/a","type":"t"}',
        b'{"specversion":"1.0","id":5,"source":"/a","type":"t"}',
        b'{"specversion":"0.3","id":"1","source":"/a","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":NaN}',
        b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":"\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_cloudevent_is_refused(body: bytes):
    with pytest.raises(MalformedEvent):
        parse(body)


def test_an_event_of_ours_is_a_cloudevent():
    incident, effects = opened()
    event = build(incident, effects, source="/riverchief", finding=FINDING)
    assert parse(event.body.encode())["id"] == event.id
