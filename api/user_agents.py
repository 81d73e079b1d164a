"""A browser and its system in words, from what it says of itself. Pure."""

_BROWSERS = (
    ("MicroMessenger", "WeChat"),
    ("wxwork", "WeCom"),
    ("DingTalk", "DingTalk"),
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
    ("curl", "curl"),
    ("python", "Python"),
)
_SYSTEMS = (
    ("HarmonyOS", "HarmonyOS"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)


def words(agent: str) -> str:
    """Such as ``WeChat · Android``; what is not known is quoted, shortened."""
    found = [
        next((name for mark, name in known if mark.casefold() in agent.casefold()), "")
        for known in (_BROWSERS, _SYSTEMS)
    ]
    plain = "".join(letter for letter in agent if letter.isprintable())
    return " · ".join(name for name in found if name) or plain[:40]
