"""A small sample of each promise about scenes; `python -m tools.scenes eval` measures all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("numpy", reason="scenes are drawn with numpy (extra codecs)")
pytest.importorskip("av", reason="films are encoded with PyAV (extra codecs)")

from nvr.rules.congestion import Congestion
from nvr.rules.service_open import CONFIRM_S
from nvr.scene import Zone
from tools.scenes import __main__ as command
from tools.scenes import office, road, rows, score, view, waiting
from tools.scenes.row import Row


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (road.Phase(0, 250), "free"),
        (road.Phase(0, 1300, 8.0), "dense"),
        (road.Phase(0, 1000, 11.0, light_m=185.0, green_s=8, cycle_s=45), "jam"),
    ],
)
def test_congestion_says_what_the_street_is(phase, state):
    street = road.Street([phase], seed=5)
    for _ in street.run(120):  # it fills before anybody looks
        pass
    rule = Congestion(Zone("lane", road.zone(view.View())))
    events = [event for _, facts in rows.street_facts(street, 150, every_s=0.4) for event in rule.look(facts)]
    assert score.said_at(events, [street.at_s])[-1] == state


def test_a_breakdown_is_told_within_15_s_and_nothing_else():
    street = road.Street([road.Phase(0, 500)], [road.Breakdown(40, 60, 134.0)], seed=2)
    told = [event for event in rows._stops(street, 130, after_s=10.0) if not event.is_end]
    (span,) = street.standing()
    assert [0 < event.to_ns / 1e9 - span[1] <= 15 for event in told] == [True]


def test_a_red_light_is_no_incident():
    street = road.Street([road.Phase(0, 600, 11.0, light_m=152.0, green_s=30, cycle_s=60)], seed=6)
    assert rows._stops(street, 180) == []


def test_the_interval_of_a_queue_holds_the_truth():
    one = rows.queue_of([waiting.Rate(0, 110)], 300, seed=2)
    assert one.covered / one.total >= 0.9


@pytest.mark.parametrize("what", ["covered", "frozen", "box off", "no clock"])
def test_nobody_is_called_closed_through_a_camera_that_does_not_see(what):
    day = next(day for day in office.DAYS if day.name == f"{what} from before opening")
    judged = rows.day_of(replay_until(day, 9 * 3600))
    assert judged.lies == 0


def test_a_place_that_never_opens_is_called_closed():
    day = next(day for day in office.DAYS if day.name == "never opens")
    judged = rows.day_of(replay_until(day, 9 * 3600))
    assert judged.lies == 0
    assert judged.sure > 1000
    # The last minutes are never called closed (docs/decisions/0030-closed-is-said-of-the-past.md): the price of no false one. Only they are missing.
    assert judged.closed_missed == 0
    assert judged.closed_true - judged.closed_said <= CONFIRM_S + 2


def replay_until(day, until_s):
    return replace(day, until_s=until_s)


# -- scoring -----------------------------------------------------------------------------------------


def test_f1_counts_each_moment_for_the_class_it_was_and_the_one_that_was_said():
    found = score.counts(["a", "a", "b", "b"], ["a", "b", "b", "b"], [True] * 4)
    assert (found["a"].right, found["a"].wrong, found["a"].missed) == (1, 0, 1)
    assert (found["b"].right, found["b"].wrong, found["b"].missed) == (2, 1, 0)
    assert found["b"].f1 == pytest.approx(0.8)


def test_moments_beside_a_change_of_the_truth_are_not_graded():
    times = [float(second) for second in range(10)]
    assert score.settled(["a"] * 5 + ["b"] * 5, times, 2.0) == [True] * 4 + [False] * 3 + [True] * 3


def test_what_is_allowed_to_be_said_of_a_day():
    day = next(day for day in office.DAYS if day.name == "covered, nobody there")
    spell = day.wrong[0]
    assert day.truth_at(spell.from_s + 1) == {"cannot tell"}
    assert day.truth_at(7.6 * 3600) == {"cannot tell"}
    assert day.truth_at(8.5 * 3600) == {"open"}
    assert day.truth_at(spell.to_s + 1300) == {"closed"}


def test_the_table_takes_its_place_in_the_page_and_only_that():
    row = Row("queue", "a scene", "facts", "95 %", ">= 90 %", True)
    page = f"# Page\n\n{command.START}\nold\n{command.END}\n\nrest\n"
    new = command.with_section(page, command.table([row]))
    assert "old" not in new
    assert new.startswith("# Page\n\n")
    assert new.endswith("\n\nrest\n")
    assert "| queue | a scene | facts | 95 % | >= 90 % | yes |" in new
    assert command.with_section(new, command.table([row])) == new
    assert command.table([row]) in command.with_section("# Page\n", command.table([row]))
