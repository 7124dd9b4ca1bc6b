from __future__ import annotations

from pathlib import Path

import pytest

from magpie_local import config
from magpie_local.errors import InvalidInput, StateUnavailable


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('cpus = 3\nlog_limit = "1MiB"\naccelerator = "tcg"\n')
    return path


def nobody_set_anything(tmp_path: Path) -> dict[str, str]:
    empty = tmp_path / "empty.toml"
    empty.touch()
    return {"MAGPIE_CONFIG": str(empty)}


def test_an_argument_beats_the_environment_which_beats_the_file_which_beats_the_default(file: Path) -> None:
    environ = {"MAGPIE_CONFIG": str(file), "MAGPIE_CPUS": "5", "MAGPIE_LOG_LIMIT": "2MiB"}

    settings = config.load(environ, cpus=7)

    assert (settings.cpus, settings.log_limit, settings.accelerator, settings.keeper) == (7, 2 << 20, "tcg", True)


def test_each_value_tells_its_origin(file: Path) -> None:
    settings = config.load({"MAGPIE_CONFIG": str(file), "MAGPIE_LOG_LIMIT": "2MiB"}, home="/tmp/h")

    assert settings.origins["home"] == "argument"
    assert settings.origins["log_limit"] == "environment MAGPIE_LOG_LIMIT"
    assert settings.origins["cpus"] == f"file {file}"
    assert settings.origins["keeper"] == "default"


def test_an_argument_that_is_none_and_an_empty_variable_count_as_unset(tmp_path: Path) -> None:
    settings = config.load({**nobody_set_anything(tmp_path), "MAGPIE_HYPERVISOR": ""}, hypervisor=None)

    assert settings.hypervisor == "libvirt"


def test_the_environment_of_settings_reproduces_them(file: Path, tmp_path: Path) -> None:
    first = config.load(
        {"MAGPIE_CONFIG": str(file)}, home=tmp_path, keeper=False, stop_grace=0.25, libvirt_uri="test:///default"
    )

    second = config.load({**nobody_set_anything(tmp_path), **first.environment()})

    assert second == first


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cpus", "0"), ("cpus", "many"), ("cpus", True), ("cpus", 2.5), ("cpus", "9" * 5000),
        ("memory", "12"), ("memory", "-1"), ("memory", "4 XB"),
        ("boot_timeout", "0"), ("boot_timeout", "nan"), ("stop_grace", -1), ("stop_grace", "2d"),
        ("keeper", "perhaps"), ("keeper", 2), ("hypervisor", "xen"), ("accelerator", "KVM"), ("accelerator", ["kvm"]),
        ("home", 7), ("home", "a\0b"), ("home", "a\nb"), ("libvirt_uri", "a\nb"), ("libvirt_uri", 5),
    ],
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_refused_with_its_key_and_origin(
    key: str, value: object, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.load(nobody_set_anything(tmp_path), **{key: value})

    assert caught.value.field == key
    assert "argument" in caught.value.hint


def test_an_unknown_key_in_the_file_names_the_nearest_right_one(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('hypervisr = "fake"\n')

    with pytest.raises(InvalidInput, match="did you mean 'hypervisor'") as caught:
        config.load({"MAGPIE_CONFIG": str(file)})

    assert str(file) in caught.value.hint


def test_a_file_that_is_no_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("cpus = \n")

    with pytest.raises(InvalidInput, match="line 1"):
        config.load({"MAGPIE_CONFIG": str(file)})


def test_a_named_configuration_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="must exist"):
        config.load({"MAGPIE_CONFIG": str(tmp_path / "none.toml")})


def test_the_usual_configuration_file_need_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    assert config.load({}).origins["cpus"] == "default"


def test_a_misspelt_variable_is_found_and_a_foreign_one_is_left_alone() -> None:
    environ = {"MAGPIE_IMAGE": "x", "MAGPIE_API_KEY": "x", "MAGPIE_HOME": "x", "PATH": "x"}

    assert config.misspelt(environ) == {"MAGPIE_IMAGE": "MAGPIE_IMAGES"}


def test_sockets_lie_in_a_short_state_directory_itself() -> None:
    assert config.runtime_dir(Path("/srv/magpie")) == Path("/srv/magpie/run")


def test_sockets_of_a_long_state_directory_lie_elsewhere_one_folder_each(tmp_path: Path) -> None:
    first, second = (config.runtime_dir(tmp_path / name) for name in ("long" * 20, "other" * 20))

    assert first != second
    assert len(str(first)) <= config.MAX_RUN_PATH
    assert config.runtime_dir(tmp_path / ("long" * 20)) == first


def test_the_place_of_sockets_does_not_depend_on_the_login_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("long" * 20)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    inside = config.runtime_dir(home)

    monkeypatch.delenv("XDG_RUNTIME_DIR")

    assert config.runtime_dir(home) == inside


def test_no_short_place_for_sockets_is_an_error_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/" + "n" * 40)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    with pytest.raises(StateUnavailable, match="longer than 44 bytes") as caught:
        config.runtime_dir(tmp_path / ("long" * 20))

    assert "MAGPIE_HOME" in caught.value.hint
