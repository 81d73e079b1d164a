"""Merkle proofs of the audit trail: make and check them with a file and a public key alone. Pure.

An *entry* is one line of the trail. Its *record* is canonical JSON (RFC 8785) of everything it says, and its *hash* is
SHA-256 over the hash before it and the record: a chain, in which no line can be changed, taken out or put elsewhere
without every later hash changing. A *root* is the head of the Merkle tree (RFC 9162 §2.1, as in RFC 6962) over the
hashes of the first ``size`` entries, signed with Ed25519. Roots are kept outside the database.

- An *inclusion* proof shows that an entry is under a root; about log2(size) hashes.
- A *consistency* proof shows that a later root only added to what an earlier one covered.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from infra.errors import WaterError
from infra.texts import say

GENESIS = "0" * 64
"""The hash before the first entry."""

PROOF_FORMAT = "riverchief-audit-proof-1"
_SIGNED = b"riverchief audit root 1\n"
"""Prefix of the signed statement, so that the signature is valid for nothing else."""


class ProofInvalid(WaterError):
    """A proof is not valid; the message names the step that fails."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the trail as it is stored: ``body`` is canonical JSON text, ``at_ms`` ms UTC, hashes hexadecimal."""

    n: int
    at_ms: int
    by: str
    role: str
    what: str
    kind: str
    id: str
    body: str
    prev: str
    hash: str

    def expected_hash(self) -> str:
        """The hash this entry must have."""
        return chained(self.prev, self.record())

    def record(self) -> bytes:
        """The canonical JSON of what the entry says, without the hashes."""
        return (
            f'{{"at_ms":{self.at_ms},"body":{self.body},"by":{_quoted(self.by)},"id":{_quoted(self.id)},'
            f'"kind":{_quoted(self.kind)},"n":{self.n},"role":{_quoted(self.role)},"what":{_quoted(self.what)}}}'
        ).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Root:
    """A signed head: the tree over the first ``size`` entries, and the hash of the last of them (``head``).

    ``origin`` is the CloudEvents source of the installation, ``key`` names the key (:func:`key_id`), ``signature`` is
    base64.
    """

    size: int
    root: str
    head: str
    at_ms: int
    origin: str
    key: str
    signature: str = ""

    def statement(self) -> bytes:
        """The bytes that are signed."""
        statement = {name: value for name, value in asdict(self).items() if name != "signature"}
        return _SIGNED + json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether the signature is this key's."""
        try:
            key.verify(base64.b64decode(self.signature, validate=True), self.statement())
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True


def chained(prev: str, record: bytes) -> str:
    """The hash of an entry: SHA-256 over the 32 bytes of the hash before it and the record."""
    try:
        before = bytes.fromhex(prev)
    except ValueError:
        before = prev.encode()
    return hashlib.sha256(before + record).hexdigest()


def sign(key: Ed25519PrivateKey, *, size: int, root: str, head: str, at_ms: int, origin: str) -> Root:
    """A root with its signature."""
    unsigned = Root(size, root, head, at_ms, origin, key_id(key.public_key()))
    return Root(
        size, root, head, at_ms, origin, unsigned.key, base64.b64encode(key.sign(unsigned.statement())).decode()
    )


def key_id(key: Ed25519PublicKey) -> str:
    """A short name of a public key: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


# -- the tree ----------------------------------------------------------------------------------------------------------


def leaf(entry_hash: str) -> bytes:
    """The leaf of an entry; the byte before it keeps leaves and nodes apart (RFC 9162 §2.1.1).

    A hash that is not hexadecimal has the leaf of the empty string, which is under no root.
    """
    return hashlib.sha256(b"\x00" + _bytes(entry_hash)).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The node above two."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A growing tree that keeps only its peaks: one hash for each 1 in the binary digits of its size."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if len(self.peaks) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks, not {len(self.peaks)}")

    def add(self, leaf_: bytes) -> None:
        """Append a leaf."""
        size = self.size
        while size & 1:
            leaf_ = node(self.peaks.pop(), leaf_)
            size >>= 1
        self.peaks.append(leaf_)
        self.size += 1

    def root(self) -> str:
        """The root hash, hexadecimal; without leaves SHA-256 of the empty string."""
        if not self.peaks:
            return hashlib.sha256().hexdigest()
        top = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            top = node(peak, top)
        return top.hex()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The hash of a tree of at least one leaf."""
    tree = Tree()
    for one in leaves:
        tree.add(one)
    return bytes.fromhex(tree.root())


def inclusion(leaves: Sequence[bytes], index: int) -> list[str]:
    """The path from leaf ``index`` (from 0) to the root of ``leaves``, nearest first."""
    low, high = 0, len(leaves)
    if not 0 <= index < high:
        raise ValueError(f"leaf {index} is not among {high}")
    path: list[bytes] = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(root_of(leaves[middle:high]))
            high = middle
        else:
            path.append(root_of(leaves[low:middle]))
            low = middle
    return [one.hex() for one in reversed(path)]


