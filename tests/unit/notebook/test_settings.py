"""[tool.magpie_local] of pyproject.toml."""

from __future__ import annotations

import pytest

from magpie_local import InvalidInput
from notebook_ext.settings import Project

TRAITS = ("image", "tail_lines")


@pytest.fixture
def project(tmp_path):
    def make(text: str, below: str = "."):
        (tmp_path / "pyproject.toml").write_text(text)
        folder = tmp_path / below
        folder.mkdir(parents=True, exist_ok=True)
        return Project(folder, TRAITS)

    return make


def test_settings_are_found_above_the_notebook_and_told_where_from(project, tmp_path):
    found = project("[tool.magpie_local]\ncpus = 3\ntail_lines = 40\n", below="notebooks/deep")

    settings = found.settings({"MAGPIE_CONFIG": ""})

    assert found.traits == {"tail_lines": 40}
    assert settings.cpus == 3
    assert settings.origins["cpus"] == f"file {tmp_path / 'pyproject.toml'}"


def test_the_environment_wins(project):
    found = project("[tool.magpie_local]\ncpus = 3\n")

    assert found.settings({"MAGPIE_CPUS": "5"}).cpus == 5


@pytest.mark.parametrize(("key", "near"), [("tail_line", "tail_lines"), ("cpu", "cpus")])
def test_a_wrong_key_names_the_nearest_right_one_and_the_file(project, key, near):
    with pytest.raises(InvalidInput, match=f"did you mean '{near}'") as caught:
        project(f"[tool.magpie_local]\n{key} = 1\n")

    assert "pyproject.toml" in str(caught.value)


@pytest.mark.parametrize("text", ["not toml at all [", "[tool]\nmagpie_local = 3\n"])
def test_a_file_that_makes_no_sense_is_named(project, text):
    with pytest.raises(InvalidInput):
        project(text)


def test_other_projects_say_nothing(project):
    assert project("[tool.other]\nx = 1\n").traits == {}
