"""The audit trail: a chain of hashes, Merkle proofs (pure), and signed roots."""
