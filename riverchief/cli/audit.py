"""``riverchief audit``: verify, seal and prove the audit trail."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from governance.audit import merkle
from governance.audit import trail as audit_trail
from governance.audit.merkle import ProofInvalid
from governance.verification import roots
from infra import clock
from infra.database import Database
from infra.errors import ConfigurationError
from infra.texts import line, say
from infra.times import beijing, beijing_day
from riverchief import audit_sealing
from riverchief.cli.commands import Commands
from riverchief.cli.options import AsJson, DataFolder, SettingsFile, load, open_site
from riverchief.settings import Settings
from riverchief.terminal import err, out, progress_bar, save, tabulate

app = Commands("审计链：谁何时改了什么，有无篡改 · The trail of every change.")

Keys = Annotated[list[Path] | None, typer.Option("--key", help="公钥文件 PEM，可多次 · public key, may be repeated")]


@app.command()
def verify(
    settings: SettingsFile = None,
    data: DataFolder = None,
    roots_file: Annotated[
        Path | None,
        typer.Option("--roots", help="库外保存的默克尔根 · the roots kept outside; default: audit.roots_file"),
    ] = None,
    key: Keys = None,
    as_json: AsJson = False,
) -> None:
    """核验整条链，指出被改、删、换、截的条目 · Verify the whole trail; exit code 1 names what is wrong."""
    with _open(settings, data) as (loaded, database):
        keys = (
            [one for file in key for one in audit_sealing.read_public(file)]
            if key
            else audit_sealing.public_keys(loaded)
        )
        outside = audit_sealing.read_roots(roots_file) if roots_file else audit_sealing.outside_roots(loaded)
        with progress_bar(line("progress.verify")) as bar, database.read() as connection:
            found = roots.verify(connection, keys, outside, bar)
    if as_json:
        result = {
            "ok": found.ok,
            "entries": found.entries,
            "head": found.head,
            "roots": found.roots,
            "unsigned": found.unsigned,
            "signatures": bool(keys),
            "outside": len(outside),
            "faults": [roots.as_json(fault) for fault in found.faults],
        }
        out.print_json(data=result)
    else:
        for fault in found.faults:
            out.print(f"[red]✗[/] {fault.wrong.value}: {fault.detail}", highlight=False, soft_wrap=True)
        mark, verdict = ("[green]✓[/]", "whole") if found.ok else ("[red]✗[/]", "not_whole")
        counts = {"entries": found.entries, "roots": found.roots, "unsigned": found.unsigned}
        text = line("audit.verified", verdict=say(f"audit.{verdict}"), outside=len(outside), **counts)
        out.print(f"{mark} {text}", highlight=False, soft_wrap=True)
        if not outside:
            out.print(line("audit.no_outside"), soft_wrap=True)
    if not found.ok:
        raise typer.Exit(1)


@app.command("list")
def list_entries(
    settings: SettingsFile = None,
    data: DataFolder = None,
    what: Annotated[str | None, typer.Option(help="如 incident.closed，registry · such as")] = None,
    kind: Annotated[str | None, typer.Option(help="对象类别 · kind of thing")] = None,
    id: Annotated[str | None, typer.Option("--id", help="对象编号 · id of the thing")] = None,
    by: Annotated[str | None, typer.Option(help="何人 · by whom")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 · at most so many")] = 50,
    as_json: AsJson = False,
) -> None:
    """列出条目，新的在前 · List entries, newest first."""
    with _open(settings, data) as (_, database), database.read() as connection:
        found = audit_trail.list_entries(connection, what=what, kind=kind, id=id, by=by, limit=limit)
    if as_json:
        out.print_json(data=[dataclasses.asdict(one) | {"body": json.loads(one.body)} for one in found])
        return
    rows = (
        (str(one.n), beijing(one.at_ms, "%Y-%m-%d %H:%M:%S"), one.by, one.what, f"{one.kind} {one.id}") for one in found
    )
    tabulate(("number", "at", "by", "what", "subject"), rows, "audit.none")


@app.command()
def seal(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """立即签一个默克尔根 · Sign a root now instead of within the hour."""
    with _open(settings, data) as (loaded, database):
        job = audit_sealing.sealing(loaded, database, clock.now_ms)
        made = job.seal()
        trouble = job.send()
    result = line("audit.nothing_new") if made is None else f"[green]✓[/] {made.size} {made.root}"
    out.print(result, highlight=False, soft_wrap=True)
    if trouble:
        err.print(f"[yellow]![/] {trouble}", highlight=False, soft_wrap=True)


@app.command()
def proof(
    n: Annotated[int, typer.Argument(help="条目编号 · number of the entry")],
    settings: SettingsFile = None,
    data: DataFolder = None,
    since: Annotated[int | None, typer.Option(help="手中旧默克尔根的条数 · size of an earlier root you hold")] = None,
    file: Annotated[Path | None, typer.Option("--out", help="写入文件 · write to a file")] = None,
) -> None:
    """一条目的证明，可离线核对 · The proof of one entry, to be checked anywhere."""
    with _open(settings, data) as (_, database), database.read() as connection:
        made = roots.proof(connection, n, since=since)
    text = json.dumps(made.as_json(), ensure_ascii=False, indent=1) + "\n"
    if file is None:
        sys.stdout.write(text)
        return
    save(file, text)
    out.print(f"[green]✓[/] {file}", highlight=False, soft_wrap=True)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="证明 · PROOF.json")], key: Keys = None) -> None:
    """离线核对一个证明，不需数据库 · Check a proof with a public key alone."""
    if not key:
        raise ConfigurationError(say("audit_root.which_key"))
    keys = [one for name in key for one in audit_sealing.read_public(name)]
    try:
        found = merkle.read_proof(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(say("file.unreadable", file=file, error=error.strerror)) from error
    try:
        merkle.check_proof(found, keys)
    except ProofInvalid as error:
        out.print(f"[red]✗[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    entry = found.entry
    out.print(
        f"[green]✓[/] {entry.n} · {beijing(entry.at_ms, '%Y-%m-%d %H:%M:%S')} · {entry.by} · {entry.what} · "
        f"{entry.kind} {entry.id} · {line('audit.root', size=found.root.size, day=beijing_day(found.root.at_ms))}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(entry.body, highlight=False, markup=False, soft_wrap=True)


@app.command()
def key(settings: SettingsFile = None, data: DataFolder = None) -> None:
    """显示公钥，供他人核对 · Show the public key, for those who check."""
    loaded = load(settings, data)
    for one in audit_sealing.public_keys(loaded) or [audit_sealing.signing_key(loaded).public_key()]:
        out.print(f"# {merkle.key_id(one)}", highlight=False)
        sys.stdout.write(audit_sealing.public_pem(one).decode())


@contextmanager
def _open(settings: Path | None, data: Path | None) -> Iterator[tuple[Settings, Database]]:
    loaded = load(settings, data)
    with open_site(loaded) as database:
        yield loaded, database
