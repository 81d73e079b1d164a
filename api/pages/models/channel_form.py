"""The form of a channel: what each kind asks for, and the address that it makes. Pure.

An address is written as apprise has it. Its last letters tell two of a kind apart on the page, so that what names the
recipient stands at the end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from governance.notify.contacts import Channel
from infra.errors import ConfigurationError
from infra.texts import Text, say


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form; what is ``secret`` is typed as a password, ``shared`` may be taken from another contact."""

    name: str
    needed: bool = True
    secret: bool = False
    shared: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of channel: its fields, and the parameter of the address that names the recipient; "" for none."""

    key: str
    fields: tuple[Field, ...]
    recipient: str = ""
    schemes: tuple[str, ...] = ()


KINDS = (
    Kind("wecom", (Field("robot", secret=True),)),
    Kind(
        "sms",
        (
            Field("number"),
            Field("gateway", shared=True, hint="https://"),
            Field("parameter", needed=False, shared=True, hint="to"),
        ),
        ":to",
        ("json", "jsons", "form", "forms"),
    ),
    Kind(
        "mail",
        (
            Field("to"),
            Field("host", shared=True, hint="smtp.example.cn"),
            Field("user", shared=True),
            Field("password", secret=True, shared=True),
        ),
        "to",
        ("mailto", "mailtos"),
    ),
    Kind("dingtalk", (Field("robot", secret=True), Field("sign", needed=False, secret=True, hint="SEC…"))),
    Kind("feishu", (Field("robot", secret=True),)),
    Kind("gateway", (Field("address", hint="https://"),)),
    Kind("other", (Field("url", secret=True),)),
)
"""In the order in which they are offered; the first is chosen."""
OWN_KINDS = tuple(kind for kind in KINDS if kind.key not in ("gateway", "other"))
"""What people may add for themselves: channels of which they do not choose the server that we connect to."""
BY_KEY = {kind.key: kind for kind in KINDS}


class FieldWrong(ConfigurationError):
    """A field of the form says what cannot be."""

    def __init__(self, name: str, text: Text) -> None:
        super().__init__(text)
        self.name = name


def check_own(key: str, given: Mapping[str, str]) -> None:
    """Raises FieldWrong where somebody adds for themselves what the office has to: a server, or its gateway."""
    kind = BY_KEY.get(key)
    if kind is not None and kind not in OWN_KINDS:
        raise FieldWrong("kind", say("people_page.office_adds"))
    for one in kind.fields if kind is not None else ():
        if one.shared and given.get(one.name, "").strip():
            raise FieldWrong(one.name, say("people_page.office_adds"))


def channel(key: str, given: Mapping[str, str], known: Iterable[Channel] = ()) -> Channel:
    """The channel that a filled-in form makes. ``known``: channels of others, whose sender or gateway it may share.

    Raises FieldWrong.
    """
    kind = BY_KEY.get(key)
    if kind is None:
        raise FieldWrong("kind", say("people_page.no_kind"))
    values = {one.name: given.get(one.name, "").strip() for one in kind.fields}
    shared = not any(values[one.name] for one in kind.fields if one.shared)
    template = shared_with(kind, known) if shared else None
    for one in kind.fields:
        if one.needed and not values[one.name] and not (one.shared and template is not None):
            raise FieldWrong(one.name, say("people_page.needed", field=say(f"people_page.field_{one.name}")))
        if any(letter.isspace() for letter in values[one.name]):
            raise FieldWrong(one.name, say("people_page.no_space"))
    return _MAKERS[kind.key](values, template)


def shared_with(kind: Kind, known: Iterable[Channel]) -> Channel | None:
    """A channel of this kind that others use, whose sender or gateway a new one can share."""
    if not kind.recipient:
        return None
    fitting = (one for one in known if one.kind in kind.schemes and f"{kind.recipient}=" in one.url.partition("?")[2])
    return next(fitting, None)


def _readdressed(one: Channel, parameter: str, recipient: str) -> Channel:
    """A channel of another, to somebody else."""
    base, _, query = one.url.partition("?")
    rest = [part for part in query.split("&") if part and not part.startswith(f"{parameter}=")]
    written = quote(recipient, safe="@+")
    return Channel(f"{base}?{'&'.join([*rest, f'{parameter}={written}'])}", one.short)


def _token(text: str) -> str:
    """The key of a robot: as it is, or the last part of its webhook address."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https"):
        return text
    given = next((value for name, _, value in (p.partition("=") for p in parts.query.split("&")) if value), "")
    return given or parts.path.rstrip("/").rpartition("/")[2]


def _robot(scheme: str, values: Mapping[str, str]) -> Channel:
    token = _token(values["robot"])
    if len(token) < 8:
        raise FieldWrong("robot", say("people_page.no_robot"))
    sign = f"{quote(values['sign'], safe='')}@" if values.get("sign") else ""
    return Channel(f"{scheme}://{sign}{quote(token, safe='')}")


def _web(text: str, field: str) -> tuple[str, str]:
    """Scheme letter and the rest of a web address."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FieldWrong(field, say("people_page.no_web"))
    query = "&".join(f"-{part}" for part in parts.query.split("&") if part)
    return parts.scheme.removeprefix("http"), f"{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


def _sms(values: Mapping[str, str], template: Channel | None) -> Channel:
    number = values["number"]
    if not number.removeprefix("+").isdigit() or not 5 <= len(number) <= 20:
        raise FieldWrong("number", say("people_page.no_number"))
    if template is not None:
        return _readdressed(template, ":to", number)
    secure, rest = _web(values["gateway"], "gateway")
    parameter = values["parameter"] or "to"
    if not parameter.replace("_", "").isalnum():
        raise FieldWrong("parameter", say("people_page.no_parameter"))
    return Channel(f"json{secure}://{rest}{'&' if '?' in rest else '?'}:{parameter}={number}", short=True)


def _mail(values: Mapping[str, str], template: Channel | None) -> Channel:
    to = values["to"]
    if "@" not in to.strip("@"):
        raise FieldWrong("to", say("people_page.no_mail"))
    if template is not None:
        return _readdressed(template, "to", to)
    user, password, host = (quote(values[name], safe="") for name in ("user", "password", "host"))
    host = host.replace("%3A", ":")
    sender = quote(values["user"] if "@" in values["user"] else f"{values['user']}@{values['host']}", safe="@")
    return Channel(f"mailtos://{user}:{password}@{host}?from={sender}&to={quote(to, safe='@+')}")


def _gateway(values: Mapping[str, str], _: Channel | None) -> Channel:
    secure, rest = _web(values["address"], "address")
    return Channel(f"json{secure}://{rest}")


def _other(values: Mapping[str, str], _: Channel | None) -> Channel:
    if "://" not in values["url"]:
        raise FieldWrong("url", say("people_page.no_scheme"))
    return Channel(values["url"])


_MAKERS = {
    "wecom": lambda values, _: _robot("wecombot", values),
    "sms": _sms,
    "mail": _mail,
    "dingtalk": lambda values, _: _robot("dingtalk", values),
    "feishu": lambda values, _: _robot("feishu", values),
    "gateway": _gateway,
    "other": _other,
}
