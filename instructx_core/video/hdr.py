"""HDR10 static metadata: the mastering display, and how bright the content gets."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

_MASTERING = struct.Struct("=20i2i")  # FFmpeg's AVMasteringDisplayMetadata: ten fractions, and which are set


@dataclass(frozen=True)
class Hdr:
    """HDR10 metadata from the SEI messages of H.264 and HEVC, which players use for tone mapping.

    Attributes:
        mastering: chromaticities x, y of red, green, blue and white, then minimum and maximum luminance [cd/m2]; None
            if not given.
        light: the brightest pixel and the brightest frame's mean [cd/m2], or None.
    """

    mastering: tuple[Fraction, ...] | None
    light: tuple[int, int] | None

    def x264_params(self) -> str:
        """The same as x264 options."""
        said = []
        if self.mastering:
            red, green, blue, white = (
                ",".join(str(round(value * 50_000)) for value in self.mastering[at : at + 2]) for at in (0, 2, 4, 6)
            )
            least, most = (round(value * 10_000) for value in self.mastering[8:])
            said.append(f"mastering-display=G({green})B({blue})R({red})WP({white})L({most},{least})")
        if self.light:
            said.append(f"cll={self.light[0]},{self.light[1]}")
        return ":".join(said)


def hdr_of(side_data: Mapping[str, bytes]) -> Hdr | None:
    """The metadata in a frame's side data; None if there is none."""
    mastering, light = side_data.get("MASTERING_DISPLAY_METADATA", b""), side_data.get("CONTENT_LIGHT_LEVEL", b"")
    values = None
    if len(mastering) >= _MASTERING.size:
        *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(mastering)
        if has_primaries and has_luminance and all(numbers[1::2]):
            values = tuple(Fraction(over, under) for over, under in zip(numbers[::2], numbers[1::2], strict=True))
    levels = struct.unpack_from("=2I", light) if len(light) >= 8 else None
    return Hdr(values, levels) if values or levels else None
