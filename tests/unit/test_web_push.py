"""Messages to browsers: what the push service gets, and what the browser reads of it."""

import json
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from governance.notify.web_push import WebPush
from infra.errors import ConfigurationError
from infra.texts import both, say

AUTH = b"sixteen bytes ok"


def text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


@dataclass
class Service:
    """A push service: keeps what it is sent and answers with ``status``."""

    status: int = 201
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    host: str = ""


@pytest.fixture
def service() -> Iterator[Service]:
    kept = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(kept.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    kept.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()


@pytest.fixture
def browser() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: ec.EllipticCurvePrivateKey) -> str:
    return text(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def test_the_browser_alone_reads_the_message_and_the_service_knows_who_sends(
    service: Service, browser: ec.EllipticCurvePrivateKey
) -> None:
    push = WebPush(b"a secret of the site", "https://river.example", (service.host,))
    way = push.channel(f"http://{service.host}/send/abc?x=1", public(browser), text(AUTH))
    words = "【红】奇槎涌环湖段氨氮8.40 https://river.example/a/xyz"
    assert push.send(way, "河长办（示例）", words).ok
    ((headers, body),) = service.got
    assert "氨氮".encode() not in body
    read = json.loads(http_ece.decrypt(body, private_key=browser, auth_secret=AUTH, version="aes128gcm"))
    assert read == {"title": "河长办（示例）", "body": words}
    given, _, key = headers["Authorization"].removeprefix("vapid t=").partition(", k=")
    assert key == push.public_key
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), urlsafe_b64decode(key + "="))
    proved = jwt.decode(given, ECKey.import_key(point.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)))
    assert proved.claims["aud"] == f"http://{service.host}"
    assert proved.claims["sub"] == "https://river.example"


def test_all_processes_of_a_site_have_one_key_and_two_sites_have_two() -> None:
    assert WebPush(b"one", "https://a").public_key == WebPush(b"one", "https://a").public_key
    assert WebPush(b"one", "https://a").public_key != WebPush(b"two", "https://a").public_key


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_ended_says_who_has_to_act(
    service: Service, browser: ec.EllipticCurvePrivateKey, status: int
) -> None:
    service.status = status
    push = WebPush(b"s", "https://a", (service.host,))
    outcome = push.send(push.channel(f"http://{service.host}/x", public(browser), text(AUTH)), "t", "b")
    assert not outcome.ok
    assert outcome.error == both(say("notice.push_gone"))


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://127.0.0.1/internal",
        "http://fcm.googleapis.com/fcm/send/x",
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilpush.apple.com.example/x",
        "https://user@10.0.0.1/x",
        "file:///etc/passwd",
        "",
    ],
)
def test_an_address_that_is_no_push_service_is_refused(browser: ec.EllipticCurvePrivateKey, endpoint: str) -> None:
    with pytest.raises(ConfigurationError):
        WebPush(b"s", "https://a").channel(endpoint, public(browser), text(AUTH))


@pytest.mark.parametrize(("key", "auth"), [("AAAA", text(AUTH)), ("", ""), ("BBBB", "short"), ("%", "%")])
def test_a_subscription_without_usable_keys_is_refused(key: str, auth: str) -> None:
    with pytest.raises(ConfigurationError):
        WebPush(b"s", "https://a").channel("https://web.push.apple.com/x", key, auth)


def test_what_was_kept_of_a_service_that_is_no_longer_allowed_is_not_called(
    service: Service, browser: ec.EllipticCurvePrivateKey
) -> None:
    allowed = WebPush(b"s", "https://a", (service.host,))
    way = allowed.channel(f"http://{service.host}/x", public(browser), text(AUTH))
    outcome = WebPush(b"s", "https://a").send(way, "t", "b")
    assert outcome.error == both(say("notice.no_push_service", host=service.host))
