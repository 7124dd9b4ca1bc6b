"""The domain XML: golden files, an allow-list of devices, and texts that come back as they went in."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from magpie_local.domain.vm import Accelerator, Disk, RamFile, Snapshot
from magpie_local.errors import InvalidInput
from magpie_local.hypervisor.domain_xml import disk_xml, domain_xml

GOLDEN = Path(__file__).with_name("golden")
QEMU_ARG = "{http://libvirt.org/schemas/domain/qemu/1.0}arg"
#: Whatever is not here a guest can't attack QEMU through (F64).
ALLOWED_DEVICES = {
    "emulator", "disk", "controller", "serial", "channel", "audio", "memballoon", "rng", "panic",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fixture", "accelerator"),
    [
        ("x86_64-tcg", "spec", Accelerator.TCG),
        ("x86_64-kvm", "spec", Accelerator.KVM),
        ("aarch64-tcg", "arm_spec", Accelerator.TCG),
    ],
)
def test_the_xml_is_the_golden_file(name, fixture, accelerator, request):
    spec = request.getfixturevalue(fixture)
    xml = domain_xml(spec, accelerator, f"/usr/bin/qemu-system-{spec.image.architecture}")
    assert xml == (GOLDEN / f"{name}.xml").read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.parametrize("fixture", ["spec", "arm_spec"])
def test_only_allowed_devices_are_there(fixture, request):
    devices = _parsed(request.getfixturevalue(fixture)).find("devices")
    assert devices is not None
    assert {device.tag for device in devices} <= ALLOWED_DEVICES
    assert {(device.get("type"), device.get("model")) for device in devices.iter("controller")} == {
        ("usb", "none"), ("pci", "pcie-root"), ("pci", "pcie-root-port"), ("virtio-serial", None),
    }  # fmt: skip


def test_audio_and_balloon_are_there_only_to_be_switched_off(spec):
    domain = _parsed(spec)
    assert [device.get("type") for device in domain.iter("audio")] == ["none"]
    assert [device.get("model") for device in domain.iter("memballoon")] == ["none"]


def test_qemu_is_given_the_ports_to_files_the_cards_and_nothing_else_by_hand(spec):
    chardev, port, nowhere, outputs, network, _, card, *_ = _arguments(spec)[1::2]
    assert _arguments(spec)[::2] == [*["-chardev", "-device"] * 2, *["-netdev", "-netdev", "-device"] * 2]
    assert nowhere == "null,id=magpie-outputs"
    assert json.loads(outputs)["name"] == "org.magpie.outputs"
    assert chardev == f"file,id=magpie-log,path={spec.log},append=on"
    assert json.loads(port)["name"] == "org.magpie.log"
    # A hub of this QEMU's own.
    assert network == "hubport,id=magpie-net,hubid=0"
    assert json.loads(card)["mac"] == spec.mac


def test_the_cards_have_a_slot_of_their_own_however_many_disks_there_are(spec):
    full = replace(spec, disks=spec.disks * 25)
    slots = [int(address.get("slot", "")) for address in _parsed(full).iter("address")]
    addresses = [json.loads(_arguments(full)[place])["addr"].split(".") for place in (13, 19)]
    assert len(slots) == len(set(slots))
    assert [int(slot, 16) in slots for slot, _ in addresses] == [False, False]
    assert [int(function, 16) for _, function in addresses] == [0, 1]


def test_the_second_card_is_on_a_hub_of_its_own_under_an_address_of_its_own(spec):
    network, _, card = _arguments(spec)[15:20:2]
    assert network == "hubport,id=magpie-manage-net,hubid=1"
    assert json.loads(card)["mac"] == "56" + spec.mac[2:]


def test_what_a_guest_sends_is_dropped_as_long_as_nobody_listens(spec):
    """Else QEMU keeps the first packet, and the card never sends another one."""
    assert _arguments(spec)[11] == "hubport,id=magpie-sink,hubid=0"
    assert _arguments(spec)[17] == "hubport,id=magpie-manage-sink,hubid=1"


def test_a_disk_may_carry_a_serial(spec):
    disk = Disk(path=Path("/w"), format="qcow2", serial="workspace")
    cold = _parsed(replace(spec, disks=(*spec.disks, disk))).findall("devices/disk/serial")
    assert [serial.text for serial in cold] == ["workspace"]
    assert ET.fromstring(disk_xml(disk, [])).findtext("serial") == "workspace"


def test_the_outputs_go_to_a_file_where_there_is_one(spec):
    wanted, plain = replace(spec, outputs=Path("/o,1")), _arguments(spec)
    assert _arguments(wanted)[5] == "file,id=magpie-outputs,path=/o,,1,append=on"
    assert [*_arguments(wanted)[:5], *_arguments(wanted)[6:]] == [*plain[:5], *plain[6:]]


@pytest.mark.parametrize("serial", ["x" * 21, "a b", "a,b", "ä"])
def test_a_serial_that_no_disk_can_have_is_refused(serial):
    with pytest.raises(InvalidInput, match="1 to 20"):
        disk_xml(Disk(path=Path("/w"), format="qcow2", serial=serial), [])


def test_memory_for_a_template_is_a_file_that_is_shared(spec):
    name, backend, *machine = _arguments(replace(spec, memory=RamFile(path=Path("/t,x/ram"))))[10 * 2 :]
    assert (name, machine) == ("-object", ["-machine", "memory-backend=magpie-ram"])
    assert json.loads(backend) | {"id": ""} == {
        "qom-type": "memory-backend-file", "id": "", "size": 512 << 20, "mem-path": "/t,x/ram", "share": True,
    }  # fmt: skip


def test_a_fork_maps_memory_for_itself_and_waits_for_its_devices(spec):
    snapshot = Snapshot(ram=Path("/t/ram"), devices=Path("/t/devices"))
    arguments = _arguments(replace(spec, memory=snapshot))
    backend = json.loads(arguments[21])
    assert (backend["mem-path"], backend["share"]) == ("/t/ram", False)
    assert arguments[-2:] == ["-incoming", "defer"]


def test_a_fork_is_the_machine_that_its_template_was(spec):
    template = replace(spec, memory=RamFile(path=Path("/t/ram")))
    fork = replace(spec, memory=Snapshot(ram=Path("/t/ram"), devices=Path("/t/devices")))
    described = [_without_arguments(one) for one in (template, fork)]
    assert described[0] == described[1]


@pytest.mark.parametrize(("taken", "name"), [(["vda", "vdb"], "vdc"), (["vda", "vdc"], "vdb"), ([], "vda")])
def test_a_disk_that_is_added_gets_the_first_free_name_and_no_slot_of_the_root_bus(taken, name):
    disk = ET.fromstring(disk_xml(Disk(path=Path("/d"), format="qcow2"), taken))
    target, driver = disk.find("target"), disk.find("driver")
    assert target is not None
    assert driver is not None
    assert (target.get("dev"), driver.get("type"), disk.find("address")) == (name, "qcow2", None)


def test_every_disk_says_its_format_and_writable_ones_report_a_full_host(spec):
    extra = Disk(path=Path("/volumes/data.img"), format="raw", readonly=True)
    drivers = [disk.find("driver") for disk in _parsed(replace(spec, disks=(*spec.disks, extra))).iter("disk")]
    assert [driver.get("type") for driver in drivers if driver is not None] == ["raw", "qcow2", "raw"]
    assert [driver.get("error_policy") for driver in drivers if driver is not None] == [None, "report", None]


def test_a_guest_that_reboots_panics_or_powers_off_never_comes_back(spec):
    domain = _parsed(spec)
    assert [domain.findtext(event) for event in ("on_poweroff", "on_reboot", "on_crash")] == ["destroy"] * 3


def test_a_comma_in_the_logs_path_stays_in_the_path(spec):
    chardev = _arguments(replace(spec, log=Path("/state/a,path=b/log")))[1]
    assert "path=/state/a,,path=b/log," in chardev


def test_an_unknown_architecture_is_refused(spec):
    strange = replace(spec, image=replace(spec.image, architecture="pdp11"))
    with pytest.raises(InvalidInput, match="pdp11"):
        domain_xml(strange, Accelerator.TCG, "/usr/bin/qemu")


def test_more_disks_than_letters_are_refused(spec):
    with pytest.raises(InvalidInput, match="at most 25"):
        domain_xml(replace(spec, disks=spec.disks * 26), Accelerator.TCG, "/usr/bin/qemu")


@given(name=st.text(min_size=1, max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_it_went_in_or_is_refused(name, spec):
    path = Path("/state") / f"x{name}"
    described = replace(
        spec, state_id=name, control=path, console=path, disks=(Disk(path=path, format="qcow2"),),
        image=replace(spec.image, cmdline=name, kernel=path),
    )  # fmt: skip
    try:
        domain = _parsed(described)
    except InvalidInput:
        assert any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF or ord(char) >= 0xFFFE
                   for char in name)  # fmt: skip
        return
    metadata = domain.find("metadata/{urn:magpie-local:vm:1}vm")
    sources = [source.get("path") or source.get("file") for source in domain.iter("source")]
    assert (domain.findtext("os/cmdline"), domain.findtext("os/kernel")) == (name, str(path))
    assert metadata is not None
    assert metadata.get("state") == name
    assert sources.count(str(path)) == 3


def _parsed(spec) -> ET.Element:
    return ET.fromstring(domain_xml(spec, Accelerator.TCG, "/usr/bin/qemu-system-x86_64"))


def _without_arguments(spec) -> str:
    domain = _parsed(spec)
    domain.remove(next(child for child in domain if child.tag.endswith("commandline")))
    return ET.tostring(domain, encoding="unicode")


def _arguments(spec) -> list[str]:
    return [argument.get("value", "") for argument in _parsed(spec).iter(QEMU_ARG)]
