"""``rc-river`` 河流: water class of a reach, deciding parameter, profile along the reach."""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Influx, Size, Sql, cell, head
from ingest.storage import schema

UID: Final = "rc-river"

_ON_REACH: Final = "s.reach = ${reach:sqlstring}"
_MINUTES: Final = "2m"
"""``river_class`` has a point a minute: in steps of at least two, an empty step is silence."""


def _now(field: str) -> Influx:
    """A field of the newest point, as a table, so that texts are shown as well as numbers.

    Every point has ``judged``; asked for with it, a point that lacks the field is not passed over for an older one.
    """
    wanted = ", ".join(f'"{one}"' for one in dict.fromkeys((field, schema.JUDGED)))
    return Influx(
        f'SELECT {wanted} FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND {parts.AS_OF_NOW} {parts.NEWEST}',
        table=True,
    )


def _class_now() -> parts.Panel:
    return parts.stat(
        head("river.class_now"), Size(4, 4), _now(schema.CLASS), unit="none", fields=f"/^{schema.CLASS}$/", filled=True
    ).mappings(parts.class_words())


def _target() -> parts.Panel:
    return parts.stat(
        head("river.target"),
        Size(4, 4),
        _now(schema.TARGET),
        unit="none",
        fields=f"/^{schema.TARGET}$/",
        nothing="未设 · none set",
    ).mappings(parts.class_words())


def _deciding() -> parts.Panel:
    return parts.stat(
        head("river.deciding"), Size(6, 4), _now(schema.DECIDING), unit="none", fields=f"/^{schema.DECIDING}$/"
    )


def _evidence() -> parts.Panel:
    panel = parts.stat(
        head("river.evidence"),
        Size(6, 4),
        _now(schema.EXPECTED),
        unit="none",
        fields="/judged|expected/",
        nothing="停更 · silent",
    )
    return panel.override_by_name(schema.JUDGED, [parts.called("参评 judged")]).override_by_name(
        schema.EXPECTED, [parts.called("应评 expected")]
    )


def _age() -> parts.Panel:
    return parts.stat(
        head("river.age"),
        Size(4, 4),
        _now(schema.JUDGED),
        unit="dateTimeFromNow",
        fields="/^Time$/",
        nothing="停更 · silent",
    )


def _classes() -> parts.Panel:
    query = Influx(
        f'SELECT max("{schema.CLASS}") FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND $timeFilter '
        "GROUP BY time($__interval) fill(null)",
        alias="全河段 reach",
    )
    return parts.timeline(head("river.classes"), Size(24, 4), query).interval(_MINUTES).mappings(parts.class_words())


def _deciding_over_time() -> parts.Panel:
    query = Influx(
        f'SELECT last("{schema.DECIDING}") FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND $timeFilter '
        "GROUP BY time($__interval) fill(null)",
        alias="决定项 decided by",
    )
    return (
        parts.timeline(head("river.deciding_over_time"), Size(24, 4), query)
        .interval(_MINUTES)
        .color_scheme(parts.one_colour(parts.PALE))
        .mappings(parts.words({}))
    )


def _stations() -> parts.Panel:
    query = Influx(
        f'SELECT max("{schema.CLASS}") FROM "{schema.RIVER_CLASS}" WHERE {parts.STATION} AND $timeFilter '
        "GROUP BY time($__interval) fill(null)",
        alias="类别 class",
    )
    return (
        parts.timeline(head("river.stations"), Size(24, 3), query)
        .interval(_MINUTES)
        .mappings(parts.class_words())
        .repeat("station")
        .repeat_direction("v")
        .override_by_name("类别 class", [parts.to_dashboard("rc-station", "station", "${station}")])
    )


def _along() -> parts.Panel:
    query = Influx(
        f'SELECT mean("${{parameter:raw}}") FROM "{schema.WATER}" WHERE {parts.REACH} AND {parts.GOOD} AND $timeFilter '
        f'{parts.IN_BUCKETS}, "{schema.STATION}" fill(null)',
        alias=f"${{parameter}} ${{water}} $tag_{schema.STATION}",
    )
    panel = parts.per_parameter(parts.chart(head("river.along"), Size(24, 9), query, unit="none"))
    station = "${__field.labels.station}"
    return panel.override_by_regexp(
        "/ /", [parts.called(station), parts.to_dashboard("rc-station", "station", station)]
    )


def _level() -> parts.Panel:
    query = Influx(
        f'SELECT mean("level") FROM "{schema.WATER}" WHERE {parts.REACH} AND "{schema.flag("level")}" <= 2 '
        f'AND $timeFilter {parts.IN_BUCKETS}, "{schema.STATION}" fill(null)',
        alias=f"$tag_{schema.STATION}",
    )
    return parts.chart(head("river.level"), Size(12, 8), query, unit="m", nothing="无水位站 · no gauge").decimals(2)


def _incidents() -> parts.Panel:
    return parts.incident_rows(head("river.incidents"), Size(12, 8), _ON_REACH)


def _neighbours() -> parts.Panel:
    query = Sql("""SELECT '上游 upstream' AS "side", r.key AS "reach", r.zh AS "name", r.en AS "english"
FROM reach r WHERE r.downstream = ${reach:sqlstring}
UNION ALL
SELECT '下游 downstream', d.key, d.zh, d.en FROM reach r JOIN reach d ON d.key = r.downstream
WHERE r.key = ${reach:sqlstring} ORDER BY 1, 2""")
    return (
        parts.table(head("river.neighbours"), Size(24, 5), query, nothing="无相邻河段 · no neighbours")
        .override_by_name("side", [parts.called("方位 side")])
        .override_by_name("reach", [parts.set_("custom.hidden", True)])
        .override_by_name("name", [parts.called("河段 water"), parts.to_dashboard(UID, "reach", cell("reach"))])
        .override_by_name("english", [parts.called("English")])
    )


def board() -> Board:
    return Board(
        uid=UID,
        head=head("river.board"),
        variables=(
            parts.data_source(),
            parts.reach(),
            parts.parameter(_ON_REACH, several=False),
            parts.stations_of_reach(),
            parts.water_of_reach(),
            parts.bucket(_ON_REACH),
        ),
        panels=(
            _class_now(),
            _target(),
            _deciding(),
            _evidence(),
            _age(),
            _classes(),
            _deciding_over_time(),
            _stations(),
            _along(),
            _level(),
            _incidents(),
            _neighbours(),
        ),
        annotations=parts.annotations(parts.REACH),
    )
