"""Hostile bytes for every parser that reads from a network, a card or a disk."""
