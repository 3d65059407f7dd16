"""Not a test: the system calls by which a process changes files, seen from outside, SQLite's and FAISS's too.

``trace`` follows a child that called ``ask_to_be_traced`` (ptrace, Linux on x86-64, no privileges) and returns what it
did to the files under a folder, as JSON. It can make one of these calls fail, or kill the child before it.

``["create", path, file]``, ``["write", file, offset, data]``, ``["truncate", file, size]``, ``["sync", file]``,
``["mkdir", path]``, ``["syncdir", path]``, ``["rename", old, new]``, ``["unlink", path]``, ``["rmdir", path]``,
``["say", text]``. A file that was there before is called by its path; data is text of one character a byte. What is
written by way of a shared mapping is seen at the next call, as a write that nothing has synced.
"""

import ctypes
import os
import signal
import stat
from pathlib import Path
from typing import Any

TRACEME, CONTINUE_TO_CALL, GETREGS, SETREGS, SETOPTIONS = 0, 24, 12, 13, 0x4200
OPTIONS = 0x100000 | 0x1 | 0x8  # the child dies with us; calls are told from signals; its threads are followed
AT_CWD, ALL_CHILDREN = -100, 0x40000000
REGISTERS = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs gs ds es f g"

CALLS = {1: "write", 20: "writev", 18: "pwrite", 2: "open", 257: "openat", 77: "ftruncate", 74: "fsync"}
CALLS |= {75: "fsync", 82: "rename", 264: "renameat", 316: "renameat", 87: "unlink", 263: "unlinkat", 83: "mkdir"}
CALLS |= {258: "mkdirat", 84: "rmdir", 9: "mmap"}
UNKNOWN = {76: "truncate", 85: "creat", 86: "link", 265: "linkat", 88: "symlink", 266: "symlinkat", 296: "pwritev"}
UNKNOWN |= {328: "pwritev2", 285: "fallocate", 326: "copy_file_range", 40: "sendfile", 437: "openat2"}
HARMLESS = {"mmap", "say"}
TAKING = {"unlink", "rmdir"}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in REGISTERS.split()]


