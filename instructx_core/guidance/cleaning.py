"""Clean a prompt's text as Wan and its successors do: ftfy, HTML unescaped twice, single spaces.

One step of ftfy is left out: text decoded with the wrong encoding ("cafÃ©") is not repaired, which would take ftfy's
tables of such text. Everything else is what ftfy 6.3 does by default.
"""

from __future__ import annotations

import html
import re
import unicodedata
from html.entities import html5

QUOTES = dict.fromkeys((0x2BC, *range(0x2018, 0x201C)), "'") | dict.fromkeys(range(0x201C, 0x2020), '"')
LIGATURES = {
    0x132: "IJ", 0x133: "ij", 0x149: "\u02bcn", 0x1C4: "D\u017d", 0x1C5: "D\u017e", 0x1C6: "d\u017e", 0x1C7: "LJ",
    0x1C8: "Lj", 0x1C9: "lj", 0x1CA: "NJ", 0x1CB: "Nj", 0x1CC: "nj", 0x1F1: "DZ", 0x1F2: "Dz", 0x1F3: "dz",
    0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "\u017ft", 0xFB06: "st",
}  # fmt: skip
WIDTHS = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFF0)} | {0x3000: " "}
LINE_BREAKS = dict.fromkeys((0x0D, 0x2028, 0x2029), "\n")
CONTROLS = (*range(9), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
C1 = re.compile("[\x80-\x9f]")  # Windows-1252 bytes that were read as Latin-1
SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")
ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
TERMINAL = re.compile("\x1b\\[[\\d;]*[a-zA-Z]")


def cleaned(text: str) -> str:
    """`text` with plain quotes, standard-width letters and single spaces, no HTML entities or control characters."""
    lines, unescape = [], True
    for line in text.split("\n"):
        unescape = unescape and "<" not in line
        lines.append(_mended(line, unescape))
    whole = html.unescape(html.unescape("\n".join(lines)))
    return re.sub(r"\s+", " ", whole).strip()


def _mended(line: str, unescape: bool) -> str:
    """Fix a line until nothing changes, since one step may make work for another."""
    before = None
    while line != before:
        before = line
        if unescape:
            line = ENTITY.sub(_entity, line)
        line = C1.sub(_windows_1252, line).translate(LIGATURES).translate(WIDTHS).translate(QUOTES)
        line = SURROGATES.sub(_paired, line.translate(LINE_BREAKS))
        line = TERMINAL.sub("", line).translate(dict.fromkeys(CONTROLS))
        line = unicodedata.normalize("NFC", line)
    return line


def _entity(found: re.Match[str]) -> str:
    """Unescape an entity if all of it is one, else leave it."""
    said = found[0]
    if said[1] == "#":
        plain = html.unescape(said)
        return said if ";" in plain else plain
    if said[1:] in html5:
        return html5[said[1:]]
    small = said[1:].lower()  # &EACUTE; too, if no entity has just that name
    shouted = said == said.upper() and small in html5 and html.unescape(said) == said
    return html5[small].upper() if shouted else said


def _windows_1252(found: re.Match[str]) -> str:
    byte = found[0].encode("latin-1")
    return byte.decode("windows-1252") if byte not in b"\x81\x8d\x8f\x90\x9d" else found[0]


def _paired(found: re.Match[str]) -> str:
    """The character of a surrogate pair; U+FFFD for a lone surrogate."""
    return found[0].encode("utf-16", "surrogatepass").decode("utf-16") if len(found[0]) == 2 else "\ufffd"
