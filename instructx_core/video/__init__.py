"""Video files, one frame at a time: frames in through `VideoReader`, out through `VideoWriter`.

Memory never grows with the length of the video. What a file says about itself (`VideoInfo`) travels from the reader to
the writer, so that an edited file keeps it:

- *Time*: each frame's own timestamp, so constant and variable frame rates both work. No B-frames are written: decoding
  order is then display order, and timestamps and durations are exact in every container.
- *Rotation*: frames are handed out upright. The writer turns them back and repeats the tag, so that a phone's portrait
  clip stays what it was; where PyAV cannot write the tag (before 18), upright pixels without a tag look the same.
- *Colour*: see colour.py. Deeper than 8 bits comes in rounded to 8.
- *Alpha* is put on white, as that of pictures is (VP8's and VP9's too).
- *Interlaced* pictures are deinterlaced, see deinterlace.py.
- *Sound, subtitles, chapters, tags*: see other_tracks.py.
- *Size*: exact. H.264 can only say odd sizes without chroma subsampling, so these are written as 4:4:4, which most
  desktop players show and some hardware decoders do not; even sizes are 4:2:0, which everything plays.
- *Animated images* (GIF, WebP, PNG, AVIF) are videos too, read through Pillow with transparency on white. GIF is also
  an output, of 256 colours chosen for each frame.
- *Containers*: only those that hold their own pictures, see container.py: no playlist reads another file.
- *Loss*: what of a file does not come through is said, each thing in one logged line.
- *Damage*: what can be decoded is handed out at its own time; what cannot is skipped and counted in one logged warning.
"""

from .colour import Colour
from .info import VideoInfo
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
    "probe",
]
