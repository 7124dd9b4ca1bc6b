"""`%%magpie` in JupyterLab, as its user sees it, on the fake hypervisor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.inks import faint, inks
from tests.browser.lab import DARK, LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator

    from tests.browser.conftest import Gate
    from tests.browser.lab import Lab, Notebook

    Gates = Callable[[str], Gate]
    Opened = Callable[..., Notebook]

pytestmark = pytest.mark.timeout(120)

SUCCESS = re.compile(r"✓ job [0-9a-f]{8} completed · exit code 0 · ")
#: Output that would run, load or rename something where it was taken for anything but text.
HOSTILE = r"""printf '<script>window.taken=1</script><img src=x onerror="window.taken=1">\n'
printf '\033]0;taken\007\033]8;;javascript:window.taken=1\033\\link\033]8;;\033\\ \033[2J\033[31mred\033[0m\n'
printf '<style>body{display:none}</style></pre></div><b>bold</b>\n'"""
_COLOURS = r"""echo plain; printf '\033[2mdim\033[0m \033[1mbold\033[0m \033[7minverse\033[0m\n'; echo wrong >&2
for i in 30 31 32 33 34 35 36 37 90 91 92 93 94 95 96 97; do printf "\033[${i}mcolour $i\033[0m "; done
for i in 16 21 46 51 196 201 226 231 244; do printf "\033[38;5;${i}mof 256 $i\033[0m "; done
printf '\033[38;2;255;255;0mof all\033[0m \033[38;5;226;48;5;231mon a ground\033[0m\n'"""


def state(notebook: Notebook, number: int) -> Locator:
    """Return the word for a job's state in the display below a cell."""
    return notebook.output(number).locator(".mk").first


def test_a_page_reaches_nothing_but_loopback(lab: Lab) -> None:
    ask = "url => fetch(url, {mode: 'no-cors'}).then(() => 'reached', () => 'refused')"
    strangers = ["http://example.org/", "http://192.0.2.1/"]

    assert [lab.page.evaluate(ask, url) for url in strangers] == ["refused", "refused"]

    assert lab.browser.strangers == strangers
    lab.browser.strangers.clear()
    assert not lab.page.evaluate("jupyterapp.hasPlugin('@jupyterlab/apputils-extension:announcements')")


def test_lines_arrive_before_the_end_and_a_status_line_closes(opened: Opened, gate: Gates) -> None:
    gates = [gate(f"go{number}") for number in range(3)]
    script = "\n".join(f"echo line {number}; {one.bash}" for number, one in enumerate(gates))
    notebook = opened(f"%%magpie\n{script}\necho last")
    notebook.start(1)

    for number, one in enumerate(gates):
        expect(notebook.output(1)).to_contain_text(f"line {number}")
        expect(notebook.output(1)).not_to_contain_text(f"line {number + 1}")
        assert notebook.is_running(1)
        one.open()

    notebook.wait_end(1)
    expect(notebook.output(1)).to_contain_text("last")
    expect(notebook.output(1)).to_contain_text(SUCCESS)


@pytest.mark.parametrize("how", ["button", "keys"])
def test_the_stop_button_and_its_keys_send_sigint(opened: Opened, how: str) -> None:
    notebook = opened("%%magpie\ntrap 'echo caught; exit 4' INT; echo up; while true; do sleep 0.02; done")
    notebook.start(1)
    expect(notebook.output(1)).to_contain_text("up")

    if how == "button":
        notebook.press_stop()
    else:
        notebook.select(1)
        notebook.page.keyboard.type("ii")

    expect(notebook.output(1)).to_contain_text("caught")
    notebook.wait_end(1)
    notebook.wait_idle()
    expect(notebook.output(1)).to_contain_text(re.compile(r"✗ job [0-9a-f]{8} failed · exit code 4 · "))


def test_a_background_cell_goes_on_while_another_runs(opened: Opened, gate: Gates) -> None:
    more, end, busy = gate("more"), gate("end"), gate("busy")
    notebook = opened(f"%%magpie --bg\necho begun; {more.bash}; echo second; {end.bash}; echo finished", busy.python)
    notebook.run(1)
    notebook.start(2)
    expect(notebook.output(1)).to_contain_text("begun")

    more.open()
    expect(notebook.output(1)).to_contain_text("second")
    expect(state(notebook, 1)).to_have_text("running")
    end.open()
    expect(state(notebook, 1)).to_have_text("completed")
    expect(notebook.output(1)).to_contain_text("finished")

    assert notebook.is_running(2)
    expect(notebook.output(2)).not_to_contain_text("finished")
    busy.open()
    notebook.wait_end(2)


