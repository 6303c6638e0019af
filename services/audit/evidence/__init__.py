"""The formats of the evidence: audit rows, their hash chain, and the signed seals of its heads."""
