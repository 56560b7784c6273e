"""Bytes of every format version that was ever shipped, each with a readable dump beside it."""
