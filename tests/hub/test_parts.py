"""The hub's parts by themselves: settings, migrations, group commit, upkeep, stills. SQLite in a folder of the test, a clock of the test."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, insert, select, text

from nvr import wire
from nvr.evidence import Identity
from nvr.hub import commands, database, stills, tables
from nvr.hub.checking import bounded, checked
from nvr.hub.committer import Item
from nvr.hub.database import DatabaseUnusable, Store, migrate, open_store
from nvr.hub.identity import Box
from nvr.hub.intake import Speaker
from nvr.hub.parts import Hub
from nvr.hub.people import tables as people_tables
from nvr.hub.settings import HubSettings, HubSettingsFaulty, load
from nvr.hub.uploads import UploadRefused
from tests.hub.conftest import wait_for

NOW_MS = 1_800_000_000_000


class Clock:
    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def hub(tmp_path, clock):
    """Not serving: its parts are called by the test."""
    hub = Hub(HubSettings(tmp_path / "hub"), clock)
    yield hub
    hub.store.close()


@pytest.fixture
def box(hub):
    return add_box(hub, "waihaong-1")


def add_box(hub, name) -> Box:
    identity = Identity.create()
    box = Box(identity.box_id.hex(), 1, name, identity.public_bytes)
    with hub.store.writing() as connection:
        connection.execute(
            insert(tables.box).values(
                id=box.id, tenant_id=1, name=name, site="waihaong", public_key=box.public_key.hex(), state="here", seen_ms=hub.now_ms(),
                enrolled_ms=1,
            )
        )  # fmt: skip
    return box


def rows(hub, table, *where):
    with hub.store.reading() as connection:
        return connection.execute(select(table).where(*where)).all()


# -- settings


def test_a_hub_without_a_file_is_complete(tmp_path):
    settings = load(tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/hub.db" and settings.objects_url == f"{tmp_path}/objects"


def test_the_command_line_goes_before_the_file(tmp_path):
    (tmp_path / "hub.yaml").write_text("listen: 0.0.0.0:443\ncity: {title: Kota Ambon}\n")
    settings = load(tmp_path, listen="127.0.0.1:1", database=None)
    assert (settings.listen, settings.city.title, settings.city.time_zone) == (
        "127.0.0.1:1",
        "Kota Ambon",
        "Asia/Jayapura",
    )


@pytest.mark.parametrize(
    "faulty",
    ["a", "[1]", "listne: x", "listen: 5", "city: {lat: 100}", "city: {time_zone: Asia/Ambon}", "city: {language: nl}", "city: {colour: red}",
     "database: mysql://x", "objects: ftp://x", "upload_most_mb: 0", "upload_most_mb: yes", "certificate: a.pem", "proxies: 5", "{1: 2}", "a: {{"],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_refused_by_name(tmp_path, faulty):
    (tmp_path / "hub.yaml").write_text(faulty)
    with pytest.raises(HubSettingsFaulty) as error:
        load(tmp_path)
    assert error.value.hint


# -- the database


def differences(store: Store) -> list:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, people_tables.metadata)  # the same one, with people's tables in it


def test_the_migrations_make_the_tables_that_the_program_has(hub):
    assert differences(hub.store) == []


@pytest.mark.postgres
def test_the_migrations_make_the_tables_that_the_program_has_in_postgresql(postgres, tmp_path):
    store = Store(postgres.database())
    with pytest.raises(DatabaseUnusable) as error:
        open_store(store.engine.url.render_as_string(hide_password=False), tmp_path)
    assert "nvr hub migrate" in error.value.hint
    assert migrate(store, tmp_path) == (None, database.newest_revision())
    assert differences(store) == []
    with store.reading() as connection:
        assert (
            connection.execute(text("SELECT relpersistence FROM pg_class WHERE relname = 'still_bytes'")).scalar_one()
            == "u"
        )
    store.close()


@pytest.mark.postgres
def test_several_processes_may_migrate_postgresql_at_once(postgres, tmp_path):
    url = postgres.database()
    faults = []

    def work() -> None:
        store = Store(url)
        try:
            migrate(store, tmp_path)
        except Exception as error:
            faults.append(error)
        store.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    store = Store(url)
    with store.reading() as connection:
        assert connection.execute(select(tables.tenant.c.name)).all() == [("city",)]
    store.close()


def test_a_database_of_a_newer_hub_is_refused(hub, tmp_path):
    with hub.store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnusable) as error:
        open_store(hub.settings.database_url, hub.settings.data_dir)
    assert "newer" in error.value.hint


def test_sqlite_syncs_each_commit(hub):
    with hub.store.writing() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1


def test_a_block_that_raises_leaves_nothing(hub):
    with pytest.raises(RuntimeError), hub.store.writing() as connection:
        connection.execute(insert(tables.tenant).values(name="harbour", title=""))
        raise RuntimeError
    assert [row.name for row in rows(hub, tables.tenant)] == ["city"]


# -- group commit


def message(kind, **body):
    return checked(wire.Message(kind, body))


def event_item(speaker, number, **more):
    event = {
        "camera": "gate",
        "kind": "service_open",
        "zone": "",
        "state": "open",
        "from_ms": NOW_MS,
        "to_ms": NOW_MS,
        **more,
    }
    return Item("event", speaker, message("event", id=f"{number:032x}", event=event), NOW_MS)


def commit(hub, *items):
    hub.committer.start()
    told = []
    for item in items:
        item.done = lambda error, item=item: told.append((item, error))
        hub.committer.put(item)
    hub.committer.stop()
    return [error for _, error in told]


def commit_until_stored(hub, item):
    """Like commit(), but the committer is not told to end before it is through."""
    told = []
    item.done = told.append
    hub.committer.start()
    hub.committer.put(item)
    wait_for(lambda: told, "it was stored")
    hub.committer.stop()
    return told


@pytest.fixture
def speaker(hub, box):
    speaker = Speaker(box, "connection")
    hello = message(
        "hello",
        box="waihaong-1",
        site="waihaong",
        cameras=[{"camera": "gate", "place": "harbour", "template": "traffic"}],
    )
    with hub.store.writing() as connection:
        hub.intake.apply(connection, [Item("hello", speaker, hello, NOW_MS)])
    return speaker


def test_one_that_cannot_be_stored_does_not_take_others_with_it(hub, speaker):
    ghost = Speaker(Box("ff" * 16, 1, "ghost", b""), "x", dict(speaker.cameras))  # a box that is not in the table
    items = [event_item(speaker, 1), event_item(ghost, 2), event_item(speaker, 3)]
    errors = commit(hub, *items)
    assert sorted(error is None for error in errors) == [False, True, True]
    assert [row.id for row in rows(hub, tables.event)] == [f"{1:032x}", f"{3:032x}"]


def test_a_newer_heartbeat_takes_the_place_of_one_that_waits(hub, speaker):
    for number in range(100):
        hub.committer.put(
            Item("heartbeat", speaker, message("heartbeat", number=number), NOW_MS, ("heartbeat", speaker.box.id))
        )
    assert hub.committer.depth == 1
    commit(hub)
    assert rows(hub, tables.box)[0].heartbeat == {"number": 99}


def test_pages_hear_at_once_of_a_camera_that_froze_or_stopped_and_of_nothing_else(hub, speaker):
    """They ask again every ten seconds anyway, and a frozen tile must say so within fifteen."""

    def told(**camera):
        with hub.store.reading() as connection:
            before = connection.execute(select(func.count()).select_from(tables.change)).scalar_one()
        camera = {"recording": True, "same_since_ms": 0, "fps": 25, **camera}
        item = Item("heartbeat", speaker, message("heartbeat", cameras={"gate": camera}), NOW_MS)
        with hub.store.writing() as connection:
            hub.intake.apply(connection, [item])
        hub.intake.committed()
        return [row.what for row in rows(hub, tables.change)[before:]].count("wall")

    told()
    assert [told(fps=24), told(fps=20, lost_packets=3)] == [0, 0]
    assert [told(same_since_ms=NOW_MS), told(same_since_ms=NOW_MS), told()] == [1, 0, 1]
    assert [told(recording=False), told(recording=False), told()] == [1, 0, 1]
    assert told(same_since_ms="nonsense", recording=None) == 1


def test_who_hears_of_events_is_in_the_same_transaction_and_may_fail(hub, speaker):
    heard = []

    def good(connection, told):
        connection.execute(insert(tables.tenant).values(name="alert", title=""))
        heard.extend(row["id"] for row in told)

    def bad(connection, told):
        connection.execute(insert(tables.tenant).values(name="half done", title=""))
        raise RuntimeError("alerts are broken")

    hub.on_events.extend([bad, good])
    assert commit(hub, event_item(speaker, 1)) == [None]
    assert heard == [f"{1:032x}"]
    assert {row.name for row in rows(hub, tables.tenant)} == {"city", "alert"}


# -- upkeep


def test_a_box_that_says_nothing_for_30_s_is_silent_and_comes_back(hub, speaker, clock):
    told = []
    hub.on_boxes.append(lambda connection, what, boxes: told.append((what, [row["name"] for row in boxes])))
    clock.ms += 29_000
    assert hub.upkeep.tell_silent() == []
    clock.ms += 2_000
    assert hub.upkeep.tell_silent() == [speaker.box.id]
    assert hub.upkeep.tell_silent() == []
    row = rows(hub, tables.box)[0]
    assert (row.state, row.since_ms) == ("silent", NOW_MS)
    with hub.store.writing() as connection:
        hub.intake.apply(connection, [Item("heartbeat", speaker, message("heartbeat"), clock.ms)])
    assert rows(hub, tables.box)[0].state == "here"
    assert told == [("silent", ["waihaong-1"]), ("back", ["waihaong-1"])]


def test_a_command_is_withdrawn_after_a_day(hub, box, clock):
    with hub.store.writing() as connection:
        command_id = hub.command(connection, tenant_id=1, box_id=box.id, do="restart", args={}, by="wati")
    with hub.store.reading() as connection:
        assert [row.id for row in commands.waiting(connection, box.id, clock.ms)] == [command_id]
    clock.ms += commands.KEPT_MS + 1
    assert hub.upkeep.withdraw_commands() == 1
    with hub.store.reading() as connection:
        assert commands.waiting(connection, box.id, clock.ms) == []
    assert rows(hub, tables.command)[0].withdrawn_ms == clock.ms


def begin(hub, box, number=0, size="10000"):
    import base64

    digest = base64.b64encode(f"{number:064x}".encode()).decode()
    kind = base64.b64encode(b"report").decode()
    return hub.uploads.create(box, size, f"sha256 {digest},kind {kind}")


def take(hub, box, upload, data, offset=0):
    import base64
    import hashlib

    return hub.uploads.take(
        box, upload.id, str(offset), f"sha256 {base64.b64encode(hashlib.sha256(data).digest()).decode()}", data
    )


def test_an_upload_that_nobody_touches_expires_with_its_pieces(hub, box, clock):
    upload = begin(hub, box)
    take(hub, box, upload, b"x" * 4096)
    assert list(hub.blobs.keys("pieces/"))
    clock.ms += 13 * 24 * 3600 * 1000
    assert hub.uploads.expire() == 0
    clock.ms += 2 * 24 * 3600 * 1000
    assert hub.uploads.expire() == 1
    assert not list(hub.blobs.keys("pieces/")) and not rows(hub, tables.upload)


def test_pieces_that_belong_to_nobody_go_on_the_second_look(hub, box):
    take(hub, box, begin(hub, box), b"x" * 4096)
    hub.blobs.put("pieces/" + "ab" * 16 + "/000000000000000-abcd", b"left by a killed process")
    hub.uploads.expire()
    assert len(list(hub.blobs.keys("pieces/"))) == 2
    hub.uploads.expire()
    assert len(list(hub.blobs.keys("pieces/"))) == 1


def test_a_box_that_begins_more_and_more_uploads_pushes_out_its_own(hub, box, clock):
    other = add_box(hub, "waihaong-2")
    begin(hub, other)
    for number in range(100):
        clock.ms += 1
        begin(hub, box, number)
    left = rows(hub, tables.upload, tables.upload.c.box_id == box.id)
    assert len(left) == 64 and max(row.touched_ms for row in left) == clock.ms
    assert len(rows(hub, tables.upload, tables.upload.c.box_id == other.id)) == 1


def test_a_hub_without_room_says_so_before_anything_is_sent(hub, box, monkeypatch):
    monkeypatch.setattr(hub.blobs, "free_bytes", lambda: 5_000_000)
    with pytest.raises(UploadRefused) as refused:
        begin(hub, box)
    assert refused.value.status == 507


def test_history_is_kept_for_its_days(hub, box, clock):
    minute = clock.ms // 60_000
    with hub.store.writing() as connection:
        for age_days in (0, 89, 91, 400):
            connection.execute(
                insert(tables.heartbeat_history).values(box_id=box.id, minute=minute - age_days * 1440, body={})
            )
    assert hub.upkeep.forget_history() == 2
    assert len(rows(hub, tables.heartbeat_history)) == 2


# -- changes


def test_what_changed_is_heard_by_another_process(hub, clock):
    from nvr.hub.changes import Changes

    other = Changes(Store(hub.settings.database_url), clock)

    async def hear() -> tuple:
        running = asyncio.create_task(other.run())
        heard = asyncio.create_task(anext(other.listen()))
        await asyncio.sleep(0.2)
        end_s = time.monotonic() + 60
        while not heard.done() and time.monotonic() < end_s:  # the other may not be listening yet
            with hub.store.writing() as connection:
                hub.changes.tell(connection, "boxes", ["one", "two"])
            await asyncio.sleep(0.3)
        running.cancel()
        return await heard

    assert asyncio.run(hear()) == ("boxes", ("one", "two"))


def test_a_listener_that_is_slow_hears_it_merged(hub):
    from nvr.hub.changes import IDS_MOST, _Ear

    ear = _Ear()
    ear.put("boxes", [1, 2])
    ear.put("boxes", [2, 3])
    ear.put("wall", range(IDS_MOST + 1))
    assert ear.take() == [("boxes", (1, 2, 3)), ("wall", ())]
    assert ear.take() == []


# -- stills and blobs


@pytest.mark.parametrize(
    ("captured_ms", "received_ms", "now_ms", "age_ms"),
    [(1000, 1500, 2000, 1000), (0, 1500, 2000, 500), (900_000, 1500, 2000, 500), (2500, 1500, 2000, 0)],
)
def test_the_age_of_a_still_is_never_less_than_is_known(captured_ms, received_ms, now_ms, age_ms):
    assert stills.age_ms(captured_ms, received_ms, now_ms) == age_ms


def test_a_still_that_a_power_cut_emptied_is_none(tmp_path):
    kept = stills.FolderStills(tmp_path)
    kept.put_newest(7, 1, 2, b"jpeg")
    assert kept.newest(7) == stills.Newest(1, 2, b"jpeg")
    kept.put_newest(7, 3, 4, b"jpg")  # shorter than the one before
    assert kept.newest(7) == stills.Newest(3, 4, b"jpg")
    whole = (tmp_path / "07" / "7").read_bytes()
    for cut in (b"", whole[:10], whole[:20] + bytes(len(whole) - 20)):
        (tmp_path / "07" / "7").write_bytes(cut)
        assert kept.newest(7) is None
    assert kept.newest(8) is None


def test_a_still_is_read_whole_while_it_is_written(tmp_path):
    kept, ended = stills.FolderStills(tmp_path), threading.Event()
    kept.put_newest(7, 0, 0, b"\0" * 100_000)

    def write() -> None:
        number = 0
        while not ended.is_set():
            number = (number + 1) % 250
            kept.put_newest(7, number, number, bytes([number]) * (50_000 + 200 * number))

    writer = threading.Thread(target=write)
    writer.start()
    seen = {kept.newest(7) for _ in range(200)} - {None}  # None: it lost the race five times, and is asked again
    ended.set()
    writer.join()
    assert seen and all(set(each.jpeg) == {each.captured_ms} for each in seen)


def test_messages_are_bounded():
    with pytest.raises(wire.WireError):
        bounded(json.loads("[" * 500 + "]" * 500), "x")
    with pytest.raises(wire.WireError):
        bounded([0] * 30_000, "x")
    assert bounded({"a\0": [float("inf"), 2**100, "x" * 10_000, True, None]}, "x") == {
        "a": [None, None, "x" * 4000, True, None]
    }


def test_what_a_failed_transaction_stored_is_stored_by_the_next_one(hub, speaker, monkeypatch):
    """The database took nothing the first time: states and history of the heartbeat are there all the same, once it does."""
    from sqlalchemy.exc import OperationalError

    body = {"states": [{"camera": "gate", "kind": "congestion", "zone": "", "state": "jam", "from_ms": NOW_MS}]}
    item = Item("heartbeat", speaker, message("heartbeat", **body), NOW_MS)
    tell, failed = hub.intake._tell, []

    def fail_once(connection, *, urgent):
        tell(connection, urgent=urgent)
        if not failed:
            failed.append(True)
            raise OperationalError("COMMIT", {}, Exception("disk full"))

    monkeypatch.setattr(hub.intake, "_tell", fail_once)
    assert commit_until_stored(hub, item) == [None] and failed
    assert [row.state for row in rows(hub, tables.state_now)] == ["jam"]
    assert len(rows(hub, tables.heartbeat_history)) == 1


def test_a_heartbeat_that_repeats_itself_still_corrects_what_an_event_made_of_the_state(hub, speaker):
    told = {"states": [{"camera": "gate", "kind": "congestion", "zone": "", "state": "free", "from_ms": NOW_MS}]}
    for item in (
        Item("heartbeat", speaker, message("heartbeat", **told), NOW_MS),
        event_item(speaker, 1, kind="congestion", state="jam", from_ms=NOW_MS + 1),
        Item("heartbeat", speaker, message("heartbeat", **told), NOW_MS),
    ):
        with hub.store.writing() as connection:
            hub.intake.apply(connection, [item])
        hub.intake.committed()
    assert [row.state for row in rows(hub, tables.state_now)] == ["free"]
