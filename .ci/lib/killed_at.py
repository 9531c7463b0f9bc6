"""Runs a program and kills it at its Nth system call that changes anything, counted over all of its threads: strace
counts the calls of each thread apart, so that it reaches the first calls of one thread only. x86-64."""

import ctypes
import os
import signal
import struct

SYSCALL, SET_OPTIONS, GET_SYSCALL_INFO = 24, 0x4200, 0x420E
# System calls told from SIGTRAP, all threads and children, nothing outlives this process.
OPTIONS = 1 | 2 | 4 | 8 | 0x100000
WALL = 0x40000000

NAMES = {
    1: "write", 16: "ioctl", 18: "pwrite64", 74: "fsync", 75: "fdatasync", 77: "ftruncate", 90: "chmod", 91: "fchmod",
    93: "fchown", 188: "setxattr", 189: "lsetxattr", 190: "fsetxattr", 199: "fremovexattr", 257: "openat", 258: "mkdirat",
    259: "mknodat", 260: "fchownat", 263: "unlinkat", 264: "renameat", 265: "linkat", 266: "symlinkat", 268: "fchmodat",
    280: "utimensat", 285: "fallocate", 306: "syncfs", 316: "renameat2", 326: "copy_file_range", 452: "fchmodat2",
}
# Which arguments are names.
PATHS = {"openat": (1,), "mkdirat": (1,), "mknodat": (1,), "unlinkat": (1,), "renameat": (1, 3), "renameat2": (1, 3),
         "linkat": (1, 3), "symlinkat": (0, 2), "fchmodat": (1,), "fchownat": (1,)}
MAKES = os.O_CREAT | os.O_TRUNC | 0o20000000
REFLINK = 0x40049409

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def can_be_done():
    return os.uname().machine == "x86_64"


def ptrace(request, thread, address=None, data=None):
    return libc.ptrace(request, thread, address, data)


class Call:
    """A call that is about to be made."""

    def __init__(self, thread, number, arguments):
        self.name, self.thread, self.arguments = NAMES.get(number), thread, arguments

    def changes(self):
        if self.name == "openat":
            return self.arguments[2] & MAKES != 0
        if self.name == "ioctl":
            return self.arguments[1] == REFLINK
        if self.name == "write":
            return self.arguments[0] > 2
        return self.name is not None

    def __str__(self):
        return f"{self.name}({', '.join(self.text(at) for at in PATHS.get(self.name, ())) or self.file()})"

    def text(self, at):
        try:
            with open(f"/proc/{self.thread}/mem", "rb", 0) as memory:
                memory.seek(self.arguments[at])
                return os.fsdecode(memory.read(256).partition(b"\0")[0])
        except (OSError, ValueError):
            return "?"

    def file(self):
        try:
            return "/".join(os.readlink(f"/proc/{self.thread}/fd/{self.arguments[0]}").rsplit("/", 2)[1:])
        except OSError:
            return "?"


def traced(command, environment, output, kill_at=None, until=None):
    """Runs it, with its output in a file. Kills it at the call of that number, or when `until` says so of a call. Returns
    the exit code, as of `subprocess`, how many calls that change anything were begun, and the last of them."""
    main = os.fork()
    if main == 0:
        try:
            out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.closerange(3, 64)
            ptrace(0, 0)
            os.execve(command[0], command, environment)
        finally:
            os._exit(126)
    os.waitpid(main, WALL)
    ptrace(SET_OPTIONS, main, None, OPTIONS)
    ptrace(SYSCALL, main)
    calls, last, known, info = 0, None, {main}, ctypes.create_string_buffer(88)
    while True:
        thread, status = os.waitpid(-1, WALL)
        if not os.WIFSTOPPED(status):
            if thread == main:
                return os.waitstatus_to_exitcode(status), calls, last
            continue
        stop, passed_on = os.WSTOPSIG(status), 0
        if stop == signal.SIGTRAP | 0x80:
            ptrace(GET_SYSCALL_INFO, thread, len(info), ctypes.addressof(info))
            if info.raw[0] == 1:
                number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
                call = Call(thread, number, arguments)
                if call.changes():
                    calls += 1
                    if calls == kill_at or (until and until(call)):
                        last = str(call)
                        os.kill(main, signal.SIGKILL)
        elif thread not in known and stop == signal.SIGSTOP:
            known.add(thread)
        elif stop != signal.SIGTRAP:
            passed_on = stop
        ptrace(SYSCALL, thread, None, passed_on)