def consistency(leaves: Sequence[bytes], size: int) -> list[str]:
    """The path that shows that the tree of the first ``size`` leaves is the beginning of the tree of all."""
    if not 0 < size <= len(leaves):
        raise ValueError(f"{size} is no earlier size of a tree of {len(leaves)}")
    low, high, whole = 0, len(leaves), True
    path: list[bytes] = []
    while size != high:
        middle = low + _split(high - low)
        if size <= middle:
            path.append(root_of(leaves[middle:high]))
            high = middle
        else:
            path.append(root_of(leaves[low:middle]))
            low, whole = middle, False
    if not whole:
        path.append(root_of(leaves[low:high]))
    return [one.hex() for one in reversed(path)]


def included(leaf_: bytes, index: int, size: int, path: Sequence[str], root: str) -> bool:
    """Whether the path leads from leaf ``index`` to the root of a tree of ``size`` leaves (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    at, last, found = index, size - 1, leaf_
    for step in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node(_bytes(step), found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, _bytes(step))
        at, last = at >> 1, last >> 1
    return last == 0 and found.hex() == root


def consistent(old_size: int, old_root: str, size: int, root: str, path: Sequence[str]) -> bool:
    """Whether the path shows that the tree of ``size`` begins with that of ``old_size`` (RFC 9162 §2.1.4.2)."""
    if not 0 < old_size <= size:
        return False
    if old_size == size:
        return not path and old_root == root
    steps = [_bytes(step) for step in path]
    if old_size & (old_size - 1) == 0:
        steps.insert(0, _bytes(old_root))
    if not steps:
        return False
    at, last = old_size - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node(step, old), node(step, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node(new, step)
        at, last = at >> 1, last >> 1
    return last == 0 and old.hex() == old_root and new.hex() == root


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


# -- a proof to hand out -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """Proof that an entry is under a signed root and, with an earlier root, that this root only added to it."""

    entry: AuditEntry
    root: Root
    inclusion: tuple[str, ...]
    earlier: Root | None = None
    consistency: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The proof as JSON; ``entry.body`` stays the text that was hashed."""
        return {"format": PROOF_FORMAT, **asdict(self)}


def read_root(found: Mapping[str, Any]) -> Root:
    """A root from its JSON; raises ProofInvalid."""
    try:
        names = ("size", "root", "head", "at_ms", "origin", "key", "signature")
        made = Root(**{name: found[name] for name in names})
    except (KeyError, TypeError) as error:
        raise ProofInvalid(say("audit_root.proof_root_lacks", name=error)) from None
    if not isinstance(made.size, int) or not isinstance(made.at_ms, int):
        raise ProofInvalid(say("audit_root.proof_root_numbers"))
    if not all(isinstance(text, str) for text in (made.root, made.head, made.origin, made.key, made.signature)):
        raise ProofInvalid(say("audit_root.proof_root_texts"))
    return made


def read_proof(text: str | bytes) -> Proof:
    """A proof from its JSON; raises ProofInvalid naming what is wrong."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ProofInvalid(say("audit_root.proof_no_json")) from None
    if not isinstance(found, dict) or found.get("format") != PROOF_FORMAT:
        raise ProofInvalid(say("audit_root.proof_format", format=PROOF_FORMAT))
    try:
        line = AuditEntry(**found["entry"])
        path, further = tuple(found["inclusion"]), tuple(found["consistency"] or ())
        earlier = None if found["earlier"] is None else read_root(found["earlier"])
        root = read_root(found["root"])
    except (KeyError, TypeError) as error:
        raise ProofInvalid(say("audit_root.proof_lacks", name=error)) from None
    texts = (line.by, line.role, line.what, line.kind, line.id, line.body, line.prev, line.hash, *path, *further)
    if not all(isinstance(one, str) for one in texts) or not all(isinstance(x, int) for x in (line.n, line.at_ms)):
        raise ProofInvalid(say("audit_root.proof_type"))
    return Proof(line, root, path, earlier, further)


def check_proof(proof: Proof, keys: Iterable[Ed25519PublicKey]) -> None:
    """Return when the proof is valid under one of the keys; else raise ProofInvalid naming the step that fails."""
    key_by_id = {key_id(key): key for key in keys}
    for root in (proof.root, proof.earlier):
        if root is None:
            continue
        if root.key not in key_by_id:
            raise ProofInvalid(say("audit_root.proof_key", size=root.size, key=root.key))
        if not root.signed_by(key_by_id[root.key]):
            raise ProofInvalid(say("audit_root.proof_signature", size=root.size))
    entry = proof.entry
    if entry.expected_hash() != entry.hash:
        raise ProofInvalid(say("audit_root.proof_entry", n=entry.n))
    if not included(leaf(entry.hash), entry.n - 1, proof.root.size, proof.inclusion, proof.root.root):
        raise ProofInvalid(say("audit_root.proof_not_under", n=entry.n, size=proof.root.size))
    earlier = proof.earlier
    if earlier is not None and not consistent(
        earlier.size, earlier.root, proof.root.size, proof.root.root, proof.consistency
    ):
        raise ProofInvalid(say("audit_root.proof_not_continued", size=proof.root.size, earlier=earlier.size))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
