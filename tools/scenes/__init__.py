"""Scenes drawn by ourselves, for the demo and for tests, where no real footage is at hand."""
