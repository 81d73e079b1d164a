"""The live GB 3838 class as it is answered, for a station and for a reach."""

from dataclasses import dataclass

from api.responses import viewed
from ingest.analysis.live_classes import ShownClass


@dataclass(frozen=True, slots=True)
class LiveClassView:
    """``water_class`` is I to V or >V, null where nothing can be judged; ``deciding`` the parameters that decide it.

    ``at`` is when it was judged, ``measured_at`` the newest reading that decides it. ``silent`` of ``stations`` have
    sent nothing for three promised intervals.
    Of a station, ``judged`` of ``expected`` parameters were judged; of a reach, whose class is that of its worst
    station, so many of its stations could be. ``met``: whether the ``target`` is reached, null where that cannot be
    told. ``zh`` and ``en`` say why, with the numbers.
    """

    water_class: str | None
    at: str | None
    deciding: tuple[str, ...]
    judged: int
    expected: int
    target: str | None
    met: bool | None
    zh: str
    en: str
    measured_at: str | None = None
    silent: int = 0
    stations: int = 1


def view(shown: ShownClass | None) -> LiveClassView | None:
    """What is shown; None where it was never judged."""
    if shown is None:
        return None
    return viewed(
        LiveClassView,
        shown,
        water_class=None if shown.water_class is None else shown.water_class.roman,
        target=None if shown.target is None else shown.target.roman,
        zh=shown.text_zh,
        en=shown.text_en,
    )
