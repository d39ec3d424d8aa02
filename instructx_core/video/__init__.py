"""Read and write video files frame by frame, with `VideoReader` and `VideoWriter`.

Memory use does not grow with the length of the video. The reader passes a file's properties (`VideoInfo`) to the
writer, so that an edited file keeps them:

- *Time*: each frame keeps its timestamp, so constant and variable frame rates both work. No B-frames are written: then
  decoding order is display order, and timestamps and durations are exact in every container.
- *Rotation*: frames are returned upright. The writer turns them back and repeats the tag, so that a phone's portrait
  clip stays what it was; if PyAV cannot write the tag (before 18), upright pixels without a tag look the same.
- *Colour*: see colour.py. More than 8 bits are rounded to 8.
- *Alpha* is composited on white, as in images (also for VP8 and VP9).
- *Interlaced* video is deinterlaced, see deinterlace.py.
- *Sound, subtitles, chapters, tags*: see other_tracks.py.
- *Size*: kept exactly. H.264 supports odd sizes only without chroma subsampling, so these are written as 4:4:4, which
  most desktop players show and some hardware decoders do not; even sizes are 4:2:0, which everything plays.
- *Animated images* (GIF, WebP, PNG, AVIF) are videos too, read through Pillow with transparency on white. GIF is also
  an output format, with 256 colours chosen per frame.
- *Containers*: only those that hold their own pictures, see container.py: no playlist can read another file.
- *Loss*: whatever is not carried over from a file is logged, one line each.
- *Damage*: what can be decoded is returned at its own time; the rest is skipped and counted in one logged warning.
"""

from .colour import Colour
from .info import VideoInfo
from .length import has_more_frames
from .reader import VideoReader, probe
from .trial import check_writer
from .writer import DEFAULT_FPS, VIDEO_SUFFIXES, VideoWriter

__all__ = [
    "DEFAULT_FPS",
    "VIDEO_SUFFIXES",
    "Colour",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "check_writer",
    "has_more_frames",
    "probe",
]
