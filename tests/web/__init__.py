"""Tests of the page; a package so that its file names need not differ from those of other rooms."""
