"""How figures are said on a terminal."""

UNKNOWN = "-"


def count(value: float | None) -> str:
    """A number of things, short."""
    if value is None:
        return UNKNOWN
    for least, scale, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / scale:.3g}{letter}"
    return f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A duration: microseconds and milliseconds below a second, minutes and hours beyond."""
    if value is None:
        return UNKNOWN
    if 0 < value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 120:
        return f"{value:.3g} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.3g} h"


def size(value: float | None) -> str:
    """Bytes, in powers of ten as networks have them."""
    if value is None:
        return UNKNOWN
    for scale, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.0f} B"


def rate(bytes_s: float | None) -> str:
    """Bits a second, as links are sold."""
    if bytes_s is None:
        return UNKNOWN
    bits = bytes_s * 8
    for scale, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bits >= scale:
            return f"{bits / scale:.3g} {unit}"
    return f"{bits:.0f} bit/s"


def share(value: float | None) -> str:
    """A part of a whole, in [0, 1]."""
    return UNKNOWN if value is None else f"{value:.0%}"
