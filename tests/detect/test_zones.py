"""Zones and lines: entering, wavering, dwelling, crossing."""

from __future__ import annotations

from nvr.detect.zones import LineKeeper, ZoneKeeper
from nvr.scene import Line, Rect, Track, Zone

LEFT = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
GATE = Line("gate", (0.2, 0.5), (0.8, 0.5))  # drawn from left to right: downwards is to the right
S = 1_000_000_000


def track(
    x: float, foot: float, *, number: int = 1, has_moved: bool = True, first_ns: int = 0, detections: int = 50
) -> Track:
    rect = Rect(x - 0.03, foot - 0.2, x + 0.03, foot)
    return Track(number, "person", 0.7, rect, first_ns, 0, detections, (0.0, 0.0), 0.0, has_moved, 0)


def crossings(feet: list[float], *, x: float = 0.5, moved_from: int = 0) -> list[bool]:
    keeper = LineKeeper((GATE,), 16 / 9)
    return [
        crossing.is_to_right
        for number, foot in enumerate(feet)
        for crossing in keeper.crossings((track(x, foot, has_moved=number >= moved_from),), number * S // 5)
    ]


def test_a_foot_that_goes_over_the_line_crosses_once_and_in_its_direction():
    assert crossings([0.3, 0.4, 0.45, 0.55, 0.6, 0.7]) == [True]
    assert crossings([0.7, 0.6, 0.4]) == [False]
    assert crossings([0.3, 0.6, 0.3]) == [True, False]


def test_a_foot_that_trembles_on_the_line_does_not_cross():
    assert crossings([0.45, 0.495, 0.505, 0.497, 0.503, 0.495, 0.45]) == []


def test_the_line_ends_where_it_was_drawn():
    assert crossings([0.3, 0.7], x=0.9) == []


def test_what_was_not_known_to_move_yet_crosses_as_soon_as_it_is():
    assert crossings([0.4, 0.6, 0.65, 0.7], moved_from=3) == [True]
    assert crossings([0.4, 0.6, 0.65, 0.7], moved_from=99) == []


def test_the_stay_begins_with_the_first_detection_and_survives_two_seconds_outside():
    keeper = ZoneKeeper((LEFT,))
    keeper.facts((track(0.3, 0.5, first_ns=S, detections=3),), None, 2 * S)
    keeper.facts((track(0.52, 0.5),), None, 3 * S)
    facts = keeper.facts((track(0.3, 0.5),), None, 4 * S)[0]
    assert facts.tracks[0].entered_ns == S
    assert facts.tracks[0].dwell_ns(4 * S) == 3 * S


def test_who_comes_back_later_stays_anew():
    keeper = ZoneKeeper((LEFT,))
    keeper.facts((track(0.3, 0.5),), None, 2 * S)
    assert keeper.facts((track(0.7, 0.5),), None, 5 * S)[0].tracks == ()
    assert keeper.facts((track(0.3, 0.5),), None, 6 * S)[0].tracks[0].entered_ns == 6 * S


def test_the_whole_picture_is_the_last_zone():
    facts = ZoneKeeper((LEFT,)).facts((track(0.9, 0.9),), None, 0)
    assert [zone.zone for zone in facts] == ["left", ""]
    assert [len(zone.tracks) for zone in facts] == [0, 1]


def test_what_never_moved_is_parked_and_not_present():
    facts = ZoneKeeper((LEFT,)).facts((track(0.2, 0.5, has_moved=False), track(0.3, 0.5, number=2)), None, 0)[0]
    assert [each.track.number for each in facts.present("person")] == [2]
    assert [each.track.number for each in facts.parked("person")] == [1]
    assert facts.present("car") == ()