def test_each_state_is_told_by_a_word(opened: Opened, gate: Gates) -> None:
    first, second = gate("first"), gate("second")
    notebook = opened(f"%%magpie --bg --vcpus 8\n{first.bash}", f"%%magpie --bg --vcpus 8\n{second.bash}; exit 3")
    notebook.run(1)
    expect(state(notebook, 1)).to_have_text("running")

    notebook.run(2)
    expect(state(notebook, 2)).to_have_text("pending")
    expect(notebook.output(2)).to_contain_text("waits: ")

    first.open()
    expect(state(notebook, 1)).to_have_text("completed")
    expect(state(notebook, 2)).to_have_text("running")
    second.open()
    expect(state(notebook, 2)).to_have_text("failed")


def test_what_was_shown_is_there_when_the_page_is_loaded_again(
    lab: Lab, opened: Opened, gate: Gates, widgets: None
) -> None:
    end = gate("end")
    notebook = opened("%%magpie\necho before", f"%%magpie --bg\necho begun; {end.bash}; echo finished")
    notebook.run(1)
    notebook.run(2)
    expect(notebook.output(2)).to_contain_text("begun")
    notebook.save()

    lab.reload()

    expect(notebook.output(1)).to_contain_text("before")
    expect(notebook.output(1)).to_contain_text(SUCCESS)
    expect(notebook.output(2)).to_contain_text("begun")
    end.open()
    expect(notebook.output(2)).to_contain_text("finished")
    expect(state(notebook, 2)).to_have_text("completed")


def test_a_saved_notebook_shows_its_results_where_there_is_no_kernel(lab: Lab, opened: Opened) -> None:
    notebook = opened("%%magpie\necho before", "%%magpie --bg\necho behind")
    notebook.run(1)
    notebook.run(2)
    expect(state(notebook, 2)).to_have_text("completed")
    saved = notebook.save()
    lab.close_all()
    # Somebody else's notebook: with a kernel that is not here, and not trusted, so that JupyterLab drops all style.
    saved["metadata"]["kernelspec"]["name"] = "elsewhere"

    again = lab.open(lab.write_notebook(saved), kernel=False)

    expect(again.output(1)).to_contain_text("before")
    expect(again.output(1)).to_contain_text(SUCCESS)
    expect(again.output(2)).to_contain_text("completed")
    expect(again.output(2)).to_contain_text("behind")
    expect(again.output(2)).not_to_contain_text("Error displaying widget")


def test_everything_can_be_read_in_light_and_dark(lab: Lab, opened: Opened, keep: Callable[[str], Path]) -> None:
    notebook = opened("%%magpie --no-raise\necho plain; echo wrong >&2; exit 3", f"%%magpie --bg\n{_COLOURS}")
    notebook.run(1)
    notebook.run(2)
    expect(state(notebook, 2)).to_have_text("completed")

    for theme, name in ((DARK, "dark"), (LIGHT, "light")):
        lab.theme(theme)
        lab.page.screenshot(path=keep(f"lab-{name}.png"))
        found = inks(notebook.output(1)) + inks(notebook.output(2))
        assert {"plain", "wrong", "dim", "colour 33"} <= {one.text for one in found}
        assert any("exit code 3" in one.text for one in found)
        assert "\n".join(faint(found)) == ""


def test_what_a_job_prints_stays_text(lab: Lab, opened: Opened) -> None:
    notebook = opened(f"%%magpie\n{HOSTILE}", f"%%magpie --bg --name '<img src=x onerror=alert(1)>'\n{HOSTILE}")
    title = lab.page.title()
    notebook.run(1)
    notebook.run(2)
    expect(state(notebook, 2)).to_have_text("completed")

    for number in (1, 2):
        output = notebook.output(number)
        for text in ("<script>window.taken=1</script><img src=x", "red", "</pre></div><b>bold</b>"):
            expect(output).to_contain_text(text)
        assert output.locator("script, img, iframe, b:text('bold'), a[href^='javascript']").count() == 0
    assert lab.page.evaluate("window.taken") is None
    assert lab.page.title() == title
    expect(notebook.panel).to_be_visible()


