"""The colours of pages and pictures: by name, on light and on dark ground.

Charts are drawn in the light ones; on a page each becomes the CSS variable of its name.
"""

from __future__ import annotations

PALETTE: dict[str, tuple[str, str]] = {
    "ground": ("#fefefd", "#12161c"),
    "page": ("#f3f4f2", "#0b0e12"),
    "ink": ("#1a2028", "#e7ebf0"),
    "muted": ("#5c6672", "#9aa6b4"),
    "grid": ("#e2e5e8", "#2a323c"),
    "quiet": ("#b9c0c8", "#4a5562"),
    "onheat": ("#fffefe", "#081018"),
    "c0": ("#1f68c4", "#6fb1ff"),
    "c1": ("#d0680c", "#ffa75c"),
    "c2": ("#17804f", "#52cc93"),
    "c3": ("#8348c0", "#c9a4ff"),
    "c4": ("#c62f4b", "#ff8090"),
    "c5": ("#0d8496", "#57d0e0"),
    "c6": ("#85672f", "#dcbd7c"),
    "c7": ("#b83d88", "#ff9fd4"),
}
SERIES = tuple(name for name in PALETTE if name[0] == "c" and name[1:].isdecimal())


def light(name: str) -> str:
    """The colour on light ground."""
    return PALETTE[name][0]


def css() -> str:
    """The variables, for light ground, for dark, and for paper."""
    pale = "".join(f"--{name}:{pair[0]};" for name, pair in PALETTE.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in PALETTE.items())
    return (
        f":root{{color-scheme:light dark;{pale}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
    )


def as_variables(svg: str) -> str:
    """A picture drawn in the light colours, with the variables in their place."""
    for name, (colour, _) in PALETTE.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
