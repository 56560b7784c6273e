"""Printed labels for cards and boxes: a PDF with one label on each page of 62 x 40 mm, as label printers take them.

fpdf2 and segno are imported only here. The code stands on it in clear: it opens the hub once, for one box.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from nvr.site_settings import host_name
from tools.nvrctl import records
from tools.nvrctl.identity import Identity

WIDTH_MM, HEIGHT_MM, MARGIN_MM, QR_MM = 62.0, 40.0, 2.0, 24.0


def qr_text(identity: Identity) -> str:
    """What a phone reads: a line for each fact, in words that a person understands too."""
    lines = [f"BOX {identity.box}", f"SITE {identity.site}", f"PLACE {', '.join(identity.places)}"]
    if identity.hub:
        lines += [f"HUB {identity.hub}", f"CODE {identity.code}"]
    lines.append(f"PAGE {page_address(identity)}")
    return "\n".join(lines)


def page_address(identity: Identity) -> str:
    return f"http://{host_name(identity.box)}.local:{identity.page_port}/"


def labels_pdf(identities: Sequence[Identity]) -> bytes:
    """A page for each card."""
    from fpdf import FPDF

    pdf = FPDF(orientation="landscape", unit="mm", format=(HEIGHT_MM, WIDTH_MM))
    pdf.set_margin(MARGIN_MM)
    pdf.set_auto_page_break(False)
    pdf.set_title("nvr cards")
    for identity in identities:
        pdf.add_page()
        _label(pdf, identity)
    return bytes(pdf.output())


def _label(pdf, identity: Identity) -> None:  # type: ignore[no-untyped-def]
    import segno

    picture = io.BytesIO()
    code = segno.make(qr_text(identity), micro=False, error="m")
    code.save(picture, kind="png", scale=8, border=1)
    picture.seek(0)
    pdf.image(picture, x=WIDTH_MM - MARGIN_MM - QR_MM, y=MARGIN_MM, w=QR_MM, h=QR_MM)
    left_mm = WIDTH_MM - 2 * MARGIN_MM - QR_MM - 1
    _line(pdf, identity.box, 13, left_mm, y=MARGIN_MM, bold=True)
    _line(pdf, identity.site, 8, left_mm, y=9)
    y = 13.0
    for place in identity.places[:3]:
        _line(pdf, place, 7, left_mm, y=y)
        y += 3.5
    if identity.code:
        _line(pdf, "code (once) / kode (sekali)", 5.5, WIDTH_MM - 2 * MARGIN_MM, y=26.5)
        _line(pdf, identity.code, 12, WIDTH_MM - 2 * MARGIN_MM, y=28.5, bold=True, font="Courier")
        _line(pdf, urlsplit(identity.hub).netloc, 6.5, WIDTH_MM - 2 * MARGIN_MM, y=33.2)
    _line(pdf, page_address(identity), 6.5, WIDTH_MM - 2 * MARGIN_MM, y=36)


def _line(
    pdf, text: str, points: float, width_mm: float, *, y: float, bold: bool = False, font: str = "Helvetica"
) -> None:  # type: ignore[no-untyped-def]
    """One line, set smaller until it fits."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    while True:
        pdf.set_font(font, "B" if bold else "", points)
        if pdf.get_string_width(text) <= width_mm or points <= 4:
            break
        points -= 0.5
    pdf.set_xy(MARGIN_MM, y)
    pdf.cell(width_mm, points * 0.42, text)


def save_labels(folder: Path, good: Sequence[Identity]) -> Path | None:
    if not good:
        return None
    path = folder / f"labels-{good[0].box}{f'-to-{good[-1].box}' if len(good) > 1 else ''}.pdf"
    records.write(path, labels_pdf(good))
    return path
