"""The audit trail: the chain of hashes (``trail``) and its Merkle proofs (``merkle``, pure).

Every package of governance may import it; it imports none of them. Signed roots and verification against the tables are
in ``governance.verification``.
"""
