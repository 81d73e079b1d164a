"""Mails about a river: only to who said yes, as the sign has it, and ended by one click."""

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from api.app import SUBSCRIBING, create_app
from api.context import Context
from governance.incidents import store as incident_store
from governance.incidents.finding import Colour, ConditionChange
from governance.notify import channels
from governance.notify.channels import Outcome
from governance.notify.contacts import Channel
from governance.reports import subscriptions
from governance.tables import subscription
from infra.errors import ConfigurationError
from infra.times import DAY_MS
from riverchief import messages
from riverchief.services.subscription_mails import SubscriptionMails
from riverchief.settings import NoticesSection
from tests.cases import a_finding
from tests.contract import test_channels
from tests.contract.test_channels import MINUTE, NOW
from tests.contract.test_public_photos import Case, picture
from tests.says import shows

pytestmark = pytest.mark.both_databases
clock, context = test_channels.clock, test_channels.context
BASE, SERVER = "http://testserver", "mailto://user:secret@smtp.example.org?from=river@example.org"
ADDRESS, SIGN = "somebody@example.org", "/r/qichachong"


@dataclass
class Mail:
    """A mail as it was handed to the server."""

    to: str
    title: str
    body: str
    headers: dict[str, str]

    @property
    def link(self) -> str:
        """The path of the link in it by which a subscription is confirmed or ended."""
        found = re.search(rf"{BASE}(/subscription/[\w-]+)", self.body)
        assert found is not None, self.body
        return found[1]


@dataclass
class River:
    """A site with a mail server that keeps what it is given; `post` sends what is due."""

    context: Context
    clock: list[int]
    public: TestClient
    mails: list[Mail] = field(default_factory=list)
    refuses: bool = False

    def __post_init__(self) -> None:
        self.worker = SubscriptionMails(
            self.context.database, self.context.vault, SERVER, BASE, clock_ms=lambda: self.clock[0], send=self._send
        )

    def _send(self, channel: Channel, title: str, body: str) -> Outcome:
        if self.refuses:
            return Outcome(False, "451")
        given = {name: values[0] for name, values in parse_qs(urlsplit(channel.url).query).items()}
        headers = {name.strip(" +"): value for name, value in given.items() if name[0] in " +"}
        self.mails.append(Mail(given["to"], title, body, headers))
        return Outcome(True)

    def post(self, minutes: int = 0) -> list[Mail]:
        """What is sent so many minutes later."""
        self.clock[0] += minutes * MINUTE
        before = len(self.mails)
        while self.worker.round():
            pass
        return self.mails[before:]

    def ask(self, address: str = ADDRESS, **more: str) -> int:
        return int(self.public.post(f"{SIGN}/subscription", data={"address": address} | more).status_code)

    def subscribed(self) -> Mail:
        """Somebody asked and said yes; the mail with the link."""
        assert self.ask() == 200
        (mail,) = self.post()
        assert self.public.post(mail.link, data={"verdict": "confirm"}).status_code == 200
        return mail

    def find(self, change: ConditionChange = ConditionChange.FIRED, colour: Colour = Colour.RED) -> None:
        """The instruments find that the water is not as usual, or as usual again."""
        at = self.clock[0]
        found = a_finding(at, cause="qicha/nh3n", station="qicha", colour=colour, change=change)
        with self.context.database.write() as connection:
            incident_store.record_findings(connection, [found], at, source="/test")

    def kept(self) -> list[sa.RowMapping]:
        with self.context.database.read() as connection:
            return list(connection.execute(sa.select(subscription)).mappings())


@pytest.fixture
def river(context: Context, clock: list[int]) -> River:
    given = replace(context, subscribes=True)
    return River(given, clock, TestClient(create_app(given)))


