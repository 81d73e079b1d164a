"""The compose file says what the programs read: paths, ports, variables, secrets, order, rights.

No container engine is needed for that. What the images bring along is written down below with its source.
"""

import fnmatch
import json
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from riverchief import __version__, setup
from riverchief.brokers.mosquitto_admin import HEALTH_TOPIC
from riverchief.settings import Settings, load
from tests.stack import environment, interpolated, is_setting, mounts

FILE = Path("docker-compose.yml")
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVERS = {name for name, service in SERVICES.items() if service["restart"] != "no"}
ONCE = set(SERVICES) - SERVERS
GRAFANA = Path("config/grafana/provisioning")

IN_IMAGE = {
    # what a health check may call in each image, and where that is written
    "eclipse-mosquitto": {"mosquitto_sub"},  # eclipse/mosquitto, docker/2.0/Dockerfile: installs /usr/bin/mosquitto_sub
    "influxdb": {"curl"},  # influxdata/influxdata-docker, influxdb/2.7/Dockerfile: apt-get install … curl
    "postgres": {"pg_isready"},  # docker-library/postgres: PostgreSQL's own client programs
    "grafana/grafana": {"wget"},  # grafana/grafana, Dockerfile: FROM alpine, whose busybox has it
    "prom/prometheus": {"wget"},  # prometheus/prometheus, Dockerfile: FROM quay.io/prometheus/busybox
    "nats": {"wget"},  # nats-io/nats-docker, alpine: busybox
    "emqx/emqx": {"/opt/emqx/bin/emqx"},  # emqx/emqx, deploy/docker/Dockerfile: WORKDIR /opt/emqx
    "riverchief": {"python"},  # our Dockerfile
}

