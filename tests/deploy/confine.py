"""Run a program under a unit's filters of system calls: `confine.py RULES COMMAND…`.

RULES is JSON: the system calls and address families that are allowed. The filters are made as
systemd makes them (src/shared/seccomp-util.c), by the same library, without a running systemd.
"""

import ctypes
import errno
import json
import os
import socket
import sys

ALLOW = 0x7FFF0000
EQUAL, MASKED_EQUAL = 4, 7
PR_SET_NO_NEW_PRIVS = 38
PROT_WRITE, PROT_EXEC = 2, 4
FAMILIES = 46  # AF_MAX


class Condition(ctypes.Structure):
    """What an argument of a system call must be: `struct scmp_arg_cmp`."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_uint),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Filter:
    """A filter; system calls without a rule get the default."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, name: str, *conditions: Condition) -> None:
        """Add a rule, if this machine has that system call."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            many = (Condition * len(conditions))(*conditions)
            _check(
                self._library.seccomp_rule_add_array(
                    self._context, ctypes.c_uint32(action), number, len(conditions), many
                )
            )

    def load(self) -> None:
        """Activate the filter; there is no way back."""
        _check(self._library.seccomp_load(self._context))


def refuse(number: int) -> int:
    """Return the action of failing with an errno."""
    return 0x00050000 | number


def _check(result: int) -> None:
    if result:
        raise OSError(-result, os.strerror(-result))


def confine(calls: list[str], families: list[str]) -> None:
    """Confine this process and the programs that it starts."""
    _check(ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    denied = Filter(ALLOW)
    known = {getattr(socket, name) for name in families}
    for family in set(range(FAMILIES)) - known:
        denied.add(refuse(errno.EAFNOSUPPORT), "socket", Condition(0, EQUAL, family))
    both = PROT_WRITE | PROT_EXEC
    denied.add(refuse(errno.EPERM), "mmap", Condition(2, MASKED_EQUAL, both, both))
    for name in ("mprotect", "pkey_mprotect"):
        denied.add(refuse(errno.EPERM), name, Condition(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
    denied.add(refuse(errno.ENOSYS), "clone3")  # its flags are behind a pointer
    for name in ("unshare", "setns"):
        denied.add(refuse(errno.EPERM), name)
    denied.load()

    allowed = Filter(refuse(errno.EPERM))
    for name in calls:
        allowed.add(ALLOW, name)
    allowed.load()


if __name__ == "__main__":
    rules, *command = sys.argv[1:]
    confine(**json.loads(rules))
    os.execv(command[0], command)  # noqa: S606  # without a shell
