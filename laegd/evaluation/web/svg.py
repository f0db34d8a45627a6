"""Figures as inline SVG: text as text in the page's font, colours that follow the page, ids that are unique."""

import io
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from laegd.evaluation.chart_style import GRID, MUTED, plain_names
from laegd.evaluation.map_words import HAP_COLOUR, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Only these follow a dark page; all other colours mean something and stay as they are.
PAGE_COLOURS = {
    HAP_COLOUR: "var(--hap)",
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    "#ffffff": "var(--paper)",
}
UNSHOWABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML has no place for them
POINTERS = re.compile(r"url\(#([^)]+)\)")
FONT = re.compile(r"(font:[^;]*?px) [^;]*")
LONG_NUMBER = re.compile(r"(-?\d+\.\d{2})\d+")
SALT = "laegd"
HALO = "halo"  # words on a map
ENLARGED = 1.4  # pixels of the page for a point of the figure, at most


def showable(text: str) -> str:
    """Returns the text with a replacement character for every one that neither XML nor HTML can hold."""
    return UNSHOWABLE.sub("\ufffd", text)


def to_svg(figure: "Figure", name: str, label: str) -> str:
    """Returns a figure as an `<svg>` element of a page, the same bytes every time.

    Args:
        figure: Changed: halos around words are left to the page's style, as outlines they would be most of the file.
        name: Of the picture in the page; part of every id in it.
        label: What a reader hears who does not see it.
    """
    import matplotlib
    from matplotlib.text import Text

    texts: Any = figure.findobj(Text)
    for text in texts:
        if text.get_path_effects():
            text.set(path_effects=[], gid=HALO)
    content = io.BytesIO()
    with plain_names(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": SALT}):
        figure.savefig(content, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator")))
    root = ElementTree.fromstring(showable(content.getvalue().decode()))
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)  # the style would hold for the whole page
    for element in root.iter():
        _settle(element, name)
    width_px = ENLARGED * float(root.attrib["width"].removesuffix("pt"))
    for unwanted in ("width", "height", "version"):
        root.attrib.pop(unwanted, None)
    size = f"max-width: {width_px:.0f}px"
    root.attrib.update({"role": "img", "aria-label": label, "class": "picture", "style": size})
    return ElementTree.tostring(root, encoding="unicode")


def _settle(element: ElementTree.Element, name: str) -> None:
    """Drops namespaces, which HTML implies, and ties ids, colours and fonts to the page."""
    element.tag = element.tag.rpartition("}")[2]
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    for key, value in attributes.items():
        if key == "id":
            attributes[key] = f"{name}-{value}"
        elif key == "href":
            attributes[key] = f"#{name}-{value[1:]}" if value.startswith("#") else value
        elif key != "viewBox":
            attributes[key] = _themed(POINTERS.sub(rf"url(#{name}-\1)", value))
    if element.tag == "g":
        # matplotlib names every group; nothing points there
        if attributes.pop("id", "") == f"{name}-{HALO}":
            attributes["class"] = HALO
    element.attrib.clear()
    element.attrib.update(attributes)


def _themed(value: str) -> str:
    for colour, variable in PAGE_COLOURS.items():
        value = value.replace(colour, variable)
    return LONG_NUMBER.sub(r"\1", FONT.sub(r"\1 var(--font)", value))
