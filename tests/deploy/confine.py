"""Run a program under a unit's filters of system calls: `confine.py RULES COMMAND…`.

RULES is JSON: the allowed system calls and address families. The filters come from the library that
systemd uses; systemd itself need not run.
"""

import ctypes
import errno
import json
import os
import socket
import sys

ALLOW, REFUSE = 0x7FFF0000, 0x00050000
EQUAL = 4
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
FAMILIES = 46  # AF_MAX


class Condition(ctypes.Structure):
    """A condition on an argument of a system call: `struct scmp_arg_cmp`."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_uint),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def load(default: int, rules: list[tuple[int, str, list[Condition]]]) -> None:
    """Activate a filter; system calls without a rule get the default."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    for action, name, conditions in rules:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # if this machine has the system call
            many = (Condition * len(conditions))(*conditions)
            check(
                library.seccomp_rule_add_array(
                    context, ctypes.c_uint32(action), number, len(conditions), many
                )
            )
    check(library.seccomp_load(context))


def check(result: int) -> None:
    """Raise an error for a result that is not zero."""
    if result:
        raise OSError(-result, os.strerror(-result))


def confine(calls: list[str], families: list[str]) -> None:
    """Confine this process and the programs that it starts, as MemoryDenyWriteExecute= too."""
    process = ctypes.CDLL(None)
    check(process.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    process.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # Linux before 6.3 does not know it
    denied = set(range(FAMILIES)) - {getattr(socket, name) for name in families}
    refused = REFUSE | errno.EAFNOSUPPORT
    load(ALLOW, [(refused, "socket", [Condition(0, EQUAL, family)]) for family in sorted(denied)])
    load(REFUSE | errno.EPERM, [(ALLOW, name, []) for name in calls])


if __name__ == "__main__":
    rules, *command = sys.argv[1:]
    confine(**json.loads(rules))
    os.execv(command[0], command)  # noqa: S606  # without a shell