def test_nothing_but_a_link_is_sent_before_somebody_opens_it_and_says_yes(river: River) -> None:
    assert river.ask() == 200
    river.find()
    (mail,) = river.post()
    assert (mail.to, shows(mail.title, "subscription.mail_link_title")) == (ADDRESS, True)
    assert not mail.headers, "there is nothing to unsubscribe from yet"
    page = river.public.get(mail.link)
    assert (page.status_code, "subscription-confirm" in page.text) == (200, True)
    river.public.head(mail.link)
    assert [row["confirmed_at_ms"] for row in river.kept()] == [None], "opening a link changes nothing"
    assert river.post(60) == []
    assert "subscription-end" in river.public.post(mail.link, data={"verdict": "confirm"}).text
    assert river.public.post(mail.link, data={"verdict": "confirm"}).status_code == 200
    assert river.post(60) == [], "who confirms during a warning knows of it"
    river.find(ConditionChange.RESOLVED)
    (over,) = river.post()
    assert shows(over.title, "subscription.mail_over_title")


def test_a_warning_is_told_when_it_begins_and_when_it_is_over_as_the_sign_has_it(river: River) -> None:
    river.subscribed()
    assert river.post(60) == []
    river.find(colour=Colour.BLUE)
    assert river.post(1) == [], "the sign does not warn of it"
    river.find(colour=Colour.ORANGE)
    (begun,) = river.post()
    assert 'role="alert"' in river.public.get(SIGN).text
    assert shows(begun.title, "subscription.mail_begun_title")
    assert f"{BASE}{SIGN}" in begun.body
    assert river.post(60) == [], "nothing changed"
    river.find(ConditionChange.RESOLVED, Colour.ORANGE)
    assert 'role="alert"' not in river.public.get(SIGN).text
    (over,) = river.post()
    assert shows(over.title, "subscription.mail_over_title")


def test_a_warning_that_comes_and_goes_is_told_once_in_half_an_hour_and_as_it_stands_then(river: River) -> None:
    river.subscribed()
    river.find()
    assert len(river.post()) == 1
    for minute in range(1, 25):
        river.find(ConditionChange.RESOLVED if minute % 2 else ConditionChange.FIRED)
        assert river.post(1) == []
    river.find(ConditionChange.RESOLVED)
    (last,) = river.post(10)
    assert shows(last.title, "subscription.mail_over_title")


