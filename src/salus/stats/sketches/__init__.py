"""Mergeable summaries of a column in bounded memory; profile(a) merged with profile(b) is profile(a + b)."""