LISTENS = {
    # the port each program listens on inside: our settings, the shipped configuration, or the image's default
    "riverchief": {8080, 9212, 9651},
    "mosquitto": {8883, 1883},
    "grafana": {3000},
    "influxdb": {8086},
    "postgres": {5432},
    "prometheus": {9090},
    "nats": {8883, 8222},
    **{f"nats-{i}": {4222, 6222, 8222} for i in (1, 2, 3)},
    "emqx": {8883, 1883},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files that the first set-up writes, ``holder/file``."""
    written = setup.prepare(tmp_path_factory.mktemp("secrets"), ["mosquitto"], datetime.now(UTC))
    return {*written, *(f"{holder}/{file}" for holder, file in setup.INFLUX_TOKENS.items())}


def behind(service: str, path: str) -> str:
    """What lies behind a path in the container: ``./config/…`` of the repository, or ``volume/…``."""
    wanted = PurePosixPath(path)
    for target, (source, _) in sorted(mounts(service).items(), key=lambda item: -len(item[0])):
        if wanted.is_relative_to(target):
            rest = wanted.relative_to(target)
            return source if rest == PurePosixPath() else f"{source}/{rest}"
    pytest.fail(f"{service}: nothing is mounted at {path}")


def is_secret(source: str, made: set[str]) -> bool:
    """Whether it is a file in a volume of secrets that the set-up writes there."""
    return source.removeprefix("secrets-") in made and source.startswith("secrets-")


def waits_for(service: str) -> set[str]:
    """All that must be there before the service starts, whatever that waits for included."""
    direct = set(SERVICES[service].get("depends_on", {}))
    return direct.union(*(waits_for(other) for other in direct))


# -- the file itself -------------------------------------------------------------------------------------------------


def valid(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_follows_the_compose_specification() -> None:
    done = valid(FILE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("    mem_limit: 2g", "    memory_limit: 2g"),
        ("condition: service_healthy", "condition: service_helthy"),
        ("retries:", "tries:"),
    ],
)
def test_a_mistake_against_the_specification_would_be_found(tmp_path: Path, right: str, wrong: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "compose.yml").write_text(text.replace(right, wrong, 1), encoding="utf-8")
    assert valid(tmp_path / "compose.yml").returncode == 1


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_image_is_of_an_exact_version_and_can_be_pinned_to_a_digest(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert service["image"] == f"riverchief:{__version__}"
        assert python_image(service["build"]["args"]["PYTHON_IMAGE"]) == python_image(dockerfile_default())
        return
    # PostgreSQL counts its releases with two numbers, all others with three
    numbers = r"\d+\.\d+" if name == "postgres" else r"v?\d+\.\d+\.\d+"
    assert re.search(rf":{numbers}(-alpine)?$", image(name)), image(name)
    pinned = f"{image(name)}@sha256:{'0' * 64}"
    assert interpolated(service["image"], {f"{name.rstrip('-123').upper()}_IMAGE": pinned}) == pinned


def image(service: str) -> str:
    return interpolated(SERVICES[service]["image"], {})


def dockerfile_default() -> str:
    (default,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", Path("Dockerfile").read_text(), re.MULTILINE)
    return str(default)


def python_image(named: str) -> str:
    """The image that this name stands for, without a variable; fails for one of no exact version."""
    known = interpolated(named, {})
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", known), known
    return known


def test_every_volume_and_network_is_declared_and_used() -> None:
    named = {source for name in SERVICES for source, _ in mounts(name).values() if not source.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    joined = {network for service in SERVICES.values() for network in service.get("networks", [])}
    assert joined == set(COMPOSE["networks"])


# -- paths and secrets -----------------------------------------------------------------------------------------------


def test_every_mounted_file_of_the_repository_exists_and_cannot_be_written() -> None:
    for name in SERVICES:
        for source, read_only in mounts(name).values():
            if source.startswith("."):
                assert Path(source).exists(), source
                assert read_only, f"{name} could change {source}"


def test_every_file_named_by_a_setting_or_a_command_is_there(made: set[str]) -> None:
    looked_at = 0
    for name, service in SERVICES.items():
        words = [*environment(name).values(), *map(str, service.get("command", []))]
        paths = {path for word in words for path in re.findall(r"(?<![\w:/.])/[\w./-]+\w(?![\w:])", word)}
        for path in sorted(paths - {"/secrets", "/data", "/data/archive", "/prometheus"}):
            source = behind(name, path)
            if path == environment(name).get("XDG_CONFIG_HOME"):
                source += "/mosquitto_sub"  # the options of the health check
            assert is_secret(source, made) or Path(source).exists(), f"{name}: {path} would be {source}"
            looked_at += 1
    assert looked_at >= 15


def test_mosquitto_finds_its_users_its_certificate_and_its_queue(made: set[str]) -> None:
    conf = behind("mosquitto", "/mosquitto/config/mosquitto.conf")  # the image's CMD
    said = dict(line.split(maxsplit=1) for line in Path(conf).read_text().splitlines() if line and line[0] != "#")
    for option in ("plugin_opt_config_file", "certfile", "keyfile"):
        assert is_secret(behind("mosquitto", said[option]), made), option
    assert behind("mosquitto", said["persistence_location"]).rstrip("/") == "mosquitto"
    assert said["plugin"] == "/usr/lib/mosquitto_dynamic_security.so"  # where the image's Dockerfile puts it
    assert said["allow_anonymous"] == "false"


def test_grafana_finds_its_sources_dashboards_and_passwords(made: set[str]) -> None:
    assert behind("grafana", "/etc/grafana/provisioning") == f"./{GRAFANA}"  # the image's GF_PATHS_PROVISIONING
    sources = yaml.safe_load((GRAFANA / "datasources/riverchief.yml").read_text())["datasources"]
    assert {source["uid"] for source in sources} == {
        "riverchief-influx",
        "riverchief-postgres",
        "riverchief-prometheus",
    }
    files = re.findall(r"\$__file\{(.+?)\}", json.dumps(sources))
    assert len(files) == 2
    assert all(is_secret(behind("grafana", file), made) for file in files)
    (provider,) = yaml.safe_load((GRAFANA / "dashboards/riverchief.yml").read_text())["providers"]
    assert Path(behind("grafana", provider["options"]["path"])).samefile("dashboards/generated")
    assert not provider["allowUiUpdates"]


def test_grafana_asks_the_database_and_the_bucket_that_are_filled() -> None:
    sources = yaml.safe_load((GRAFANA / "datasources/riverchief.yml").read_text())["datasources"]
    influx, postgres = sources[0], sources[1]
    filled = environment("riverchief")
    assert influx["jsonData"]["dbName"] == filled["RIVERCHIEF_INFLUX__BUCKET"]
    assert influx["url"] == filled["RIVERCHIEF_INFLUX__URL"]
    assert environment("influxdb")["DOCKER_INFLUXDB_INIT_BUCKET"] == filled["RIVERCHIEF_INFLUX__BUCKET"]
    assert environment("influxdb")["DOCKER_INFLUXDB_INIT_ORG"] == filled["RIVERCHIEF_INFLUX__ORG"]
    assert postgres["jsonData"]["database"] == environment("postgres")["POSTGRES_DB"]
    command = SERVICES["setup-database"]["command"]
    assert postgres["user"] == command[command.index("--reader") + 1]
    assert f"CREATE ROLE {postgres['user']} " in Path("config/postgres/10-grafana.sh").read_text()


def test_the_dashboards_ask_only_tables_that_their_user_may_read() -> None:
    asked: set[str] = set()
    for file in Path("dashboards/generated").glob("*.json"):
        statements = re.findall(r'"rawSql": "((?:[^"\\]|\\.)*)"', file.read_text(encoding="utf-8"))
        asked |= {name for sql in statements for name in re.findall(r"\b(?:FROM|JOIN) ([a-z_]+)\b", sql)}
    assert asked & {*setup.metadata.tables, "reading"} <= set(setup.DASHBOARDS_READ)
    assert len(asked) > 8


def test_the_database_prepares_itself_with_the_script_and_its_passwords(made: set[str]) -> None:
    script = Path(behind("postgres", "/docker-entrypoint-initdb.d"), "10-grafana.sh")
    assert os.access(script, os.X_OK)
    (path,) = re.findall(r"/run/secrets/\w+", script.read_text())
    assert is_secret(behind("postgres", path), made)


def test_prometheus_reads_its_rules_and_asks_who_is_there() -> None:
    (option,) = [word for word in SERVICES["prometheus"]["command"] if word.startswith("--config.file=")]
    configuration = Path(behind("prometheus", option.split("=")[1]))
    said = yaml.safe_load(configuration.read_text())
    assert all((configuration.parent / rules).is_file() for rules in said["rule_files"])
    targets = [target for job in said["scrape_configs"] for part in job["static_configs"] for target in part["targets"]]
    for target in targets:
        host, port = target.split(":")
        host = "prometheus" if host == "127.0.0.1" else host
        assert int(port) in LISTENS[host], target
        assert set(SERVICES[host]["networks"]) & set(SERVICES["prometheus"]["networks"]), target


def test_each_program_is_given_its_own_secrets_and_no_others() -> None:
    for name in SERVICES:
        held = {source.removeprefix("secrets-") for source, _ in mounts(name).values() if source.startswith("secrets-")}
        if name == "secrets":
            assert held == set(setup.OWNERS)
        elif name == "setup-influx":
            assert held == {"influxdb", *setup.INFLUX_TOKENS}
        elif name == "setup-simulator":
            assert held == {"simulator", "riverchief"}
        else:
            assert len(held) <= 1, name
            assert setup.AUTHORITY not in held, "the authority's key signs certificates: nobody needs it to run"


def test_each_program_runs_as_the_user_its_secrets_belong_to() -> None:
    for name in SERVERS:
        for target, (source, _) in mounts(name).items():
            if source.startswith("secrets-"):
                user = SERVICES[name].get("user") or dockerfile_user()
                assert int(user.split(":")[0]) == setup.OWNERS[source.removeprefix("secrets-")], (name, target)


def dockerfile_user() -> str:
    return re.findall(r"^USER (\S+)", Path("Dockerfile").read_text(), re.MULTILINE)[-1]


def test_no_password_is_written_down() -> None:
    for name in SERVICES:
        for variable, value in environment(name).items():
            if re.search(r"PASSWORD|TOKEN|SECRET_KEY", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert behind(name, value).startswith("secrets-"), f"{name}: {variable}"
    assert "secrets/" in Path(".gitignore").read_text(encoding="utf-8").splitlines()


# -- settings and ports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "service", sorted(name for name in SERVICES if SERVICES[name]["image"].startswith("riverchief"))
)
def test_every_variable_is_a_setting_and_the_settings_hold_together(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("RIVERCHIEF_")]:
        monkeypatch.delenv(name)
    for name, value in environment(service).items():
        assert is_setting(name), f"{service}: {name} would be ignored in silence"
        monkeypatch.setenv(name, value)
    loaded = load(None)
    if service == "riverchief":
        assert loaded.mqtt.host == "mosquitto"
        assert mounts(service)[str(loaded.data)] == ("riverchief", False)
        assert loaded.readings.archive is not None
        assert loaded.readings.archive.is_relative_to(loaded.data)


def test_bridge_and_workers_of_a_cluster_find_the_same_synced_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    given = environment("riverchief", env_of_sample())
    servers = json.loads(given["RIVERCHIEF_CLUSTER__SERVERS"])
    for name in ("ingest-1", "ingest-2"):
        assert json.loads(environment(name)["RIVERCHIEF_CLUSTER__SERVERS"]) == servers
    for url in servers:
        host, port = url.removeprefix("nats://").split(":")
        assert int(port) in LISTENS[host]
        assert f"nats://{host}:6222" in Path(behind(host, "/etc/nats/cluster.conf")).read_text()
        for who in ("riverchief", "ingest-1", "ingest-2"):
            assert set(SERVICES[who]["networks"]) & set(SERVICES[host]["networks"])
    assert "sync_interval: always" in Path("config/nats/cluster.conf").read_text()
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    loaded = load(None)
    assert loaded.cluster.servers
    assert not loaded.mqtt.republish
    for shared in ("RIVERCHIEF_SITE__RULES", "RIVERCHIEF_DATABASE__URL", "RIVERCHIEF_READINGS__KEEP_DAYS"):
        assert {environment(name)[shared] for name in ("ingest-1", "ingest-2")} == {given[shared]}


def env_of_sample() -> dict[str, str]:
    """The variables that config/stack.sample.env shows for a cluster."""
    lines = Path("config/stack.sample.env").read_text().splitlines()
    shown = dict(line.removeprefix("# ").split("=", 1) for line in lines if re.match(r"# [A-Z_]+=", line))
    return {name: shown[name] for name in ("CLUSTER_SERVERS", "REPUBLISH")}


def test_a_spelling_mistake_in_a_variable_would_be_found() -> None:
    assert is_setting("RIVERCHIEF_MQTT__HOST")
    assert not is_setting("RIVERCHIEF_MQTT__HOTS")
    assert not is_setting("RIVERCHIEF_MQTT__HOST__NAME")


def test_only_the_encrypted_broker_is_reachable_from_outside() -> None:
    public = {
        (name, port)
        for name, service in SERVICES.items()
        if not service.get("profiles")
        for port in [interpolated(port, {}) for port in service.get("ports", [])]
        if not port.startswith("127.0.0.1:")
    }
    assert public == {("mosquitto", "8883:8883")}


def test_every_published_port_is_one_the_program_listens_on() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert int(port.rsplit(":", 1)[1].removesuffix("/udp")) in LISTENS[name], name
            assert "edge" in service["networks"], f"{name} cannot publish from an internal network alone"


def test_the_ports_written_down_here_are_those_of_the_shipped_configuration() -> None:
    conf = Path("config/mosquitto/mosquitto.conf").read_text()
    assert {int(port) for port in re.findall(r"^listener (\d+)$", conf, re.MULTILINE)} == LISTENS["mosquitto"]
    assert {Settings().api.port, Settings().hj212.port, Settings().sl651.port} == LISTENS["riverchief"]
    (exposed,) = re.findall(r"^EXPOSE (.+)$", Path("Dockerfile").read_text(), re.M)
    assert {int(port) for port in exposed.split()} == LISTENS["riverchief"]


def test_who_is_asked_by_name_is_on_the_same_network() -> None:
    sources = yaml.safe_load((GRAFANA / "datasources/riverchief.yml").read_text())["datasources"]
    asked = {("grafana", *re.search(r"(\w+):(\d+)$", source["url"]).groups()) for source in sources}  # type: ignore[union-attr]
    for name in SERVICES:
        given = environment(name)
        if "RIVERCHIEF_MQTT__HOST" in given:
            asked.add((name, given["RIVERCHIEF_MQTT__HOST"], given["RIVERCHIEF_MQTT__PORT"]))
        if "RIVERCHIEF_INFLUX__URL" in given:
            asked.add((name, *given["RIVERCHIEF_INFLUX__URL"].removeprefix("http://").split(":")))
        if "RIVERCHIEF_DATABASE__URL" in given:
            asked.add((name, re.search(r"@(\w+)/", given["RIVERCHIEF_DATABASE__URL"])[1], "5432"))  # type: ignore[index]
    assert len(asked) >= 9
    for who, host, port in asked:
        assert int(port) in LISTENS[host], (who, host, port)
        assert set(SERVICES[who]["networks"]) & set(SERVICES[host]["networks"]), (who, host)


# -- order and health ------------------------------------------------------------------------------------------------


def test_whoever_reads_a_secret_waits_until_it_is_made() -> None:
    for name in SERVICES:
        if name != "secrets" and any(source.startswith("secrets-") for source, _ in mounts(name).values()):
            assert "secrets" in waits_for(name), name
    for name in ("riverchief", "grafana"):
        assert "setup-influx" in waits_for(name), f"{name} reads the token that it writes"


def test_every_condition_can_come_true() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_completed_successfully":
                assert other in ONCE, f"{name} waits for the end of {other}, which never ends"
            else:
                assert how["condition"] == "service_healthy"
                assert "healthcheck" in SERVICES[other], f"{name} waits for the health of {other}, which has no check"
            profiles = SERVICES[other].get("profiles", service.get("profiles"))
            assert profiles == service.get("profiles"), f"{name} waits for {other}, which does not always run"


def test_every_server_has_a_health_check_its_image_can_run() -> None:
    for name in SERVERS - {"simulator", "ingest-1", "ingest-2"}:  # they serve nobody
        how, program, *_ = SERVICES[name]["healthcheck"]["test"]
        assert how == "CMD"
        assert program in IN_IMAGE[image(name).split(":")[0]], name


def test_health_checks_ask_what_the_programs_answer() -> None:
    for name, service in SERVICES.items():
        for word in service.get("healthcheck", {}).get("test", []):
            for port in re.findall(r"http://127\.0\.0\.1:(\d+)/", word):
                assert int(port) in LISTENS[name], name
    test = SERVICES["mosquitto"]["healthcheck"]["test"]
    assert HEALTH_TOPIC in [word.replace("$$", "$") for word in test]
    assert int(test[test.index("-p") + 1]) in LISTENS["mosquitto"]
    assert SERVICES["riverchief"]["healthcheck"]["test"][1:] == json.loads(
        re.search(r"HEALTHCHECK .*\n\s+CMD (\[.+\])", Path("Dockerfile").read_text())[1]  # type: ignore[index]
    )


def test_the_commands_are_commands() -> None:
    from typer.testing import CliRunner

    from riverchief.cli.app import app

    for name, service in SERVICES.items():
        if service["image"].startswith("riverchief"):
            words = [word for word in service["command"] if not word.startswith(("-", "/"))]
            depth = 2 if words[0] == "setup" else 1
            told = CliRunner().invoke(app, [*words[:depth], "--help"])
            assert told.exit_code == 0, name
            plain = re.sub(r"\x1b\[[\d;]*m", "", told.output)
            for option in [word for word in service["command"] if word.startswith("--")]:
                assert option in plain, f"{name}: {option}"


# -- rights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_may_do_what_it_needs_and_no_more(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is (name != "emqx")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert {"mem_limit", "cpus", "pids_limit"} <= set(service), "without limits one service starves the others"
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    user = service.get("user", dockerfile_user()).split(":")[0]
    if name in ("secrets", "setup-influx"):
        assert user == "0"
        assert service["cap_add"] == ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
    else:
        assert user != "0" or name.startswith("nats")
        assert "cap_add" not in service
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")


def test_only_who_talks_to_the_outside_is_on_a_network_that_leads_there() -> None:
    leading_out = {name for name, network in COMPOSE["networks"].items() if not (network or {}).get("internal")}
    assert leading_out == {"edge"}
    assert SERVICES["secrets"]["network_mode"] == "none"
    for name in ("postgres", "influxdb"):
        assert SERVICES[name]["networks"] == ["store"]


# -- the broker's files, the image -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["mosquitto.conf", "simple.conf"])
def test_the_shipped_broker_configuration_keeps_and_does_not_throttle(file: str) -> None:
    lines = Path("config/mosquitto", file).read_text(encoding="utf-8").splitlines()
    assert {"persistence true", "max_queued_messages 0", "max_inflight_messages 8000", "autosave_interval 1"} <= set(
        lines
    )


@pytest.mark.parametrize("file", ["mosquitto.conf", "simple.conf", "certificates.conf"])
def test_only_riverchiefs_own_listener_lets_a_client_choose_its_session(file: str) -> None:
    """tests/system/test_dynsec.py tries it."""
    text = Path("config/mosquitto", file).read_text(encoding="utf-8")
    listeners = re.split(r"^listener ", text, flags=re.MULTILINE)[1:]
    free = {one.split()[0] for one in listeners if "use_username_as_clientid true" not in one.splitlines()}
    assert free <= {"1883"}


def test_the_sample_env_names_what_the_file_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+):-", FILE.read_text(encoding="utf-8")))
    sample = Path("config/stack.sample.env").read_text(encoding="utf-8")
    assert asked == set(re.findall(r"^# ([A-Z0-9_]+)=", sample, re.MULTILINE))


def test_the_image_runs_as_nobody_special_and_has_nothing_to_build_with() -> None:
    stages = re.split(r"^FROM ", Path("Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    names = {found[1] for stage in stages if (found := re.search(r" AS (\w+)$", stage.splitlines()[0]))}
    bases = {stage.split()[0] for stage in stages} - names
    assert bases == {"${PYTHON_IMAGE}"}, "the virtual environment fits the Python that it was made with"
    assert dockerfile_user() == f"{setup.OWNERS['riverchief']}:{setup.OWNERS['riverchief']}"
    assert not re.search(r"\b(pip|gcc|make|build-essential)\b", stages[-1])
    majors = {image("postgres").split(":")[1].split(".")[0], *re.findall(r"postgresql/(\d+)/", stages[-1])}
    assert len(majors) == 1, "pg_dump refuses a server that is newer than itself"
    assert f'version="{__version__}"' in stages[-1]


def test_the_libraries_are_installed_before_anything_that_changes_often_is_copied() -> None:
    stages = re.split(r"^FROM ", Path("Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    libraries = next(stage for stage in stages if " AS libraries" in stage.splitlines()[0])
    assert re.findall(r"^COPY (.+)$", libraries, re.MULTILINE) == ["pyproject.toml constraints.txt ./"]
    printing = re.search(r'^RUN python -c "(.+)" \\$', libraries, re.MULTILINE)
    assert printing is not None
    done = subprocess.run([sys.executable, "-c", printing[1]], capture_output=True, text=True, check=True)
    wanted = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert done.stdout.splitlines() == wanted


def test_what_the_image_is_built_from_is_all_that_is_sent_to_the_builder() -> None:
    ignored = [line for line in Path(".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    def left_out(path: str) -> bool:
        parts = PurePosixPath(path).parts
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        return any(
            fnmatch.fnmatch(part, pattern) or (pattern.startswith("**/") and fnmatch.fnmatch(part, f"*{pattern[2:]}"))
            for pattern in ignored
            for part in above
        )

    needed = ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "config/rules.toml", "dashboards/generated"]
    needed += [
        "riverchief/migrations/versions",
        "sensors/parameters.toml",
        "simulator/records",
        "simulator/scenarios",
        "api/pages",
    ]
    assert not [path for path in needed if left_out(path)]
    for path in (
        ".git",
        ".env",
        "secrets/api_token",
        "config/contacts.toml",
        "tests/rig.py",
        ".venv/bin/python",
        "riverchief/__pycache__/x.pyc",
    ):
        assert left_out(path), path
