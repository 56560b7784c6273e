"""Texts the hub itself sends to people: notifications and tables, in Indonesian and English. Pages have their own words.

A message says what happened, where, since when (in the city's time) and what to do next; never a secret, never a person's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

INDONESIAN, ENGLISH = "id", "en"

# Kind and state of an alert -> what happened.
_HAPPENED: dict[str, dict[str, str]] = {
    "service_open/closed": {"id": "Tutup pada jam layanan", "en": "Closed in opening hours"},
    "queue/long queue": {"id": "Antrean panjang", "en": "Long queue"},
    "congestion/jam": {"id": "Macet", "en": "Traffic jam"},
    "stopped_vehicle/stopped": {"id": "Kendaraan berhenti di lajur", "en": "A vehicle stands in the lane"},
    "intrusion/intrusion": {"id": "Ada orang di luar jam", "en": "Somebody is there outside hours"},
    "loitering/loitering": {"id": "Ada yang terlalu lama di tempat", "en": "Somebody stays too long"},
    "crowd/crowd": {"id": "Kerumunan", "en": "Crowd"},
    "tamper/covered": {"id": "Kamera tertutup", "en": "Camera covered"},
    "tamper/out of focus": {"id": "Kamera tidak fokus", "en": "Camera out of focus"},
    "tamper/moved": {"id": "Kamera bergeser", "en": "Camera was moved"},
    "tamper/frozen": {"id": "Gambar beku", "en": "Picture frozen"},
    "tamper/looped": {"id": "Kamera mengulang gambar lama", "en": "Camera repeats old pictures"},
    "tamper/dark": {"id": "Terlalu gelap", "en": "Too dark to see"},
    "tamper/no picture": {"id": "Tidak ada gambar", "en": "No picture"},
    "camera/down": {"id": "Kamera mati", "en": "Camera down"},
    "camera/wrong clock": {"id": "Jam kamera salah", "en": "Camera clock is wrong"},
    "camera/wrong resolution": {"id": "Resolusi kamera salah", "en": "Camera resolution is wrong"},
    "camera/losing packets": {"id": "Jaringan kamera kehilangan data", "en": "Camera is losing packets"},
    "camera/damaged stream": {"id": "Data kamera rusak", "en": "Camera sends damaged data"},
    "not recording/not recording": {"id": "Tidak merekam", "en": "Not recording"},
    "footage missing/missing": {"id": "Rekaman hilang", "en": "Footage is missing"},
    "box silent/silent": {"id": "Kotak diam", "en": "Box is silent"},
    "disk/trouble": {"id": "Masalah disk kotak", "en": "Disk trouble on the box"},
    "disk/worn": {"id": "Kartu memori hampir aus", "en": "Memory card nearly worn out"},
    "box/site file": {"id": "Berkas lokasi kotak salah", "en": "Site file of the box is faulty"},
    "box/card file": {"id": "Berkas di kartu kotak salah", "en": "A file on the box's card is faulty"},
    "box/process": {"id": "Proses kotak macet", "en": "A process of the box hung"},
    "box/box busy": {"id": "Kotak terlalu sibuk untuk merekam semuanya", "en": "Box is too busy to record everything"},
    "asked/asked": {"id": "Instruksi", "en": "Instruction"},
}
_STEPS = {
    "opened": {"id": "", "en": ""},
    "again": {"id": "Terjadi lagi", "en": "Again"},
    "overdue": {"id": "LEWAT BATAS WAKTU", "en": "OVERDUE"},
}
_TEXTS = {
    "since": {"id": "sejak", "en": "since"},
    "times": {"id": "kali", "en": "times"},
    "alerts": {"id": "peringatan", "en": "alerts"},
    "waiting": {"id": "menunggu", "en": "waiting"},
    "missing_s": {"id": "detik hilang hari ini", "en": "seconds missing today"},
    "alarm": {"id": "ALARM", "en": "ALARM"},
    "more": {"id": "dan {count} lainnya", "en": "and {count} more"},
}
_DAYS = {
    "id": ("Sen", "Sel", "Rab", "Kam", "Jum", "Sab", "Min"),
    "en": ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
}


def happened(kind: str, what: str, language: str) -> str:
    """In words; what this program does not know is told as it came."""
    found = _HAPPENED.get(f"{kind}/{what}")
    return found[_known(language)] if found else f"{kind}: {what}"


def when(at_ms: int, zone: ZoneInfo, language: str) -> str:
    local = datetime.fromtimestamp(at_ms / 1000, zone)
    return f"{_DAYS[_known(language)][local.weekday()]} {local:%d.%m. %H:%M}"


def line(body: Mapping[str, Any], where: str, zone: ZoneInfo, language: str) -> str:
    """One alert in one line."""
    language = _known(language)
    step = _STEPS.get(str(body.get("what")), _STEPS["opened"])[language]
    parts = [
        f"{step}: " if step else "",
        f"{happened(str(body['kind']), str(body['state_of_event']), language)} · {where}",
    ]
    parts.append(f", {_TEXTS['since'][language]} {when(int(body['first_ms']), zone, language)}")
    numbers = body.get("numbers") or {}
    for key in ("waiting", "missing_s"):
        if key in numbers:
            parts.append(f", {numbers[key]:.0f} {_TEXTS[key][language]}")
    if int(body.get("count", 1)) > 1:
        parts.append(f" ({body['count']} {_TEXTS['times'][language]})")
    return "".join(parts)


def message(
    lines: Sequence[str], is_alarm: bool, city: str, address: str, language: str, left_out: int = 0
) -> tuple[str, str]:
    """Title and text of one notification that tells several alerts."""
    language = _known(language)
    count = len(lines) + left_out
    title = lines[0].split(" · ")[0] if count == 1 else f"{count} {_TEXTS['alerts'][language]}"
    text = list(lines)
    if left_out:
        text.append(_TEXTS["more"][language].format(count=left_out))
    if address:
        text += ["", f"{address.rstrip('/')}/alerts"]
    prefix = f"{_TEXTS['alarm'][language]} " if is_alarm else ""
    return f"{prefix}{city}: {title}", "\n".join(text)


def _known(language: str) -> str:
    return language if language in (INDONESIAN, ENGLISH) else INDONESIAN


# -- tables ------------------------------------------------------------------------------------------------------

COLUMNS: dict[str, dict[str, str]] = {
    "place": {"id": "Kode tempat", "en": "Place code"},
    "place_title": {"id": "Tempat", "en": "Place"},
    "day": {"id": "Tanggal", "en": "Date"},
    "hour": {"id": "Jam", "en": "Hour"},
    "due_s": {"id": "Wajib buka (detik)", "en": "Due open (s)"},
    "open_s": {"id": "Buka (detik)", "en": "Open (s)"},
    "closed_s": {"id": "Tutup (detik)", "en": "Closed (s)"},
    "cannot_tell_s": {"id": "Tidak dapat dipastikan (detik)", "en": "Cannot tell (s)"},
    "maybe_holiday_s": {"id": "Mungkin hari libur (detik)", "en": "May be a holiday (s)"},
    "kept": {"id": "Kepatuhan", "en": "Kept"},
    "due_from": {"id": "Wajib buka dari", "en": "Due from"},
    "due_to": {"id": "Wajib buka sampai", "en": "Due to"},
    "opened": {"id": "Terlihat buka pertama", "en": "First seen open"},
    "last_open": {"id": "Terlihat buka terakhir", "en": "Last seen open"},
    "visits": {"id": "Kunjungan", "en": "Visits"},
    "median_s": {"id": "Waktu tunggu median (detik)", "en": "Median wait (s)"},
    "p90_s": {"id": "Waktu tunggu persentil 90 (detik)", "en": "90th percentile wait (s)"},
    "longest_s": {"id": "Waktu tunggu terlama (detik)", "en": "Longest wait (s)"},
    "thing": {"id": "Jenis kendaraan", "en": "Class"},
    "direction": {"id": "Arah", "en": "Direction"},
    "count": {"id": "Jumlah", "en": "Count"},
}
THINGS = {
    "person": {"id": "orang", "en": "person"},
    "car": {"id": "mobil", "en": "car"},
    "truck": {"id": "truk", "en": "truck"},
    "bus": {"id": "bus", "en": "bus"},
    "two-wheeler": {"id": "roda dua", "en": "two-wheeler"},
    "animal": {"id": "hewan", "en": "animal"},
    "moving": {"id": "bergerak", "en": "moving"},
}


def cell(value: object) -> str:
    """For a table that people open in a spreadsheet: a text that begins like a formula is told as text."""
    text = "" if value is None else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
