"""The class of a month, how it changed, and shares of the assessment's tables."""

from api.pages.models.assessment import ALL, Column, Naming, Sources, Verdict, piece, prevailing, table
from governance.assessment.model import Assessment, DayOfWater, Formula, GroupBy, Indicator, Row, Share, WaterOfReach
from infra.texts import Text
from sensors.standards.gb3838 import WaterClass

NAMING = Naming(lambda key: Text(key, key), lambda reach: (reach,), lambda region: region)
NOTHING = Sources({}, None, {}, ())


def _days(*classes: str | None) -> tuple[DayOfWater, ...]:
    return tuple(DayOfWater(i, one, None) for i, one in enumerate(classes))


def _made(**water: WaterOfReach) -> Assessment:
    unknown = {indicator: Share() for indicator in Indicator}
    rows = [Row(key, unknown, None, None, 0) for key in water]
    total = Row("", unknown, None, None, 0)
    return Assessment("2026-10", GroupBy.REACH, Formula({}), 0, 1, 1, True, rows, total, (), 0, "", water)


def test_the_class_of_a_month_is_that_of_most_days_and_the_worse_of_two_alike() -> None:
    assert prevailing(_days("IV", "III", "IV", None)) is WaterClass.IV
    assert prevailing(_days("III", "V")) is WaterClass.V
    assert prevailing(_days(None)) is None, "a month without a judged day has no class"


def test_a_change_of_class_is_known_only_where_both_months_are() -> None:
    made = _made(
        better=WaterOfReach(_days("III"), _days("V"), ()),
        worse=WaterOfReach(_days("V"), _days("IV"), _days("V")),
        unknown=WaterOfReach((), _days("IV"), ()),
    )
    found = table(made, NAMING, Text("", ""), NOTHING)
    total = found.total.changes
    assert (total[Column.MONTH].better, total[Column.MONTH].worse, total[Column.MONTH].same) == (1, 1, 0)
    assert (total[Column.YEAR].better, total[Column.YEAR].worse, total[Column.YEAR].same) == (0, 0, 1)
    lines = {line.key: line for line in found.lines}
    assert not lines["unknown"].changes[Column.MONTH].known
    assert lines["better"].changes[Column.MONTH].one is not None


def test_a_row_of_which_the_trail_says_nothing_stands_there_unknown() -> None:
    found = table(_made(), NAMING, Text("", ""), NOTHING, ("silent",))
    (line,) = found.lines
    assert line.shares[Column.WATER].value is None
    assert not line.shares[Column.PATROLS].available
    assert (line.citizens, line.score, found.total.key) == (Verdict(), None, ALL)


def test_a_list_grows_by_its_address_and_bad_numbers_show_its_beginning() -> None:
    assert piece(70, "", 30) == (0, 30, True)
    assert piece(70, "3", 30) == (0, 90, False)
    assert piece(70, "-1", 30) == piece(70, "x", 30) == piece(70, "0", 30) == (0, 30, True)
