"""Canonical JSON and the proofs of the trail, which hold without a database."""

import dataclasses
import hashlib
import json
import math

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from governance.audit import merkle
from governance.audit import trail as audit_trail
from governance.audit.merkle import GENESIS, AuditEntry, Proof, ProofInvalid, Tree
from tests.says import says

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BODY = '{"why":"已清理"}'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def by_the_book(leaves: list[bytes]) -> bytes:
    """The tree head as RFC 9162 §2.1.1 defines it."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + by_the_book(leaves[:k]) + by_the_book(leaves[k:])).digest()


def leaves_of(count: int) -> list[bytes]:
    return [merkle.leaf(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest()) for i in range(count)]


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=6))
def test_a_body_is_written_as_rfc_8785_says(body: dict[str, object]) -> None:
    def clean(value: object) -> object:
        if isinstance(value, str):
            return value.replace("\x00", "\\x00").encode("utf-8", "replace").decode()
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, dict):
            return {clean(key): clean(one) for key, one in value.items()}
        return [clean(one) for one in value] if isinstance(value, list) else value

    assert audit_trail.canonical(body) == rfc8785.dumps(clean(body)).decode()  # type: ignore[arg-type]


def test_numbers_and_order_of_a_body_are_those_of_the_standard() -> None:
    body = {"b": 1e21, "a": 0.000001, "中": -0.0, "c": 1e-7, "d": 4.50, "e": 1e16, "f": math.nan, "g": 2**60}
    assert audit_trail.canonical(body) == (
        '{"a":0.000001,"b":1e+21,"c":1e-7,"d":4.5,"e":10000000000000000,"f":null,"g":"1152921504606846976","中":0}'
    )


def test_a_body_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes"):
        audit_trail.canonical({"secret": b"x"})


@given(st.integers(1, 70))
def test_the_growing_tree_has_the_root_of_the_standard(count: int) -> None:
    leaves, tree = leaves_of(count), Tree()
    for one in leaves:
        tree.add(one)
    assert tree.root() == by_the_book(leaves).hex()
    again = Tree(tree.size, tree.peaks)
    again.add(leaves[0])
    assert again.root() == by_the_book([*leaves, leaves[0]]).hex()


@given(st.data())
def test_a_leaf_is_proven_at_its_place_and_nowhere_else(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 70))
    index = data.draw(st.integers(0, count - 1))
    other = data.draw(st.integers(0, count - 1))
    leaves = leaves_of(count)
    path, root = merkle.inclusion(leaves, index), by_the_book(leaves).hex()
    assert len(path) <= math.ceil(math.log2(count)) if count > 1 else path == []
    assert merkle.included(leaves[index], index, count, path, root)
    assert merkle.included(leaves[other], other, count, path, root) == (other == index)
    assert not merkle.included(leaves[index], index, count, path, by_the_book(leaves[::-1]).hex()) or count == 1
    assert not merkle.included(leaves[index], index, count, [*path, root], root)


@given(st.data())
def test_a_later_root_is_shown_to_continue_an_earlier_one(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 70))
    size = data.draw(st.integers(1, count))
    leaves = leaves_of(count)
    path, root, old = merkle.consistency(leaves, size), by_the_book(leaves).hex(), by_the_book(leaves[:size]).hex()
    assert merkle.consistent(size, old, count, root, path)
    forged = [leaves[0][::-1], *leaves[1:size]]
    assert not merkle.consistent(size, by_the_book(forged).hex(), count, root, path)
    if path:
        assert not merkle.consistent(size, old, count, root, path[:-1])


def proof(entry: int = 3, size: int = 6, earlier: int = 4) -> Proof:
    lines, prev = [], GENESIS
    for n in range(1, size + 1):
        line = AuditEntry(n, 1000 * n, "李河长（示例）", "chief", "incident.closed", "incident", "7", BODY, prev, "")
        prev = line.expected_hash()
        lines.append(dataclasses.replace(line, hash=prev))
    leaves = [merkle.leaf(line.hash) for line in lines]

    def root(of: int) -> merkle.Root:
        top = by_the_book(leaves[:of]).hex()
        return merkle.sign(KEY, size=of, root=top, head=lines[of - 1].hash, at_ms=5, origin="/river")

    return Proof(
        lines[entry - 1],
        root(size),
        tuple(merkle.inclusion(leaves, entry - 1)),
        root(earlier),
        tuple(merkle.consistency(leaves, earlier)),
    )


def test_a_proof_is_checked_with_a_file_and_a_public_key_alone() -> None:
    made = merkle.read_proof(json.dumps(proof().as_json()))
    assert made == proof()
    merkle.check_proof(made, [KEY.public_key()])
    with pytest.raises(ProofInvalid, match=says("audit_root.proof_key", size=made.root.size)):
        merkle.check_proof(made, [Ed25519PrivateKey.generate().public_key()])


@pytest.mark.parametrize(
    ("where", "what", "told"),
    [
        (("entry", "by"), "别人", says("audit_root.proof_entry", n=3)),
        (("entry", "body"), '{"why":"未清理"}', says("audit_root.proof_entry", n=3)),
        (("entry", "at_ms"), 1, says("audit_root.proof_entry", n=3)),
        (("entry", "n"), 4, says("audit_root.proof_entry", n=4)),
        (("entry", "hash"), "ab" * 32, says("audit_root.proof_entry", n=3)),
        (("inclusion",), [], says("audit_root.proof_not_under", n=3, size=6)),
        (("consistency",), [], says("audit_root.proof_not_continued", size=6, earlier=4)),
        (("root", "at_ms"), 6, says("audit_root.proof_signature", size=6)),
        (("root", "size"), 7, says("audit_root.proof_signature", size=7)),
        (("earlier", "root"), "ab" * 32, says("audit_root.proof_signature", size=4)),
    ],
)
def test_a_proof_changed_anywhere_does_not_hold(where: tuple[str, ...], what: object, told: str) -> None:
    found = proof().as_json()
    place = found
    for name in where[:-1]:
        place = place[name]
    place[where[-1]] = what
    with pytest.raises(ProofInvalid, match=told):
        merkle.check_proof(merkle.read_proof(json.dumps(found)), [KEY.public_key()])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "riverchief-audit-proof-1"}', "\xff"])
def test_what_is_no_proof_is_called_so(text: str) -> None:
    with pytest.raises(ProofInvalid):
        merkle.read_proof(text)
