"""Messages ``/messages``: who was told what when, what was given up; dead letters of the platform, sent again."""

from collections.abc import Callable
from functools import partial

from api.access import needed_right
from api.console import menu
from api.console.dialogs import Dialog
from api.console.elements import button, link, stored, tag
from api.console.frame import Page, cell
from api.console.incident import fate
from api.console.models import incident as rows_of
from api.console.models.incident import NoticeRow
from api.console.models.messages import MessagesPage
from api.routes.deliveries import resend_delivery
from api.routes.notices import contact_names, queue_test_message, resend_notice
from governance.incidents import store as incident_store
from governance.notify import outbox
from governance.notify import store as notice_store
from governance.notify.outbox import Delivery, Status

SHOWN = 50
SHOWS = ("all", "pending", "sent", "dead")
_REPLAY = needed_right("POST", "/deliveries/1/replay")
_TELL = needed_right("POST", "/notices/1/replay")
_TEST = needed_right("POST", "/notices/test")


class Messages(Page[MessagesPage]):
    """What was told to whom."""

    entry = menu.MESSAGES
    section = "messages_page"

    @property
    def show(self) -> str:
        """Which messages are listed."""
        return self.query.get("show", "all") if self.query.get("show") in SHOWS else "all"

    @property
    def before(self) -> int | None:
        """The number that the page begins below."""
        text = self.query.get("before", "")
        return int(text) if text.isdecimal() and len(text) < 10 else None

    def read(self) -> MessagesPage:
        context = self.context
        status = None if self.show == "all" else self.show
        with context.database.read() as connection:
            counts = notice_store.queue_counts(connection)
            within = incident_store.visible_incident_ids(self.actor)
            found = notice_store.list_notices(
                connection, status=status, limit=SHOWN + 1, before=self.before, within=within
            )
            told = notice_store.items(connection, [one.id for one in found])
            refused = outbox.list_deliveries(connection, Status.REFUSED, limit=SHOWN, within=within)
            pending = outbox.pending_counts(connection).pending
        name = contact_names(context)
        known = context.notifications.directory().contacts if context.notifications else ()
        return MessagesPage(
            counts=counts,
            rows=rows_of.notice_rows(found[:SHOWN], told, name),
            more=found[SHOWN - 1].id if len(found) > SHOWN else None,
            refused=tuple(refused),
            pending=pending,
            contacts=tuple((one.key, one.name) for one in known),
        )

    def draw(self, model: MessagesPage) -> None:
        with tag("div", "rc-head"):
            tag("h1", text=self.say("page_frame.messages"))
            if model.contacts and self.actor.may(_TEST):
                button(self.say("test"), partial(self._test, model), "rc-button", testid="messages-test")
        with tag("div", "rc-figures", testid="messages-counts"):
            for key, number in (
                ("waiting", model.counts.waiting),
                ("dead_count", model.counts.dead),
                ("unconfirmed", model.counts.unconfirmed),
                *((("platform_waiting", model.pending),) if self.context.outward else ()),
                *((("platform_refused", len(model.refused)),) if self.context.outward or model.refused else ()),
            ):
                bad = number and key in ("dead_count", "unconfirmed", "platform_refused")
                with tag("div", "rc-panel rc-figure" + (" rc-figure-bad" if bad else "")):
                    tag("b", text=str(number))
                    tag("span", text=self.say(key))
        if model.refused:
            with self.panel("refused", testid="messages-refused"):
                tag("p", "rc-quiet", self.say("refused_note"))
                heads = {name: self.say(f"column_{name}") for name in ("number", "incident", "when", "why", "do")}
                with self.table(heads):
                    for one in model.refused:
                        self._delivery(one, heads)
        with self.panel("people", testid="messages-people"):
            with tag("div", "rc-group", label=self.say("show")) as group:
                group.props["role"] = "group"
                for show in SHOWS:
                    choice = link(self.say(f"show_{show}"), self.to("/messages", show=show), "rc-choice")
                    choice.props["data-testid"] = f"messages-show-{show}"
                    choice.props["aria-current" if show == self.show else "data-other"] = "true"
            if not model.rows:
                notifications = bool(model.contacts)
                self.empty(
                    "none" if notifications else "nobody",
                    "none_next" if notifications else "nobody_next",
                    testid="messages-empty",
                )
                return
            heads = {name: self.say(f"column_{name}") for name in ("when", "to", "what", "fate")}
            with self.table(heads, testid="messages-table"):
                for row in model.rows:
                    self._row(row, heads)
            if model.more is not None:
                link(self.say("older"), self.to("/messages", show=self.show, before=model.more), "rc-button")

    def _row(self, row: NoticeRow, heads: dict[str, str]) -> None:
        with tag("tr", testid=f"message-{row.id}"):
            cell(heads["when"], self.moment(row.created_at_ms))
            cell(heads["to"], row.name)
            with cell(heads["what"]), tag("div", "rc-card-body"):
                tag("span", text=f"{self.say(f'kind_{row.kind}')} · {self.of(row.text)}")
                with tag("span", "rc-quiet"):
                    for number in row.incidents[:6]:
                        link(f"#{number} ", self.to(f"/incidents/{number}"))
                    if len(row.incidents) > 6:
                        tag("span", text=self.say("and_more", count=len(row.incidents) - 6))
            with cell(heads["fate"]), tag("div", "rc-card-body"):
                sort = "confirmed" if row.confirmed_at_ms else row.status
                tag("span", f"rc-told rc-told-{sort}", fate(self, row))
                if row.channel:
                    tag("span", "rc-quiet", self.say("through", channel=row.channel))
                if row.error and row.status != "sent":
                    tag("span", "rc-missed", stored(row.error, self.language))
                if row.status == "dead" and self.actor.may(_TELL):
                    ask = self.say("tell_again_ask", name=row.name)
                    again = partial(
                        self._again, ask, lambda: resend_notice(self.context, self.allowed_to(_TELL), row.id)
                    )
                    button(self.say("send_again"), again, "rc-button", testid=f"message-{row.id}-replay")

    def _delivery(self, one: Delivery, heads: dict[str, str]) -> None:
        with tag("tr", testid=f"delivery-{one.id}"):
            cell(heads["number"], str(one.id))
            with cell(heads["incident"]):
                link(f"#{one.incident_id}", self.to(f"/incidents/{one.incident_id}"))
            cell(heads["when"], self.moment(one.created_at_ms))
            said = one.last_error or f"HTTP {one.last_status}"
            cell(heads["why"], self.say("tries", answer=said, count=one.attempts))
            with cell(heads["do"]):
                if self.actor.may(_REPLAY):
                    ask = self.say("send_again_ask", id=one.id)
                    again = partial(
                        self._again, ask, lambda: resend_delivery(self.context, self.allowed_to(_REPLAY), one.id)
                    )
                    button(self.say("send_again"), again, "rc-button", testid=f"delivery-{one.id}-replay")
                else:
                    tag("span", "rc-quiet", self.say("who_replays"))

    async def _again(self, ask: str, again: Callable[[], object]) -> None:
        dialog = Dialog(self, ask, self.say("send_again_note"))

        async def submit() -> None:
            await self.do(again, self.say("sent_again"))

        dialog.open(self.say("send_again"), submit)

    async def _test(self, model: MessagesPage) -> None:
        dialog = Dialog(self, self.say("test"), self.say("test_note"))
        contact = dialog.choice("contact", self.say("column_to"), dict(model.contacts))

        async def submit() -> None:
            key = str(contact.value or "")
            await self.do(
                lambda: (self.allowed_to(_TEST), queue_test_message(self.context, key)), self.say("test_made")
            )

        dialog.open(self.say("test"), submit)
