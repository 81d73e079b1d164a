"""Signed roots of the audit trail: sign, list, prove, and verify the trail against them.

The chain shows entries that were changed. An end that was cut off, or a chain written anew, shows only against signed
roots kept where the forger cannot reach them (`governance.audit.merkle`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from governance.audit import merkle
from governance.audit import trail as audit_trail
from governance.audit.merkle import GENESIS, Proof, Root, Tree
from governance.audit.trail import Fault, FaultKind, Verified
from governance.tables import audit_root as table
from governance.verification import comparison
from infra.errors import Refused
from infra.texts import say

_LOCATED_FAULTS = (FaultKind.CHANGED, FaultKind.MISSING, FaultKind.OUT_OF_ORDER)
"""Faults of the chain itself, which name the entry more exactly than a root can."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A new root, and the faults of the entries that it is the first to cover."""

    root: Root
    faults: Sequence[Fault]


def seal(connection: sa.Connection, key: Ed25519PrivateKey, *, origin: str, now_ms: int) -> Sealed | None:
    """Sign the trail as it stands now; None when a root covers all of it already.

    Only the entries since the last root are read and checked. A trail with faults is signed, too: the root records what
    it was at this time, and the faults are returned.
    """
    last = connection.execute(sa.select(table).order_by(table.c.size.desc()).limit(1)).one_or_none()
    before = (0, GENESIS) if last is None else (last.size, last.head)
    tree = Tree() if last is None else Tree(last.size, [bytes.fromhex(peak) for peak in last.peaks.split()])
    found = Verified()
    for line in audit_trail.walk(audit_trail.all_entries(connection, after_n=before[0]), found, before):
        tree.add(merkle.leaf(line.hash))
    if not found.entries:
        return None
    root = merkle.sign(key, size=tree.size, root=tree.root(), head=found.head, at_ms=now_ms, origin=origin)
    values = {name: getattr(root, name) for name in Root.__slots__}
    peaks = " ".join(peak.hex() for peak in tree.peaks)
    connection.execute(sa.insert(table).values(**values, peaks=peaks))
    return Sealed(root, found.faults)


def list_roots(connection: sa.Connection, *, unsent: bool = False) -> list[Root]:
    """All roots, oldest first; or those that have not yet reached every place outside."""
    query = sa.select(*(table.c[name] for name in Root.__slots__)).order_by(table.c.size)
    if unsent:
        query = query.where(table.c.sent_at_ms.is_(None))
    return [Root(**row._mapping) for row in connection.execute(query)]


