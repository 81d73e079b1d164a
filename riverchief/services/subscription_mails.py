"""Mails to the public: the link that confirms a subscription, and what changed at a river that somebody follows."""

from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import sqlalchemy as sa
import structlog

from governance.incidents import queries as incident_queries
from governance.incidents.finding import Colour
from governance.notify import channels
from governance.notify.channels import Outcome
from governance.notify.contacts import Channel
from governance.reports import public_photos, public_warnings, subscriptions
from governance.reports.subscriptions import PublicState, Subscription
from infra.database import Database
from infra.errors import NotFound
from infra.periodic import PeriodicWorker
from infra.texts import Text, say
from infra.times import beijing
from infra.vault import Vault
from ingest.storage.tables import reach as reach_table
from ingest.storage.tables import station as station_table

EVERY_S = 15.0
MAX_PER_ROUND = 50
"""Mails of one kind in a round."""

log = structlog.get_logger(__name__)


class SubscriptionMails(PeriodicWorker):
    """A thread that sends the mails; ``server`` is the mail server, ``base`` our address as the public reaches it."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        server: str,
        base: str,
        *,
        clock_ms: Callable[[], int],
        send: Callable[[Channel, str, str], Outcome] = channels.send,
    ) -> None:
        super().__init__("subscriptions")
        self._database = database
        self._vault = vault
        self._server = server
        self._base = base.rstrip("/")
        self._clock_ms = clock_ms
        self._send = send

    def next_round(self) -> float:
        sent = 0
        with self.outlive("mails to the public"):
            sent = self.round()
        return 0.0 if sent else EVERY_S

    def round(self) -> int:
        """Send what is due; how many mails the server took. Raises StorageUnavailable."""
        now_ms, self.last_error = self._clock_ms(), ""
        with self._database.write() as connection:
            subscriptions.delete_expired(connection, now_ms)
        with self._database.read() as connection:
            links = subscriptions.links_due(connection, now_ms, MAX_PER_ROUND)
            rivers = subscriptions.subscribed_reaches(connection)
        sent = sum(self._send_link(one, now_ms) for one in links)
        return sent + sum(self._mail_changes(reach, now_ms) for reach in rivers)

    def _send_link(self, one: Subscription, now_ms: int) -> bool:
        values: dict[str, object] = {"river": self._river(one.reach), "link": self._link(one)}
        done = partial(subscriptions.record_link_sent, token=one.token)
        return self._mail(
            one, say("subscription.mail_link_title", **values), [_text("mail_link", values)], done, now_ms
        )

    def _mail_changes(self, reach: str, now_ms: int) -> int:
        """Tell those who follow a river what changed; how many mails the server took."""
        with self._database.read() as connection:
            found = warning_at(connection, reach)
            now = PublicState(found is not None, public_photos.newest_release(connection, reach))
            due = subscriptions.mails_due(connection, reach, now, now_ms, MAX_PER_ROUND)
        if not due:
            return 0
        sign = f"{self._base}/r/{quote(reach, safe='')}"
        return sum(self._mail_subscriber(one, now, found, sign, now_ms) for one in due)

    def _mail_subscriber(
        self, one: Subscription, now: PublicState, found: tuple[Colour, int] | None, sign: str, now_ms: int
    ) -> bool:
        values: dict[str, object] = {"river": self._river(one.reach), "sign": sign, "link": self._link(one)}
        kinds = []
        if found is not None and not one.warned:
            kinds.append("begun")
            values["since"] = beijing(found[1], "%Y-%m-%d %H:%M")
        elif found is None and one.warned:
            kinds.append("over")
        if now.photos_at_ms > one.photos_at_ms:
            kinds.append("photos")
        title = say(f"subscription.mail_{kinds[0]}_title", **values)
        body = [*(_text(f"mail_{kind}", values) for kind in kinds), _text("mail_foot", values)]
        done = partial(subscriptions.record_mail_sent, token=one.token, now=now, now_ms=now_ms)
        return self._mail(one, title, body, done, now_ms)

    def _mail(
        self, one: Subscription, title: Text, body: list[Text], done: Callable[[sa.Connection], None], now_ms: int
    ) -> bool:
        """Send a mail and write down what came of it. Who unsubscribed meanwhile is sent nothing."""
        try:
            with self._database.read() as connection:
                subscriptions.get(connection, one.token)
        except NotFound:
            return False
        ends = {"List-Unsubscribe": f"<{self._link(one)}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
        address = self._vault.open(one.address)
        to = channels.mail(self._server, address, ends if one.confirmed_at_ms is not None else {})
        outcome = (
            self._send(to, *(_text_for(one, text) for text in (title, _joined(body)))) if address else Outcome(False)
        )
        with self._database.write() as connection:
            if outcome.ok:
                done(connection)
            else:
                subscriptions.record_failure(connection, one, now_ms)
        if not outcome.ok:
            self.last_error = outcome.error or "a mail was not taken"
            log.warning("a mail to the public was not taken", reach=one.reach, error=outcome.error)
        return outcome.ok

    def _link(self, one: Subscription) -> str:
        return f"{self._base}/subscription/{one.token}"

    def _river(self, key: str) -> Text:
        with self._database.read() as connection:
            r = reach_table.c
            row = connection.execute(sa.select(r.zh, r.en).where(r.key == key)).one_or_none()
        return Text(key, key) if row is None else Text(row.zh, row.en)


def warning_at(connection: sa.Connection, reach: str) -> tuple[Colour, int] | None:
    """The warning of a reach and since when, as its sign has it; None where there is none."""
    s = station_table.c
    here = list(connection.execute(sa.select(s.key).where(s.reach == reach)).scalars())
    return public_warnings.warning(incident_queries.open_water_incidents(connection, reach, here))


def _text(key: str, values: dict[str, object]) -> Text:
    return say(f"subscription.{key}", **values)


def _joined(texts: list[Text]) -> Text:
    return Text("\n\n".join(one.zh for one in texts), "\n\n".join(one.en for one in texts))


def _text_for(one: Subscription, text: Text) -> str:
    return text.en if one.language == "en" else text.zh
