"""What to do about what the operating system refuses: the same words wherever it does."""

from __future__ import annotations

import errno

TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})
RIGHTS = frozenset({errno.EACCES, errno.EPERM})

_ADVICE = {
    **dict.fromkeys(TOO_MANY, "close files, or allow more of them (ulimit -n)"),
    **dict.fromkeys(RIGHTS, "check the permissions"),
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "choose a folder that may be written",
}


def refusal(error: OSError, otherwise: str = "") -> str:
    """What the system said, and what to do about it, or ``otherwise`` where that is not known here."""
    said = error.strerror or str(error)
    advice = _ADVICE.get(error.errno or 0, otherwise)
    return f"{said}; {advice}" if advice else said
