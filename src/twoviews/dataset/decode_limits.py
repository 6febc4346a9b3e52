"""What decoding is fenced in by: Pillow's own switches, and a limit to the time that a file may take."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile


class TooSlowError(BaseException):
    """Not an Exception, so that no decoder takes it for a fault in the file and goes on."""


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Pillow's process-wide switches as the rules need them, put back afterwards.

    Another library may have asked Pillow to fill cut images with grey. Pillow's own limit on pixels is off,
    because it raises before the size can be read; the check in ``decode.py`` takes its place.
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = before


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop a decoder that a crafted file keeps busy for ``seconds`` of processor time.

    Processor time, so that a slow disk or a busy machine never changes which files are left out. Without
    signals (Windows, another thread than the main one) there is no limit.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TooSlowError

    handler = signal.signal(signal.SIGPROF, stop)
    remaining, _ = signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, remaining)
        signal.signal(signal.SIGPROF, handler)
