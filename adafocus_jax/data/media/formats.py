"""What is read, by name: containers, codecs, images and volumes."""

from __future__ import annotations

FORMATS: dict[str, tuple[str, ...]] = {
    "mov": (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v"),
    "matroska": (".mkv", ".webm"),
    "avi": (".avi", ".divx"),
    "mpegts": (".ts", ".mts", ".m2ts", ".m2t"),
    "mpeg": (".mpg", ".mpeg", ".mpe", ".vob"),
    "mpegvideo": (".m1v", ".m2v"),
    "asf": (".wmv", ".asf"),
    "flv": (".flv",),
    "ogg": (".ogv", ".ogm"),
    "gif": (".gif",),
    "rm": (".rm", ".rmvb"),
    "mxf": (".mxf",),
    "dv": (".dv",),
    "ivf": (".ivf",),
    "yuv4mpegpipe": (".y4m",),
    "h264": (".h264", ".264"),
    "hevc": (".hevc", ".h265", ".265"),
}
"""The containers that are read, by FFmpeg's name, and the suffixes that their files have."""

CODECS = (
    *("h264", "hevc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9", "vvc"),
    *("mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "h261", "h263", "h263i"),
    *("flv", "vp3", "vp5", "vp6", "vp6a", "vp6f", "vp7", "theora", "wmv1", "wmv2", "wmv3", "vc1"),
    *("rv10", "rv20", "rv30", "rv40", "svq1", "svq3", "cinepak", "indeo3", "indeo4", "indeo5", "msvideo1", "msrle"),
    *("mjpeg", "jpeg2000", "png", "gif", "prores", "dnxhd", "dvvideo", "cfhd", "qtrle", "rpza", "smc", "rawvideo"),
    *("huffyuv", "ffvhuff", "ffv1", "utvideo", "magicyuv", "lagarith", "hap", "flashsv", "flashsv2", "zmbv"),
)  # fmt: skip
"""The video decoders that may run, by FFmpeg's name."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Of the images that a folder of frames may hold."""

VOLUME_SUFFIXES = (".nii", ".nii.gz")
"""Of NIfTI volumes."""

VIDEO_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""Of video files."""
