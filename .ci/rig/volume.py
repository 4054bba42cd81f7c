"""A file system of our own on a loop image, and the end of its power.

The shutdown ioctl without a log flush stops a mounted file system as a power cut would: what was synced stays, the rest is gone at the
next mount. Mounts live in a private mount namespace, so that they vanish with the check whatever happens to it.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import struct
import sys

from rig.process import run

SHUTDOWN = 0x8004_587D  # _IOR('X', 125, u32), the same for ext4 and XFS
NO_LOG_FLUSH = 2
MIB = 1 << 20


def in_private_mounts():
    """Starts this program again where its mounts are its own."""
    if os.environ.get("SNAPGATE_PRIVATE_MOUNTS") != str(os.getpid()):
        os.environ["SNAPGATE_PRIVATE_MOUNTS"] = str(os.getpid())
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])


class Volume:
    def __init__(self, bench, name, kind, mib):
        self.image, self.path = _roomy(bench, mib) / f"{name}-{os.getpid()}-{bench.dir.name}.img", bench.folder(f"volume-{name}")
        with open(self.image, "wb") as image:
            image.truncate(mib * MIB)
        bench.on_end(lambda: self.image.unlink(missing_ok=True))
        run(f"mkfs.{kind}", "-q", *(["-F"] if kind == "ext4" else []), self.image)
        bench.on_end(self._leave)
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.path)

    def cut_power(self):
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def sync(self):
        run("sync", "--file-system", self.path)

    def unmount(self):
        run("umount", self.path)

    def _leave(self):
        if os.path.ismount(self.path):
            run("umount", "-l", self.path)


def _roomy(bench, mib):
    """Memory where there is plenty (a cycle is twice as fast), else the disk."""
    memory = pathlib.Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 8 * mib * MIB else bench.dir


def files_of(folder):
    """key -> size of every file of a directory store."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(path, name)
            with contextlib.suppress(FileNotFoundError):  # the gateway may be tidying up
                found[os.path.relpath(file, folder)] = os.path.getsize(file)
    return found
