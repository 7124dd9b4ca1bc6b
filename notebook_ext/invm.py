"""`%%magpie --vm ID`: the body in the VM of a persistent job, as user magpie."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from magpie_local import JobFailed
from notebook_ext import values
from notebook_ext.carry import transport
from notebook_ext.carry.luggage import pack
from notebook_ext.printing import Printer
from notebook_ext.relay import Relay
from notebook_ext.run import MANY, in_vm_only
from notebook_ext.short import shortened, usage

if TYPE_CHECKING:
    from magpie_local.api.models import ExecResult
    from notebook_ext.magics import MagpieMagics
    from notebook_ext.options import CellOptions


def run_in_vm(magics: MagpieMagics, options: CellOptions, body: str) -> None:
    """Run the body, and show its output as it comes; an interrupt ends it.

    Raises:
        UsageError: an option that means nothing there; a variable that can't be carried there or back.
        JobFailed: it ended with another exit code than 0.
    """
    if wrong := in_vm_only(options):
        raise usage(f"%%magpie: {wrong[0]} means nothing beside --vm, whose VM is there already")
    client, variables = magics.session.client, magics.shell.user_ns
    luggage = pack(options, body, variables, transport.own_folder())
    identity = magics.session.job_id(options.vm or "", variables)
    relay = Relay(magics.session, Printer(magics.tail_lines * MANY, identity))
    env, secret_env = values.environment(options.env, variables), values.secrets(options.secret, variables) or None
    missing: list[str] = []
    with transport.in_vm(client, identity, luggage):
        ended = relay.exec(
            identity, ["bash", "-s"], stdin=luggage.script, timeout=options.timeout, env=env, secret_env=secret_env
        )  # fmt: skip
        if ended.success and luggage.wanted:
            found, missing = transport.from_vm(client, identity, luggage)
            variables.update(found)
    if not options.quiet:
        print(_line(ended), file=sys.stderr)
    if not ended.success and magics.raise_on_error and not options.no_raise:
        raise shortened(JobFailed(_line(ended), hint=""))
    if missing and not options.no_raise:
        raise usage(f"%%magpie: {'; '.join(missing)}")
    for one in missing:
        print(f"[{one}]", file=sys.stderr)


def _line(ended: ExecResult) -> str:
    how = "timed out" if ended.timed_out else f"exit code {ended.exit_code}"
    return f"{how} · {ended.duration:.2f} s"