def newest(connection: sa.Connection) -> Root | None:
    """The root of the most entries; None where there is none yet."""
    query = sa.select(*(table.c[name] for name in Root.__slots__)).order_by(table.c.size.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else Root(**row._mapping)


def newest_covering(
    connection: sa.Connection, n: int, keys: Iterable[Ed25519PublicKey], outside: Sequence[Root] = ()
) -> tuple[Root | None, bool]:
    """The newest root over entry ``n`` (None: there is none), and whether all such roots match the trail.

    Reads the hash of every entry under it. A root that none of the ``keys`` signed does not match; without keys
    signatures are not checked.
    """
    by_id = {merkle.key_id(key): key for key in keys}
    found: dict[int, list[Root]] = {}
    for root in (*list_roots(connection), *outside):
        if root.size >= n:
            found.setdefault(root.size, []).append(root)
    if not found:
        return None, True
    good = all(
        not by_id or (root.key in by_id and root.signed_by(by_id[root.key])) for some in found.values() for root in some
    )
    tree = Tree()
    for one in audit_trail.hashes(connection, max(found)):
        tree.add(merkle.leaf(one))
        if tree.size in found:
            good = good and {root.root for root in found[tree.size]} == {tree.root()}
    return found[max(found)][0], good and tree.size == max(found)


def mark_sent(connection: sa.Connection, root: Root, now_ms: int) -> None:
    """Record that a root has reached every place outside."""
    connection.execute(sa.update(table).where(table.c.size == root.size).values(sent_at_ms=now_ms))


def verify(
    connection: sa.Connection,
    keys: Iterable[Ed25519PublicKey],
    outside: Sequence[Root] = (),
    progress: Callable[[float], None] = lambda share: None,
) -> Verified:
    """Walk the whole trail; compare it with every root, ours and those kept ``outside``, and with cases and people.

    Without the roots from outside only what the database itself still knows can be missed. Without any key the roots
    are compared, but not their signatures. ``progress`` is told the share done, 0 to 1.
    """
    found = Verified()
    own = list_roots(connection)
    roots = _signed_roots((*own, *outside), keys, found)
    last, _ = audit_trail.head(connection)
    _find_missing_roots(roots, own, last, found)
    covered = _compare_with_roots(connection, roots, last, found, progress)
    comparison.compare(connection, found)
    beyond = max((size for size in roots if size > last), default=0)
    if beyond:
        audit_trail.add_fault(
            found, Fault(last + 1, FaultKind.CUT_OFF, beyond, f"entries {last + 1} to {beyond} are cut off")
        )
    found.unsigned = max(0, last - covered)
    found.faults.sort(key=lambda fault: (fault.n, fault.until))
    progress(1.0)
    return found


def _signed_roots(roots: Iterable[Root], keys: Iterable[Ed25519PublicKey], found: Verified) -> dict[int, set[str]]:
    """The hashes of the roots by size; one whose signature is not valid becomes a fault."""
    by_id = {merkle.key_id(key): key for key in keys}
    by_size: dict[int, set[str]] = {}
    for root in roots:
        if by_id and (root.key not in by_id or not root.signed_by(by_id[root.key])):
            why = "is not valid" if root.key in by_id else f"was made with key {root.key}, which was not given"
            detail = f"the signature of the root of {root.size} entries {why}"
            audit_trail.add_fault(found, Fault(root.size, FaultKind.SIGNATURE, root.size, detail))
        else:
            by_size.setdefault(root.size, set()).add(root.root)
    return by_size


def _find_missing_roots(roots: Mapping[int, set[str]], own: Iterable[Root], last: int, found: Verified) -> None:
    """Add a fault for roots kept outside that are not in the database."""
    missing = sorted(size for size in roots.keys() - {root.size for root in own} if size <= last)
    if missing:
        detail = f"{len(missing)} roots kept outside are not in the database, the first of {missing[0]} entries"
        audit_trail.add_fault(found, Fault(missing[0], FaultKind.ROOT_MISSING, missing[-1], detail))


def _compare_with_roots(
    connection: sa.Connection, roots: dict[int, set[str]], last: int, found: Verified, progress: Callable[[float], None]
) -> int:
    """Walk the trail and compare its tree with each root, which is taken out of ``roots``; the entries covered."""
    tree, covered, aligned, rewritten = Tree(), 0, True, False
    for line in audit_trail.walk(audit_trail.all_entries(connection), found):
        aligned = aligned and line.n == tree.size + 1
        if not aligned:  # after a missing entry, which is a fault, the others stand at other places than in the tree
            continue
        tree.add(merkle.leaf(line.hash))
        if signed := roots.pop(tree.size, None):
            if signed == {tree.root()}:
                found.roots += len(signed)
            elif not rewritten and not any(f.until > covered and f.wrong in _LOCATED_FAULTS for f in found.faults):
                rewritten = True  # no later root can fit
                detail = f"entries {covered + 1} to {tree.size} are not those that were signed"
                audit_trail.add_fault(found, Fault(covered + 1, FaultKind.REWRITTEN, tree.size, detail))
            covered = tree.size
        if line.n % 1000 == 0:
            progress(min(1.0, line.n / max(1, last)))
    return covered


def proof(connection: sa.Connection, n: int, *, since: int | None = None) -> Proof:
    """The proof that entry ``n`` is in the trail, under the newest root.

    ``since`` is the size of an earlier root that the newest must continue (default: the one before it). Raises NotFound
    where there is no such entry, Refused where no root covers it yet or there is no root of that size.
    """
    line = audit_trail.get(connection, n)
    roots = list_roots(connection)
    if not roots or roots[-1].size < n:
        raise Refused(say("audit_page.no_root_yet", n=n))
    newest = roots[-1]
    earlier = next((root for root in roots if root.size == since), None)
    if since is not None and earlier is None:
        sizes = ", ".join(str(root.size) for root in roots[-10:])
        raise Refused(say("audit_page.no_root", since=since, known=sizes))
    if earlier is None and len(roots) > 1:
        earlier = roots[-2]
    leaves = [merkle.leaf(one) for one in audit_trail.hashes(connection, newest.size)]
    if len(leaves) != newest.size:
        raise Refused(say("audit_page.cut", count=len(leaves), size=newest.size))
    path = merkle.inclusion(leaves, n - 1)
    further = merkle.consistency(leaves, earlier.size) if earlier else ()
    return Proof(line, newest, tuple(path), earlier, tuple(further))


def as_json(fault: Fault) -> Mapping[str, object]:
    """A fault as JSON."""
    return {"n": fault.n, "until": fault.until, "wrong": fault.wrong.value, "detail": fault.detail}
