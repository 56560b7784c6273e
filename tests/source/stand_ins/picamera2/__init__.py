"""A stand-in for picamera2, for machines without a camera: same calls, drawn pictures, real H.264 by PyAV.

It has what `nvr/source/picamera.py` uses and nothing else. PICAMERA2_STAND_IN_WRITES names a file that gets everything the
encoder put out, so that a test can compare.
"""

from __future__ import annotations

import threading
import time


class Picamera2:
    def __init__(self, camera_num: int = 0) -> None:
        self.camera_num = camera_num
        self._encoders: list = []
        self._thread: threading.Thread | None = None
        self._is_stopping = threading.Event()

    @staticmethod
    def global_camera_info() -> list[dict[str, object]]:
        return [{"Model": "stand-in", "Num": 0}]

    def create_video_configuration(self, main: dict, controls: dict, lores: dict | None = None) -> dict:
        assert main["format"] == "YUV420"
        if lores is not None:  # the sensor's pictures are only made smaller (picamera2 manual, 4.2)
            assert lores["size"][0] <= main["size"][0] and lores["size"][1] <= main["size"][1]
        return {"main": main, "lores": lores, "controls": controls}

    def configure(self, configuration: dict) -> None:
        self._configuration = configuration

    def start_encoder(self, encoder, output, name: str = "main") -> None:
        encoder.begin(self._configuration, output, name)
        self._encoders.append(encoder)

    def start_recording(self, encoder, output, name: str = "main") -> None:
        self.start_encoder(encoder, output, name)
        self._thread = threading.Thread(target=self._capture, daemon=True)
        self._thread.start()

    def _capture(self) -> None:
        frame_us = self._configuration["controls"]["FrameDurationLimits"][0]
        start_s = time.monotonic()
        number = 0
        while not self._is_stopping.wait(max(0.0, start_s + number * frame_us / 1e6 - time.monotonic())):
            for encoder in self._encoders:
                encoder.encode(number, number * frame_us)
            number += 1

    def stop_recording(self) -> None:
        self._is_stopping.set()

    def close(self) -> None:
        pass
