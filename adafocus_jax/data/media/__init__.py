"""One video on disk becomes frames: video files, folders of frames, volumes. What is read, by name:

Containers, by FFmpeg's name, with the suffixes that a search of folders looks for (then the content decides, not the
suffix): ``mov`` .mp4 .m4v .mov .qt .3gp .3g2 .f4v, ``matroska`` .mkv .webm, ``avi`` .avi .divx, ``mpegts`` .ts .mts
.m2ts .m2t, ``mpeg`` .mpg .mpeg .mpe .vob, ``mpegvideo`` .m1v .m2v, ``asf`` .wmv .asf, ``flv`` .flv, ``ogg`` .ogv .ogm,
``gif`` .gif, ``rm`` .rm .rmvb, ``mxf`` .mxf, ``dv`` .dv, ``ivf`` .ivf, ``yuv4mpegpipe`` .y4m, ``h264`` .h264 .264,
``hevc`` .hevc .h265 .265. No playlist and no other format that names files is opened, and no address.

Codecs, by FFmpeg's name of the decoder: h264 hevc vvc av1 libdav1d vp8 libvpx vp9 libvpx-vp9 mpeg1video mpeg2video
mpegvideo mpeg4 msmpeg4v1 msmpeg4v2 msmpeg4 h261 h263 h263i flv vp3 vp5 vp6 vp6a vp6f vp7 theora wmv1 wmv2 wmv3 vc1 rv10
rv20 rv30 rv40 svq1 svq3 cinepak indeo3 indeo4 indeo5 msvideo1 msrle mjpeg jpeg2000 png gif prores dnxhd dvvideo cfhd
qtrle rpza smc rawvideo huffyuv ffvhuff ffv1 utvideo magicyuv lagarith hap flashsv flashsv2 zmbv

Folders of images that are numbered: .jpg .jpeg .png .webp .bmp. NIfTI volumes: .nii .nii.gz

Pictures come as a player shows them. Of several streams, the one that FFmpeg would play, never a cover. All eight
orientations of display matrices and of Exif are turned upright. Pixels become square: the width is multiplied by their
aspect ratio. Interlaced frames are rebuilt from one of their fields. High dynamic range (PQ and HLG) becomes that of
BT.709. All frames of a video get the size of its first one.

Seconds count from the first frame. Rates may vary, and the last frame lasts as long as its sample says. Where time
stamps start anew (files joined end to end, clocks that wrap) or jump ahead in a stream without index, time goes on. A
file that ends before four fifths of the length it states is truncated, and an error; transport streams and WMV files
that were cut do not state one.

Not read as they are meant: Dolby Vision without a compatible base layer (profile 5, wrong colours); the second eye of
stereoscopic video; subtitles and sound.

A file passes no limit of ``ReadLimits`` (pixels, frames, packets, seconds); what does not decode is a ``DecodeError``
that says why.
"""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.data.media.frame_folder import iter_folder as iter_folder
    from adafocus_jax.data.media.frames import Frame as Frame
    from adafocus_jax.data.media.kinds import Media as Media
    from adafocus_jax.data.media.kinds import find_media as find_media
    from adafocus_jax.data.media.kinds import media_kind as media_kind
    from adafocus_jax.data.media.kinds import media_stem as media_stem
    from adafocus_jax.data.media.resize import resize as resize
    from adafocus_jax.data.media.video import DecodedVideo as DecodedVideo
    from adafocus_jax.data.media.video import DecodeError as DecodeError
    from adafocus_jax.data.media.video import iter_frames as iter_frames
    from adafocus_jax.data.media.video import read_video as read_video
    from adafocus_jax.data.media.volume import iter_slices as iter_slices

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
