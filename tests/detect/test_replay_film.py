"""`nvr detect replay` of a file that is no film."""

from __future__ import annotations

import pytest

from nvr.cli.detect import film_events
from nvr.errors import NvrError


def test_a_file_that_is_no_film_is_named_once(tmp_path):
    film = tmp_path / "g.h264"
    film.write_bytes(b"\x00\x00\x00\x01\x09\x10" * 100)
    with pytest.raises(NvrError) as caught:
        list(film_events(film, None))
    assert str(caught.value).count("g.h264: ") == 1
