"""Who is in a video, and when: frames in, tracks of faces, one decision for each."""

from __future__ import annotations

from sameface.video.annotate import annotate_video
from sameface.video.identify import Timeline, Track, VideoSearch, Watcher, identify_video
from sameface.video.source import Frame, Video

__all__ = ["Frame", "Timeline", "Track", "Video", "VideoSearch", "Watcher", "annotate_video", "identify_video"]
