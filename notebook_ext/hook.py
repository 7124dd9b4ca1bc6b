"""What makes jobs, `client.jobs` and `client.workspaces` show themselves as widgets, where a notebook can.

Their own `_repr_mimebundle_` gets a widget's view beside HTML and text, and IPython is told to display them in outputs
that can be written again: a widget gives way to HTML there, and the saved notebook holds no dead view. ipywidgets is
imported when the first widget is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from magpie_local import MagpieError
from magpie_local.picture import add_to_pictures, remove_from_pictures
from notebook_ext import display
from notebook_ext.frontend import Frontend, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from magpie_local import AsyncMagpie
    from magpie_local.api.runtime import Runtime
    from notebook_ext.source import Source
    from notebook_ext.watch import Watch
    from notebook_ext.widgets.host import Host, Shown

VIEW = "application/vnd.jupyter.widget-view+json"
#: Whatever has a widget: module and class, so that none is imported.
_SHOWN = (
    ("magpie_local.api.models", "Job"),
    ("magpie_local.client", "Jobs"),
    ("magpie_local.aio", "AsyncJobs"),
    ("magpie_local.picture", "PicturedWorkspaces"),
    ("magpie_local.picture", "PicturedAsyncWorkspaces"),
)
#: The hook of this process's shell.
_loaded: dict[str, Hook] = {}


def loaded() -> Hook | None:
    """Return the hook, while the extension is loaded in a kernel."""
    return _loaded.get("")


def load(shell: InteractiveShell) -> None:
    """Show objects as widgets; loading twice is loading once. In a terminal there is nothing to do."""
    if not Frontend(shell).is_notebook or _loaded:
        return
    _loaded[""] = Hook(shell)
    _loaded[""].add()


def unload() -> None:
    """Show them as HTML and text again; widgets that are shown stay."""
    found = _loaded.pop("", None)
    if found is not None:
        found.remove()


class Hook:
    """Shows objects as widgets in one kernel."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._frontend = Frontend(shell)
        self._host: Host | None = None
        #: Widgets of views that were handed out, by the model's id.
        self._made: WeakValueDictionary[str, Shown] = WeakValueDictionary()

    @property
    def can_show(self) -> bool:
        """Whether the cell that runs can show a widget."""
        return self._frontend.has_widgets and bool(self._magics.live) and self._importable()

    def add(self) -> None:
        """Begin."""
        add_to_pictures(self._addition)
        for module, name in _SHOWN:
            self._formatter.for_type_by_name(module, name, self._display)

    def remove(self) -> None:
        """End."""
        remove_from_pictures(self._addition)
        for module, name in _SHOWN:
            self._formatter.pop(f"{module}.{name}", None)
        if self._host is not None:
            self._host.close()

    def show_job(self, source: AsyncMagpie | Source, watch: Watch) -> None:
        """Show a job in the running cell until its end."""
        from notebook_ext.widgets.job import JobWidget

        widget = JobWidget(self._opened(), source, watch)
        snapshot = watch.look()
        self._place(widget, display.bundle(snapshot))

    def _addition(self, shown: object, runtime: Runtime) -> Mapping[str, Any]:
        """Return the view of a widget for something that is about to be shown; it lives from now on."""
        if not self.can_show:
            return {}
        from notebook_ext.source import source_of
        from notebook_ext.widgets.making import make

        try:
            widget = make(self._opened(), shown, source_of(runtime))
        except (MagpieError, TimeoutError):  # what there is to show is shown without it
            return {}
        if widget is None:
            return {}
        self._made[widget.model_id] = widget
        widget.begin()
        return {VIEW: widget.view}

    def _display(self, shown: Any) -> None:
        """Display something where it can give way to HTML; IPython does that itself where there is no widget."""
        if not self.can_show:
            raise NotImplementedError
        bundle = dict(shown._repr_mimebundle_())
        view = bundle.pop(VIEW, None)
        if view is None:
            raise NotImplementedError
        self._place(self._made[view["model_id"]], bundle)

    def _place(self, widget: Shown, bundle: dict[str, str]) -> None:
        place = Place()
        place.show({**bundle, VIEW: widget.view})
        widget.begin()
        self._opened().worker.call(widget.settle, place)

    def _opened(self) -> Host:
        if self._host is None:
            from notebook_ext.widgets.host import Host

            self._host = Host(self._shell, self._magics)
        return self._host

    def _importable(self) -> bool:
        try:
            import notebook_ext.widgets.controls  # noqa: F401
        except ImportError:  # it is there, and broken
            return False
        return True

    @property
    def _magics(self) -> Any:
        # The magics of now: %reload_ext makes new ones.
        return self._shell.magics_manager.registry["MagpieMagics"]

    @property
    def _formatter(self) -> Any:
        assert self._shell.display_formatter is not None
        return self._shell.display_formatter.ipython_display_formatter
