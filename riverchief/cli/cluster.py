"""``riverchief bridge`` and ``partitions``: ingest on several machines."""

import dataclasses
from typing import Annotated

import typer

from infra.errors import ConfigurationError
from infra.texts import line, say
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, site_database
from riverchief.terminal import out, tabulate
from sensors.parameters import catalogue

app = Commands()


@app.command("bridge")
def bridge_command(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """从代理接收并写入集群的流，不处理 · From the broker into the streams of a cluster; `ingest` processes them."""
    loaded = load(settings, data)
    from riverchief import serve

    serve.run(loaded, serve.Role.BRIDGE)


@app.command()
def partitions(
    settings: SettingsFile = None,
    data: DataFolder = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=1024, help="按此分区数预览 · show the plan for so many, change nothing")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """集群的分区：站点、由谁处理 · Partitions of a cluster: their stations, who processes them, who is there."""
    from ingest.cluster import leases
    from ingest.cluster.partitions import plan
    from ingest.storage import registry as registry_store

    with site_database(settings, data) as database:
        if database.is_sqlite and count is None:
            raise ConfigurationError(say("settings.cluster_sqlite"))
        with database.read() as connection:
            routes = leases.routes(connection)
            if count is not None:
                routes = plan(registry_store.load(connection, catalogue()), count, routes)
            states = {} if count is not None else leases.states(connection)
            members = [] if count is not None else leases.members(connection)
    sizes = [0] * (count or len(states))
    for home in routes.values():
        sizes[home] += 1
    if as_json:
        rows = [
            {"partition": i, "stations": sorted(key for key, home in routes.items() if home == i)}
            | ({} if count else dataclasses.asdict(states[i]))
            for i in range(len(sizes))
        ]
        out.print_json(data={"partitions": rows, "members": [dataclasses.asdict(one) for one in members]})
        return
    table = [
        (str(i), str(size), states[i].worker or "—", str(states[i].position)) if states else (str(i), str(size), "", "")
        for i, size in enumerate(sizes)
    ]
    tabulate(("cluster.partition", "cluster.stations", "cluster.worker", "cluster.position"), table, "cluster.none")
    for one in members:
        state = "cluster.alive" if one.alive else "cluster.dead"
        out.print(line(state, name=one.name, role=one.role, version=one.version, seconds=f"{one.age_ms / 1000:.0f}"))
