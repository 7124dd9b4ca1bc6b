"""The controls that widgets are made of: real ones of ipywidgets, which the keyboard and readers of screens reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from magpie_local.view.style import SCOPE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: What the views' style sheet leaves to do inside of widgets.
STYLE = f"""<style>
.{SCOPE} .widget-html,.{SCOPE} .widget-html-content{{font:inherit;line-height:inherit;margin:0;min-width:0;height:auto;
color:inherit;overflow:visible}}
.{SCOPE} .{SCOPE}{{margin:0;border:0;border-radius:0}}
.{SCOPE} .magpie-bar{{flex-flow:row wrap;align-items:center;gap:4px 8px;padding:4px 12px;overflow:visible;
border-top:1px solid var(--line)}}
.{SCOPE} .magpie-bar :is(input,button,select):focus-visible{{outline:2px solid var(--jp-brand-color1,#2f6feb);
outline-offset:1px}}
</style>"""


class Frame(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A frame that notices when a page is loaded again: it asks for the whole state of what it finds."""

    was_asked_for = False

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> Any:
        """Return its state; as ipywidgets', which also opens it with that."""
        if key is None and self.comm is not None:
            self.was_asked_for = True
        return super().get_state(key=key, drop_defaults=drop_defaults)


def html(value: str = "") -> Any:
    """Return a place for HTML."""
    return ipywidgets.HTML(value=value)


def button(text: str, tooltip: str, clicked: Callable[[], None]) -> Any:
    """Return a button."""
    made = ipywidgets.Button(description=text, tooltip=tooltip, layout={"width": "auto"})
    made.on_click(lambda _button: clicked())
    return made


def toggle(text: str, tooltip: str, changed: Callable[[bool], None], *, value: bool) -> Any:
    """Return a button that stays pressed."""
    made = ipywidgets.ToggleButton(description=text, tooltip=tooltip, value=value, layout={"width": "auto"})
    made.observe(lambda change: changed(change["new"]), names="value")
    return made


def field(
    placeholder: str, tooltip: str, changed: Callable[[str], None], *, value: str = "", at_once: bool = True
) -> Any:
    """Return a field for text, which tells of each key, or else of what was entered."""
    made = ipywidgets.Text(value=value, placeholder=placeholder, tooltip=tooltip, continuous_update=at_once)
    made.observe(lambda change: changed(change["new"]), names="value")
    return made


def choice(label: str, tooltip: str, changed: Callable[[], None]) -> Any:
    """Return a list of which one is chosen; `changed` is also called while `offer` changes what it offers."""
    made = ipywidgets.Dropdown(options=[], description=label, tooltip=tooltip)
    made.observe(lambda _change: changed(), names="value")
    return made


def offer(chooser: Any, options: Sequence[tuple[str, str]]) -> None:
    """Have a list offer `options`, of (text, value); what was chosen stays so, or else the first is."""
    if tuple(options) == tuple(chooser.options):
        return
    chosen = chooser.value
    chooser.options = tuple(options)
    values = [value for _, value in options]
    chooser.value = chosen if chosen in values else values[0] if values else None


def bar(*children: Any) -> Any:
    """Return controls side by side."""
    made = ipywidgets.HBox(children)
    made.add_class("magpie-bar")
    return made


def framed(children: Sequence[Any], name: str) -> Any:
    """Return a whole widget: its parts below each other in a frame as the views', with a class of its own."""
    made = Frame(children)
    made.add_class(SCOPE)
    made.add_class(name)
    return made


def write(place: Any, value: str) -> int:
    """Have a place show HTML; returns how many characters that sends, none where it does already."""
    if place.value == value:
        return 0
    place.value = value
    return len(value)


def leave(box: Any, value: str) -> None:
    """Put HTML in the place of all that a box holds."""
    before, box.children = box.children, (html(value),)
    for child in before:
        close(child)


def close(widget: Any) -> None:
    """End a widget with all its parts: the front end and the saved notebook forget them."""
    for child in getattr(widget, "children", ()):
        close(child)
    style = getattr(widget, "style", None)
    for one in (style, widget.layout, widget):
        if isinstance(one, ipywidgets.Widget):
            one.close()