def ptrace(request: int, pid: int, data: Any = 0) -> None:
    if libc.ptrace(request, pid, 0, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def ask_to_be_traced() -> None:
    """In the child: stop until the parent traces."""
    ptrace(TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def trace(
    child: int, root: Path, said: Path, *, fail: int = 0, error: int = 0, lasting: bool = True
) -> tuple[list[list], int, int]:
    """What ``child`` does to the files under ``root`` until it ends, in how many calls, and its status.

    What it writes to the file ``said`` is told, too.

    Instead of its ``fail``-th call that would change a file (from 1), it gets ``error``, where ``lasting`` for every
    later one too, but for those that take something away; where ``error`` is 0 it is killed.
    """
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        return [], 0, status
    ptrace(SETOPTIONS, child, OPTIONS)
    watcher = _Watcher(root, said)
    entered: dict[int, tuple[str, tuple] | None] = {}
    ptrace(CONTINUE_TO_CALL, child)
    while True:
        pid, status = os.waitpid(-1, ALL_CHILDREN)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            if pid == child:
                return watcher.events, watcher.n_calls, status
            continue
        pending = os.WSTOPSIG(status)
        if pending == signal.SIGTRAP | 0x80:
            pending = 0
            registers = Registers()
            ptrace(GETREGS, pid, ctypes.addressof(registers))
            if pid not in entered:
                call = entered[pid] = watcher.enter(pid, registers)
                if fail and call is not None and call[0] not in HARMLESS and watcher.is_broken(call[0], fail, lasting):
                    if not error:
                        os.kill(child, signal.SIGKILL)
                        continue
                    registers.orig_rax = 2**64 - 1
                    ptrace(SETREGS, pid, ctypes.addressof(registers))
                    entered[pid] = ("fail", ())
            else:
                call = entered.pop(pid)
                if call is not None and call[0] == "fail":
                    registers.rax = 2**64 - error
                    ptrace(SETREGS, pid, ctypes.addressof(registers))
                elif call is not None and (result := ctypes.c_int64(registers.rax).value) >= 0:
                    watcher.leave(pid, *call, result)
        elif pending in (signal.SIGSTOP, signal.SIGTRAP):
            pending = 0  # a new thread
        ptrace(CONTINUE_TO_CALL, pid, pending)


class _Watcher:
    """Names the calls that concern files under ``root``."""

    def __init__(self, root: Path, said: Path) -> None:
        self.root, self.said = str(root), str(said)
        self.events: list[list] = []
        self.n_calls = 0
        inside = [path for path in root.rglob("*") if path.is_file()]
        self.names = {path.stat().st_ino: str(path.relative_to(root)) for path in inside}
        self.mapped: dict[str, tuple[str, bytes]] = {}

    def enter(self, pid: int, registers: Registers) -> tuple[str, tuple] | None:
        """The call that ``pid`` begins, if it changes something under ``root`` or says something."""
        a = [ctypes.c_int64(getattr(registers, name)).value for name in ("rdi", "rsi", "rdx", "r10", "r8")]
        number = registers.orig_rax
        self._look_at_mappings()
        if number in UNKNOWN:
            raise NotImplementedError(f"the child makes a call that nobody records: {UNKNOWN[number]}")
        call = self._named(CALLS.get(number), pid, a)
        if call is not None and call[0] not in HARMLESS:
            self.n_calls += 1
        return call

    def is_broken(self, name: str, fail: int, lasting: bool) -> bool:
        """Whether the call that was just entered is the ``fail``-th, or comes later and needs the disk."""
        return self.n_calls == fail or (lasting and self.n_calls > fail and name not in TAKING)

    def leave(self, pid: int, name: str, arguments: tuple, result: int) -> None:
        """The call was made."""
        if name == "write":
            file, offset, data = arguments
            self.events.append(["write", file, offset, data[:result].decode("latin-1")])
        elif name == "say":
            self.events.append(["say", arguments[0].decode()])
        elif name == "open":
            path, is_new, is_cut = arguments
            if is_new:
                file = f"{path}#{len(self.events)}"
                self.names[_inode(pid, result)] = file
                self.events.append(["create", path, file])
            elif is_cut:
                self.events.append(["truncate", self.names[_inode(pid, result)], 0])
        elif name == "mmap":
            path, file = arguments
            self.mapped[path] = (file, Path(path).read_bytes())
        else:
            self.events.append([name, *arguments])

    def _named(self, name: str | None, pid: int, a: list[int]) -> tuple[str, tuple] | None:
        if name in ("open", "openat"):
            at, pointer, flags = (AT_CWD, a[0], a[1]) if name == "open" else a[:3]
            path = self._path(pid, at, pointer)
            is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            is_cut = bool(flags & os.O_TRUNC) and flags & os.O_ACCMODE != os.O_RDONLY
            inside = self._inside(path)
            is_writing = flags & (os.O_ACCMODE | os.O_CREAT) != os.O_RDONLY
            return ("open", (inside, is_new, is_cut)) if inside is not None and is_writing else None
        if name in ("rename", "renameat"):
            pairs = ((AT_CWD, a[0]), (AT_CWD, a[1])) if name == "rename" else ((a[0], a[1]), (a[2], a[3]))
            old, new = (self._inside(self._path(pid, *pair)) for pair in pairs)
            return None if old is None and new is None else ("rename", (old, new))
        if name in ("unlink", "mkdir", "rmdir", "unlinkat", "mkdirat"):
            inside = self._inside(self._path(pid, *((a[0], a[1]) if name.endswith("at") else (AT_CWD, a[0]))))
            made = "rmdir" if name == "unlinkat" and a[2] else name.removesuffix("at")
            return None if inside is None else (made, (inside,))
        return None if name is None else self._on_descriptor(name, pid, a)

    def _on_descriptor(self, name: str, pid: int, a: list[int]) -> tuple[str, tuple] | None:
        descriptor = a[4] if name == "mmap" else a[0]
        if descriptor < 0 or (name == "mmap" and not (a[2] & 2 and a[3] & 1)):  # writable, shared
            return None
        link = Path(f"/proc/{pid}/fd/{descriptor}")
        try:
            path, facts = str(link.readlink()), link.stat()
        except OSError:
            return None
        if path == self.said:
            return ("say", (self._data(pid, name, a),)) if name == "write" else None
        inside = self._inside(path)
        if inside is None:
            return None
        if stat.S_ISDIR(facts.st_mode):
            return ("syncdir", (inside,)) if name == "fsync" else None
        file = self.names[facts.st_ino]
        if name == "mmap":
            return None if path.endswith("-shm") else ("mmap", (path, file))
        if name == "fsync":
            return "sync", (file,)
        if name == "ftruncate":
            return "truncate", (file, a[1])
        data = self._data(pid, name, a)
        if name == "pwrite":
            return "write", (file, a[3], data)
        lines = Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().split()
        is_appending = int(lines[lines.index("flags:") + 1], 8) & os.O_APPEND
        offset = facts.st_size if is_appending else int(lines[lines.index("pos:") + 1])
        return "write", (file, offset, data)

    def _look_at_mappings(self) -> None:
        for path, (file, before) in self.mapped.items():
            now = Path(path).read_bytes() if Path(path).exists() else before
            if now != before:
                self.mapped[path] = (file, now)
                self.events.append(["write", file, 0, now.decode("latin-1")])

    def _inside(self, path: str) -> str | None:
        path = path.removesuffix(" (deleted)")
        if path == self.root:
            return "."
        return path[len(self.root) + 1 :] if path.startswith(f"{self.root}/") else None

    def _path(self, pid: int, at: int, pointer: int) -> str:
        data = b""
        while b"\0" not in data:
            step = min(256, 4096 - (pointer + len(data)) % 4096)  # never over the end of a page
            data += self._read(pid, pointer + len(data), step)
        path = os.fsdecode(data.split(b"\0")[0])
        here = f"/proc/{pid}/cwd" if ctypes.c_int32(at).value == AT_CWD else f"/proc/{pid}/fd/{at}"
        return path if path.startswith("/") else os.path.normpath(f"{Path(here).readlink()}/{path}")

    def _data(self, pid: int, name: str, a: list[int]) -> bytes:
        if name != "writev":
            return self._read(pid, a[1], a[2])
        table = memoryview(self._read(pid, a[1], 16 * a[2])).cast("Q")
        return b"".join(self._read(pid, table[i], table[i + 1]) for i in range(0, len(table), 2))

    @staticmethod
    def _read(pid: int, address: int, size: int) -> bytes:
        descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        try:
            return os.pread(descriptor, size, address)
        finally:
            os.close(descriptor)


def _inode(pid: int, descriptor: int) -> int:
    return Path(f"/proc/{pid}/fd/{descriptor}").stat().st_ino
