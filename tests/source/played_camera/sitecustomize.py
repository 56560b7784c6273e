"""Loaded by every Python that has this folder on its path; makes picamera2 work with libcamera's `virtual` pipeline, in the feeder only.

Only for tests, and only what a machine without the hardware lacks: the display (kms), raw sensor modes, dma-heaps, and a sensor's pace.
"""

import sys

if "nvr.source.feeder" in sys.orig_argv:
    import contextlib
    import time
    from unittest.mock import MagicMock

    sys.modules["kms"] = sys.modules["pykms"] = MagicMock(name="kms")
    import picamera2
    import picamera2.encoders
    import picamera2.picamera2 as room
    from picamera2.allocators import LibcameraAllocator
    from picamera2.allocators.allocator import Sync

    room.DmaAllocator = lambda: None
    room.Picamera2._get_raw_modes = lambda self: [{"format": "SRGGB8", "size": (1280, 720)}]
    _open = room.Picamera2.__init__
    _configuration = room.Picamera2.create_video_configuration
    _unmap = Sync.__exit__
    _encode = picamera2.encoders.LibavH264Encoder.encode

    def opened(self, *arguments, **options):
        _open(self, *arguments, **options)
        self.allocator = LibcameraAllocator(self.camera)

    def configured(self, *arguments, **options):
        # The pipeline gives NV12 only, of its own size; it has no frame duration to set.
        main = {**options.pop("main", {}), "format": "NV12"}
        options.pop("controls", None)
        found = _configuration(self, *arguments, main=main, raw=None, buffer_count=4, **options)
        found["sensor"], found["controls"] = None, {}
        return found

    def paced(self, *arguments, **options):
        time.sleep(0.04)  # frames come as fast as they are taken
        return _encode(self, *arguments, **options)

    def unmapped(self, *failure):
        # The encoder still holds the picture. A sensor's buffers stay mapped; these are mapped for each picture, and go with it.
        with contextlib.suppress(BufferError):
            _unmap(self, *failure)

    room.Picamera2.__init__ = opened
    room.Picamera2.create_video_configuration = configured
    picamera2.encoders.LibavH264Encoder.encode = paced
    Sync.__exit__ = unmapped
