"""The gate of outgoing connections: a private address is reached only where it is allowed, whatever connects."""

import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from governance.notify import channels
from governance.notify.contacts import Channel
from infra import outgoing
from infra.outgoing import AddressRefused, Policy

PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "ff02::1"),
)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, list[object]]]:
    """A server on loopback, and who connected; nothing is allowed."""
    monkeypatch.setattr(outgoing, "_policy", Policy())
    came: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, where = server.accept()
                came.append(where)
                connection.sendall(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield server, came
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_no_private_address_is_allowed_in_whatever_form_it_is_written() -> None:
    policy = Policy()
    assert [address for address in PRIVATE if policy.allows(address, 443)] == []
    assert [name for name in ("", "river.example", "localhost", "0x7f000001") if policy.allows(name, 443)] == []
    assert policy.allows("93.184.215.14", 443)
    assert policy.allows("2606:2800:21f:cb07:6820:80da:af6b:8b2c", 443)


def test_what_the_settings_name_is_allowed_with_its_port_and_networks_with_all(
    listener: tuple[socket.socket, list[object]],
) -> None:
    outgoing.allow(
        ["10.20.0.0/16"], [outgoing.endpoint_of("http://localhost:8080/x"), outgoing.endpoint_of("https://[fd00::7]/")]
    )
    policy = outgoing._policy
    reached = (("127.0.0.1", 8080), ("::1", 8080), ("fd00::7", 443), ("10.20.3.4", 1))
    assert all(policy.allows(*where) for where in reached)
    assert not any(policy.allows(*where) for where in (("127.0.0.1", 5432), ("fd00::7", 80), ("10.21.0.1", 1)))


def test_a_name_that_leads_to_a_private_address_is_refused_by_every_library_that_connects(
    listener: tuple[socket.socket, list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after DNS rebinding: the name was good when it was entered."""
    server, came = listener
    port = server.getsockname()[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with outgoing.guarded() as passage:
        with pytest.raises(httpx.ConnectError):
            httpx.post(f"http://rebound.example:{port}/")
        with pytest.raises(AddressRefused):
            smtplib.SMTP("rebound.example", port)
    assert passage.refused == "127.0.0.1"
    for kind in ("json", "mailto"):
        outcome = channels.send(
            Channel(f"{kind}://a:b@rebound.example:{port}/?from=a@b.example&to=c@d.example"), "x", "x"
        )
        assert (outcome.ok, "127.0.0.1" in (outcome.error or "")) == (False, True), kind
    assert came == []
    outgoing.allow(named=[("127.0.0.1", port)])
    with outgoing.guarded():
        assert httpx.get(f"http://good.example:{port}/").status_code == 204
    assert len(came) == 1


def test_what_a_receiver_says_of_its_address_is_kept_without_its_secrets() -> None:
    url = "https://user:hunter22@hooks.example/services/T0-s%2Fecret?key=abc%20def12&v=1"
    said = f"no route {url}: Cannot POST /services/T0-s%2Fecret, T0-s/ecret, key abc def12, login hunter22, v=1"
    kept = outgoing.without_secrets(said, url)
    assert "hooks.example" in kept
    assert "Cannot POST" in kept
    assert [one for one in ("s%2Fecret", "s/ecret", "abc def12", "abc%20def12", "hunter22") if one in kept] == []
    assert outgoing.without_secrets("HTTP 404 not found", "https://a.example/x/") == "HTTP 404 not found"
