"""The hub's pages: built by tools/pages.py from src/ into built/, served by serve.py."""
