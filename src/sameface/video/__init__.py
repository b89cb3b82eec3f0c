"""Who is in a video, and when: frames in, tracks of faces, one decision for each."""

from __future__ import annotations

try:
    from sameface.video.source import Frame, Video
except ModuleNotFoundError as error:
    needed = f"videos need {error.name}: pip install 'sameface[video]'"
    raise ModuleNotFoundError(needed, name=error.name) from error
from sameface.video.annotate import annotate_video
from sameface.video.identify import Timeline, Track, VideoSearch, Watcher, identify_video

__all__ = [
    "Frame",
    "Timeline",
    "Track",
    "Video",
    "VideoSearch",
    "Watcher",
    "annotate_video",
    "identify_video",
]
