"""The notebooks in examples/, run as they are in real VMs: their cells show what the text beside them says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from magpie_local import Magpie, config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "examples"
NAMES = {"hello", "pipeline", "dev_vm", "sweep", "untrusted", "failing_jobs"}
HOW_IT_ENDED = r"✓ job [0-9a-f]{8} completed · exit code 0 · .* · (tcg|kvm)"


class Book:
    """A notebook that has been run, as its saved file tells."""

    def __init__(self, path: Path) -> None:
        self.book: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        self.cells = {cell.id: cell for cell in self.book.cells}

    def text(self, cell_id: str, stream: str = "stdout") -> str:
        """Return what a cell has printed."""
        found = [one.text for one in self.cells[cell_id].outputs if one.output_type == "stream" and one.name == stream]
        return "".join(found)

    def shown(self, cell_id: str, kind: str = "text/plain") -> str:
        """Return what a cell shows below that, of one MIME type."""
        return "\n".join(one.data[kind] for one in self.displays(cell_id) if kind in one.data)

    def displays(self, cell_id: str) -> list[Any]:
        return [one for one in self.cells[cell_id].outputs if "data" in one]

    def error(self, cell_id: str) -> Any:
        (found,) = [one for one in self.cells[cell_id].outputs if one.output_type == "error"]
        return found


def assert_can_be_read_without_a_kernel(book: Book) -> None:
    """What stays in the file needs no widget, and what a job shows is there both as HTML and as text."""
    assert "widgets" not in book.book.metadata
    for cell_id in book.cells:
        if book.cells[cell_id].cell_type != "code":
            continue
        for one in book.displays(cell_id):
            assert "application/vnd.jupyter.widget-view+json" not in one.data
            if re.search(r"job [0-9a-f]{8} (pending|running|completed|failed|stopped)", one.data["text/plain"]):
                assert one.data["text/html"]
                assert "<script" not in one.data["text/html"]


@pytest.fixture(scope="module")
def settings(shared_vm_home: Path, image_folder: Path) -> config.Settings:
    """One state directory for all, in which the template of their VMs is made once."""
    made = config.load(home=shared_vm_home, images=image_folder, templates="4 GiB", pool=0, keeper=False)
    with Magpie(settings=made) as client:
        client.templates.warm()
    return made


@pytest.fixture
def run(settings: config.Settings, tmp_path: Path) -> Iterator[Callable[[str], Book]]:
    """Run a notebook to its end; nothing of it may be left then but jobs that have ended."""

    def run_one(name: str) -> Book:
        book: Any = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
        env = {**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        place = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(book, timeout=120, kernel_name="python3", resources=place).execute(env=env)
        saved = tmp_path / f"{name}.ipynb"
        nbformat.write(book, saved)  # type: ignore[no-untyped-call]
        assert list(tmp_path.iterdir()) == [saved]
        ended = Book(saved)
        assert_can_be_read_without_a_kernel(ended)
        return ended

    yield run_one
    with Magpie(settings=settings, lead=False) as client:
        assert client.workspaces.list() == []
        assert [job for job in client.jobs.list() if job.status in ("pending", "running")] == []


def test_each_notebook_is_listed_and_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == NAMES
    assert set(re.findall(r"\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text())) == NAMES


@pytest.mark.vm
def test_hello_shows_output_values_files_and_the_job(run: Callable[[str], Book]) -> None:
    book = run("hello")

    assert re.fullmatch(r"Hello from .+, Linux .+\nI am root, and nobody else is here\n", book.text("hello"))
    assert re.fullmatch(HOW_IT_ENDED, book.shown("hello").splitlines()[-1])  # above it another, if it took its time
    assert book.text("give") == "Hello, notebook\n"
    assert book.text("take") == "1 2 3\n\n"
    assert book.text("facts") == "completed 0 1 vCPU 512 MB\nHello, notebook\n"
    assert "Hello, notebook" in book.shown("shown", "text/html")
    assert re.fullmatch(r'True PRETTY_NAME="Debian .+"\n', book.text("program"))


@pytest.mark.vm
def test_a_pipeline_keeps_its_data_and_goes_back_to_a_snapshot(run: Callable[[str], Book]) -> None:
    book = run("pipeline")

    assert book.text("fetch") == "1000 numbers\n"
    assert "exit code 1" in book.shown("clean")
    assert book.text("spoilt") == "oops\n"
    assert book.displays("spoilt") == []
    assert book.text("report") == "sum 500500\n"
    assert "notebook-pipeline" in book.shown("list")
    assert book.text("tidy") == "workspace notebook-pipeline: deleted\n"


@pytest.mark.vm
def test_a_vm_that_stays_serves_a_page_and_is_entered(run: Callable[[str], Book]) -> None:
    book = run("dev_vm")

    page = "<h1>Served by a VM</h1>\n"
    assert book.text("start") == "the server is up\n"
    assert "running · exit code 0" in book.shown("start")
    assert book.text("forward") == page
    assert re.fullmatch(r"<p>Changed by magpie on .+</p>\n", book.text("inside"))
    assert book.text("changed") == page + book.text("inside")
    assert book.text("files") == "kept for as long as the VM is\n"
    assert book.text("ssh").startswith("ssh -F ")
    assert "dev-vm" in book.shown("vms")
    assert book.text("stop").endswith(": stopped\n")
    assert book.text("rm").endswith(": deleted\n")


@pytest.mark.vm
def test_a_sweep_ends_in_a_plot_of_what_its_jobs_found(run: Callable[[str], Book]) -> None:
    book = run("sweep")

    assert book.text("run") == "12000 points from 6 VMs\n"
    (plot,) = [one for one in book.displays("plot") if "image/png" in one.data]
    assert len(plot.data["image/png"]) > 10_000
    assert book.text("plot", "stderr") == ""


@pytest.mark.vm
def test_untrusted_code_reaches_nothing_and_what_it_prints_stays_text(run: Callable[[str], Book]) -> None:
    book = run("untrusted")

    told = book.text("hostile")
    files, network, memory, page, everything = re.split(r"(?m)^(?:the network|all the|the page|everything).*:\n", told)
    assert "No such file" in files
    assert "Could not resolve host" in network
    assert memory == "MemoryError\n"
    assert page.startswith("<script>")
    assert "No such file" in everything
    assert book.text("unharmed") == "still here\n"
    assert "<script" not in book.shown("shown", "text/html")
    assert "&lt;script&gt;" in book.shown("shown", "text/html")
    assert "onerror" in book.shown("shown", "text/plain")
    assert book.text("ended") == "timed_out 124\n"
    assert book.text("flood") == "timed_out True\n"


@pytest.mark.vm
def test_failing_jobs_tell_why(run: Callable[[str], Book]) -> None:
    book = run("failing_jobs")

    error = book.error("fails")
    assert (error.ename, book.text("fails")) == ("JobFailed", "reading data\n")
    assert "ZeroDivisionError" in error.evalue
    assert "notebook_ext" not in "".join(error.traceback)
    assert book.text("facts") == "failed 1\nZeroDivisionError: division by zero\n"
    assert book.text("streams").startswith("Traceback")
    assert "reading data" not in book.text("streams")
    assert len(book.text("story").splitlines()) >= 5
    assert book.text("again") == "reading data\nmean 3.0\n"
    assert book.text("late-facts").startswith("False timed_out 124\n")
    assert re.match(r"None guest_panic\n.+\n", book.text("crash-facts"))
    assert re.match(r"step 2 of 5\n.* up ", book.text("look"))
    assert "exit code 7" in book.shown("stay")
    assert {"train", "waiter", "crash"} <= set(re.split(r"\s+", book.shown("list")))
