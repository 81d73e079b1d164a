"""``rc-river`` 河流: water class of a reach, deciding parameter, profile along the reach."""

from typing import Final

from dashboards import parts
from dashboards.parts import Board, Head, Influx, Size, Sql, cell
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
    head = Head(
        "现状类别 · Class now",
        "单因子评价：参评项目中最差的一项就是水的类别。",
        "Single factor: the worst of the judged parameters is the class.",
    )
    return parts.stat(
        head, Size(4, 4), _now(schema.CLASS), unit="none", fields=f"/^{schema.CLASS}$/", filled=True
    ).mappings(parts.class_words())


def _target() -> parts.Panel:
    head = Head("水质目标 · Target", "该河段应达到的类别。", "The class this water has to meet.")
    return parts.stat(
        head, Size(4, 4), _now(schema.TARGET), unit="none", fields=f"/^{schema.TARGET}$/", nothing="未设 · none set"
    ).mappings(parts.class_words())


def _deciding() -> parts.Panel:
    head = Head(
        "决定项 · Decided by",
        "把类别拉到这一级的参数。",
        "The parameters that pull the water down to its class.",
    )
    return parts.stat(head, Size(6, 4), _now(schema.DECIDING), unit="none", fields=f"/^{schema.DECIDING}$/")


def _evidence() -> parts.Panel:
    head = Head(
        "参评/应评 · Judged of expected",
        "参评项少于应评项时，类别只是已测部分的结论。",
        "Fewer judged than expected: the class speaks for what was measured.",
    )
    panel = parts.stat(
        head,
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
    head = Head(
        "评价时间 · Judged",
        "最近一次评价距今多久；停更时类别不再可信。",
        "How long ago; a class that is not renewed cannot be relied on.",
    )
    return parts.stat(
        head, Size(4, 4), _now(schema.JUDGED), unit="dateTimeFromNow", fields="/^Time$/", nothing="停更 · silent"
    )


def _classes() -> parts.Panel:
    head = Head(
        "类别变化 · Class over time",
        "每一时段内最差的类别；空白为无法评价。",
        "The worst class of each step; blank where nothing could be judged.",
    )
    query = Influx(
        f'SELECT max("{schema.CLASS}") FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND $timeFilter '
        "GROUP BY time($__interval) fill(null)",
        alias="全河段 reach",
    )
    return parts.timeline(head, Size(24, 4), query).interval(_MINUTES).mappings(parts.class_words())


def _deciding_over_time() -> parts.Panel:
    head = Head(
        "决定项变化 · What decided",
        "每一时段末决定类别的参数：换了参数多半换了原因。",
        "The deciding parameters at the end of each step; another parameter often means another cause.",
    )
    query = Influx(
        f'SELECT last("{schema.DECIDING}") FROM "{schema.RIVER_CLASS}" WHERE {parts.WHOLE_REACH} AND $timeFilter '
        "GROUP BY time($__interval) fill(null)",
        alias="决定项 decided by",
    )
    return (
        parts.timeline(head, Size(24, 4), query)
        .interval(_MINUTES)
        .color_scheme(parts.one_colour(parts.PALE))
        .mappings(parts.words({}))
    )


def _stations() -> parts.Panel:
    head = Head(
        "$station",
        "一站一条，自上游至下游：颜色从哪一条起变差，问题就在其上游不远。",
        "One strip a station, upstream first: where the strips turn worse, the cause is not far above.",
    )
    query = Influx(
        f'SELECT max("{schema.CLASS}") FROM "{schema.RIVER_CLASS}" WHERE {parts.STATION} AND $timeFilter '
        "GROUP BY time($__interval) fill(null)",
        alias="类别 class",
    )
    return (
        parts.timeline(head, Size(24, 3), query)
        .interval(_MINUTES)
        .mappings(parts.class_words())
        .repeat("station")
        .repeat_direction("v")
        .override_by_name("类别 class", [parts.to_dashboard("rc-station", "station", "${station}")])
    )


def _along() -> parts.Panel:
    head = Head(
        "上下游同图 · Up- and downstream",
        "所选参数在本河段各站的均值（只用未被质疑的读数）；同一峰值先后出现，即为沿程传播。",
        "The chosen parameter at all stations of the reach, means of undoubted readings; one peak after "
        "another is water travelling.",
    )
    query = Influx(
        f'SELECT mean("${{parameter:raw}}") FROM "{schema.WATER}" WHERE {parts.REACH} AND {parts.GOOD} AND $timeFilter '
        f'{parts.IN_BUCKETS}, "{schema.STATION}" fill(null)',
        alias=f"${{parameter}} ${{water}} $tag_{schema.STATION}",
    )
    panel = parts.per_parameter(parts.chart(head, Size(24, 9), query, unit="none"))
    station = "${__field.labels.station}"
    return panel.override_by_regexp(
        "/ /", [parts.called(station), parts.to_dashboard("rc-station", "station", station)]
    )


def _level() -> parts.Panel:
    head = Head(
        "水位 · Level",
        "感潮河段随潮涨落；落潮时支涌来水，污染多在此时出现。",
        "Tidal waters rise and fall; on the ebb the creeks drain and bring what is in them.",
    )
    query = Influx(
        f'SELECT mean("level") FROM "{schema.WATER}" WHERE {parts.REACH} AND "{schema.flag("level")}" <= 2 '
        f'AND $timeFilter {parts.IN_BUCKETS}, "{schema.STATION}" fill(null)',
        alias=f"$tag_{schema.STATION}",
    )
    return parts.chart(head, Size(12, 8), query, unit="m", nothing="无水位站 · no gauge").decimals(2)


def _incidents() -> parts.Panel:
    head = Head(
        "本河段未结案事件 · Open here",
        "最紧急的在前；点击在控制台查看。",
        "Most urgent first; a click opens the console.",
    )
    return parts.incident_rows(head, Size(12, 8), _ON_REACH)


def _neighbours() -> parts.Panel:
    head = Head(
        "相邻河段 · Neighbours",
        "流入本河段的和本河段流入的水体；点击打开。",
        "Waters that flow into this one, and the one it flows into.",
    )
    query = Sql("""SELECT '上游 upstream' AS "side", r.key AS "reach", r.zh AS "name", r.en AS "english"
FROM reach r WHERE r.downstream = ${reach:sqlstring}
UNION ALL
SELECT '下游 downstream', d.key, d.zh, d.en FROM reach r JOIN reach d ON d.key = r.downstream
WHERE r.key = ${reach:sqlstring} ORDER BY 1, 2""")
    return (
        parts.table(head, Size(24, 5), query, nothing="无相邻河段 · no neighbours")
        .override_by_name("side", [parts.called("方位 side")])
        .override_by_name("reach", [parts.set_("custom.hidden", True)])
        .override_by_name("name", [parts.called("河段 water"), parts.to_dashboard(UID, "reach", cell("reach"))])
        .override_by_name("english", [parts.called("English")])
    )


def board() -> Board:
    return Board(
        uid=UID,
        title="河流 · River",
        description=parts.both(
            "这条河现在如何，由哪一项决定，问题从哪里开始。",
            "How this water is, what decides it, where the trouble begins.",
        ),
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