def test_one_click_of_a_mail_program_ends_it_and_the_address_is_gone(river: River) -> None:
    river.subscribed()
    river.find()
    (mail,) = river.post()
    assert mail.headers == {
        "List-Unsubscribe": f"<{BASE}{mail.link}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert river.public.get(mail.link).status_code == 200
    assert len(river.kept()) == 1
    for form in ({"data": {"List-Unsubscribe": "One-Click"}}, {"files": {"List-Unsubscribe": (None, "One-Click")}}):
        assert river.public.post(mail.link, **form).status_code == 200, "again is no harm"
    assert river.kept() == []
    river.find(ConditionChange.RESOLVED)
    assert river.post(60) == []
    assert river.public.get(mail.link).status_code == 404


def test_the_button_ends_it_too_and_no_other_site_can_press_it(river: River) -> None:
    mail = river.subscribed()
    elsewhere = {"Origin": "https://elsewhere.example"}
    assert river.public.post(mail.link, data={"verdict": "end"}, headers=elsewhere).status_code == 403
    assert river.public.post(f"{SIGN}/subscription", data={"address": ADDRESS}, headers=elsewhere).status_code == 403
    assert "subscription-ended" in river.public.post(mail.link, data={"verdict": "end"}).text
    assert river.kept() == []


def test_an_address_is_kept_encrypted_and_one_that_nobody_confirmed_is_deleted(river: River) -> None:
    assert river.ask() == 200
    (row,) = river.kept()
    assert row["address"].startswith("enc:")
    assert "somebody" not in str(dict(row))
    river.post(2 * DAY_MS // MINUTE + 1)
    assert river.kept() == []


def test_asking_again_and_again_fills_nobodys_mailbox_and_does_not_tell_who_subscribed(river: River) -> None:
    river.subscribed()
    first = river.public.post(f"{SIGN}/subscription", data={"address": ADDRESS.upper()})
    assert (river.post(), len(river.kept())) == ([], 1)
    other = river.public.post(f"{SIGN}/subscription", data={"address": "other@example.org"})
    assert first.text == other.text
    assert len(river.post()) == 1
    for _ in range(SUBSCRIBING):
        last = river.ask("other@example.org")
    assert (last, river.post()) == (429, [])


def test_one_address_is_sent_few_links_a_day_whoever_asks_and_for_how_many_rivers(river: River) -> None:
    with river.context.database.write() as connection:
        for n in range(subscriptions.MAX_LINKS_PER_ADDRESS):
            subscriptions.request(connection, river.context.vault, f"r{n}", ADDRESS, "zh", NOW)
    assert river.ask() == 429
    assert river.ask("another@example.org") == 200


@pytest.mark.parametrize(
    "address", ["", "nobody", "a b@example.org", "a@example.org,b@example.org", "a@example.org?cc=b@c.org", "<a@b.org>"]
)
def test_what_is_no_address_is_refused_beside_the_field_and_stays_there(river: River, address: str) -> None:
    page = river.public.post(f"{SIGN}/subscription", data={"address": address})
    assert (page.status_code, "subscribe-refused" in page.text) == (409, True)
    assert 'aria-invalid="true"' in page.text
    assert river.kept() == []


def test_a_handled_problem_is_told_once_its_photos_are_released(river: River, context: Context) -> None:
    river.subscribed()
    case = Case(context, river.public, picture(640, 480))
    case.act(case.office, "accept")
    case.handle()
    assert river.post(60) == []
    case.release()
    (mail,) = river.post(1)
    assert shows(mail.title, "subscription.mail_photos_title")
    assert "桥下有垃圾" not in mail.body
    assert river.post(60) == []


def test_a_mail_server_that_is_away_delays_what_stands_and_nothing_else(river: River) -> None:
    river.subscribed()
    river.refuses = True
    river.find()
    assert river.post() == []
    assert river.worker.last_error
    river.find(ConditionChange.RESOLVED)
    river.refuses = False
    assert river.post(120) == [], "the warning is over: nobody is warned of it any more"
    river.find()
    assert len(river.post(1)) == 1
    assert river.worker.last_error == ""


def test_where_there_is_no_mail_server_nobody_can_subscribe(context: Context) -> None:
    public = TestClient(create_app(context))
    assert "sign-subscribe" not in public.get(SIGN).text
    assert public.post(f"{SIGN}/subscription", data={"address": ADDRESS}).status_code == 404
    assert messages.public_mail(NoticesSection(public_url="https://r.example.cn")) is None
    wrong = NoticesSection(public_url="https://r.example.cn", mail="json://smtp.example.org")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        messages.public_mail(wrong)


@contextmanager
def smtp() -> Iterator[tuple[str, list[EmailMessage]]]:
    """A mail server: its address as apprise has it, and what it took."""
    taken: list[EmailMessage] = []

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().strip().upper():
                if line == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    taken.append(message_from_bytes(b"".join(lines), policy=policy.default))  # type: ignore[arg-type]
                self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"mailto://127.0.0.1:{server.server_address[1]}?from=river@example.org", taken
        server.shutdown()


def test_a_mail_program_finds_the_one_click_in_what_a_mail_server_is_given() -> None:
    ends = {"List-Unsubscribe": f"<{BASE}/subscription/a-b_c>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    with smtp() as (address, taken):
        assert channels.is_mail_server(address)
        outcome = channels.send(channels.mail(address, "a+b@example.org", ends), "奇槎涌：水质异常", "一\n二 <三>")
        assert outcome == Outcome(True)
    (mail,) = taken
    assert {name: mail[name] for name in ends} == ends
    assert (mail["To"], mail["Subject"]) == ("a+b@example.org", "奇槎涌：水质异常")
    body = mail.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip().splitlines() == ["一", "二 <三>"]