def test_stop_asks_and_then_ends_the_job(opened: Opened, widgets: None) -> None:
    notebook = opened("%%magpie --bg\necho up; sleep 600")
    notebook.run(1)
    job = notebook.output(1).locator(".magpie-job")
    expect(job).to_contain_text("up")

    job.get_by_role("button", name="Stop", exact=True).click()
    expect(job.get_by_role("button", name=re.compile("sure"))).to_be_visible()
    expect(state(notebook, 1)).to_have_text("running")
    job.get_by_role("button", name=re.compile("sure")).click()

    expect(state(notebook, 1)).to_have_text("stopped")
    expect(notebook.output(1)).to_contain_text("up")
    expect(notebook.output(1).get_by_role("button")).to_have_count(0)


def test_the_widget_can_be_read_in_light_and_dark(
    lab: Lab, opened: Opened, gate: Gates, keep: Callable[[str], Path], widgets: None
) -> None:
    end = gate("end")
    notebook = opened(f"%%magpie --bg\necho plain; {end.bash}")
    notebook.run(1)
    job = notebook.output(1).locator(".magpie-job")
    expect(job).to_contain_text("plain")

    for theme, name in ((DARK, "dark"), (LIGHT, "light")):
        lab.theme(theme)
        lab.page.screenshot(path=keep(f"widget-{name}.png"))
        found = inks(job)
        assert {"Stop", "Follow", "plain", "running"} <= {one.text for one in found}
        assert "\n".join(faint(found)) == ""
    end.open()
    expect(state(notebook, 1)).to_have_text("completed")


def test_stop_says_where_a_running_cell_keeps_it_waiting(opened: Opened, gate: Gates, widgets: None) -> None:
    busy, end = gate("busy"), gate("end")
    notebook = opened(f"%%magpie --bg\n{end.bash}", busy.python)
    notebook.run(1)
    job = notebook.output(1).locator(".magpie-job")
    expect(job).not_to_contain_text("interrupt")

    notebook.start(2)

    expect(job).to_contain_text(re.compile("the notebook's own interrupt"))
    busy.open()
    expect(job).not_to_contain_text("interrupt")
    end.open()
    expect(state(notebook, 1)).to_have_text("completed")


def test_a_log_can_be_searched_and_held_still(opened: Opened, gate: Gates, widgets: None) -> None:
    more, end = gate("more"), gate("end")
    notebook = opened(
        f"%%magpie --bg -o job\necho needle; echo hay; {more.bash}; echo straw; {end.bash}",
        "import time\nwhile 'straw' not in job.logs():\n    time.sleep(0.02)",
    )
    notebook.run(1)
    job = notebook.output(1).locator(".magpie-job")
    search, follow = job.get_by_placeholder("Search the log"), job.get_by_role("button", name="Follow")
    expect(job).to_contain_text("hay")

    search.fill("needle")
    expect(job).not_to_contain_text("hay")
    expect(job).to_contain_text("needle")
    search.fill("")
    expect(job).to_contain_text("hay")

    follow.click()
    # The kernel has heard it.
    expect(job).to_contain_text("standing still")
    more.open()
    notebook.run(2)
    expect(job).not_to_contain_text("straw")
    follow.click()
    expect(job).to_contain_text("straw")
    end.open()
    expect(state(notebook, 1)).to_have_text("completed")


def test_the_keyboard_reaches_stop(opened: Opened, widgets: None) -> None:
    notebook = opened("%config MagpieMagics.confirm_stop = False", "%%magpie --bg\necho up; sleep 600")
    notebook.run(1)
    notebook.run(2)
    stop = notebook.output(2).get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_visible()

    notebook.select(2)
    for _ in range(40):
        notebook.page.keyboard.press("Tab")
        if stop.evaluate("button => button === document.activeElement"):
            break
    expect(stop).to_be_focused()
    notebook.page.keyboard.press("Enter")

    expect(state(notebook, 2)).to_have_text("stopped")
