"""Why a file is left out, in a few words that a person can act on."""

from __future__ import annotations

import re

_ACCEPTED = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|BM|P[1-7Ff]\s|II[*+]\0|MM\0[*+]|GIF8", re.DOTALL)
_REFUSED = {
    rb"%!PS|\xc5\xd0\xd3\xc6": "EPS",
    rb"8BPS": "PSD",
    rb"\0\0[\1\2]\0": "ICO",
    rb"....ftyp(hei|hev|mif1|msf1)": "HEIC (convert it to JPEG or PNG)",
    rb"....ftypavi[fs]": "AVIF (convert it to JPEG or PNG)",
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "JPEG 2000",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL",
    rb"%PDF": "PDF",
    rb"....[\x11\x12]\xaf": "FLI",
}


def reason_of(error: OSError) -> str:
    """A system error as the reason for leaving a file out."""
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"can't be read: {(error.strerror or str(error)).lower()}"


def what_it_is(head: bytes) -> str:
    """The reason for a file that Pillow does not know, by its first bytes (32 are enough)."""
    if _ACCEPTED.match(head):
        return "truncated, damaged in its header, or of a kind that can't be read"
    for pattern, name in _REFUSED.items():
        if re.match(pattern, head, re.DOTALL):
            return f"format not allowed: {name}"
    return "not an image"


def what_broke(error: Exception) -> str:
    """What a decoder raised, as a reason of one line."""
    if isinstance(error, OSError) and error.errno is not None:
        return reason_of(error)
    text = " ".join(str(error).split())
    if isinstance(error, EOFError) or re.search("truncat|incomplete|unexpected end", text, re.IGNORECASE):
        return f"truncated ({text})" if text else "truncated"
    return f"damaged ({text or type(error).__name__})"
