"""Records every write and every flush of a disk while a service works on it, then rebuilds the disk as it was at a
flush, with a random half of the writes that followed it, mounts it, and looks at every name. Called by `.ci/powercut`,
as root. It needs qemu-storage-daemon and FUSE."""

import os
import random
import shutil
import struct
import subprocess
import sys
import time

from powercut import MKFS, Neighbour, hash_of, run, sync, unmount
from trees import Broken, Load, Service, identical, read_all

FLUSH, DISCARD = 1, 4


class Recorder:
    """A loop device all of whose writes go into a log (in the format of Linux's dm-log-writes)."""

    def __init__(self, top, kind, size):
        self.top = top
        self.disk, self.base, self.log, self.seen = (os.path.join(top, n) for n in ("disk", "base", "log", "seen"))
        run("truncate", "-s", size, self.disk)
        run(*MKFS[kind], self.disk)
        run("cp", "--sparse=always", self.disk, self.base)
        run("truncate", "-s", "4G", self.log)
        open(self.seen, "w").close()
        self.daemon = subprocess.Popen([
            "qemu-storage-daemon", "--blockdev", f"driver=file,node-name=d,filename={self.disk}",
            "--blockdev", f"driver=file,node-name=l,filename={self.log}",
            "--blockdev", "driver=blklogwrites,node-name=b,file=d,log=l,log-sector-size=512",
            "--export", f"type=fuse,id=e,node-name=b,mountpoint={self.seen},writable=on"])
        for _ in range(200):
            if os.stat(self.seen).st_size:
                break
            time.sleep(0.05)
        self.device = subprocess.run(["losetup", "-f", "--show", self.seen], capture_output=True, text=True,
                                     check=True).stdout.strip()

    def end(self):
        run("losetup", "-d", self.device)
        self.daemon.terminate()
        self.daemon.wait()

    def entries(self):
        """For each write: where, how much, what kind, and where its data lies in the log."""
        with open(self.log, "rb") as f:
            magic, _, count, size = struct.unpack("<QQQI", f.read(28))
            assert magic == 0x6A736677736872
            found, at = [], size
            for _ in range(count):
                f.seek(at)
                sector, sectors, flags, _ = struct.unpack("<QQQQ", f.read(32))
                found.append((sector * size, sectors * size, flags, at + size))
                at += size + (0 if flags & DISCARD else sectors * size)
        return found

    def cut(self, entries, number, out):
        """The disk after the first `number` entries, less some of what no flush has followed: the same for each call."""
        rng = random.Random(number)
        run("cp", "--sparse=always", self.base, out)
        last = max((i for i in range(number) if entries[i][2] & FLUSH), default=-1)
        with open(self.log, "rb") as log, open(out, "r+b") as disk:
            for at, (start, length, flags, data) in enumerate(entries[:number]):
                if at > last and rng.random() < 0.5:
                    continue
                disk.seek(start)
                if flags & DISCARD:
                    disk.write(bytes(length))
                elif length:
                    log.seek(data)
                    disk.write(log.read(length))


def recorded(driftless, top, kind, place, most, seed):
    os.makedirs(top)
    source, mount_point = os.path.join(top, "source"), os.path.join(top, "mounted")
    os.makedirs(source)
    os.makedirs(mount_point)
    rng = random.Random(seed)
    replica = os.path.join(mount_point, "replica")
    state = os.path.join(mount_point if place == "same" else top, "state")
    environment = dict(os.environ, XDG_STATE_HOME=state, LOG=os.path.join(top, "driftless.log"))
    recorder = Recorder(top, kind, "320M" if kind == "xfs" else "64M")
    try:
        run("mount", recorder.device, mount_point)
        try:
            load = Load(source, seed, True)
            load.start()
            # Work, a rest in which all is committed, and work again with that behind it.
            service = Service(driftless, source, replica, os.path.join(top, "s"), environment)
            time.sleep(1.5)
            load.rest()
            service.flush()
            service.stop()
            load.go_on()
            neighbour = Neighbour(os.path.join(mount_point, "neighbour"), rng)
            neighbour.start()
            service = Service(driftless, source, replica, os.path.join(top, "s"), environment)
            time.sleep(1.5)
            load.end()
            service.flush()
            neighbour.end()
            service.stop()
            identical(driftless, source, replica)
        finally:
            unmount(mount_point)
    finally:
        recorder.end()
    entries = recorder.entries()
    flushes = [i for i, e in enumerate(entries) if e[2] & FLUSH]
    if len(flushes) < 20:
        raise Broken(f"only {len(flushes)} flushes were recorded")
    chosen = flushes if len(flushes) <= most else sorted(rng.sample(flushes, most))
    image, kept, seen = os.path.join(top, "cut"), os.path.join(top, "kept"), 0
    if place == "other":
        shutil.copytree(state, kept)
    for at in chosen:
        # At the flush, before it has happened; or some writes after it.
        number = min(at + rng.choice([0, 1, 1, 2, 5, 20]), len(entries))
        for attempt in range(2):
            # A device that is still being taken down can spoil one image, but not the same one twice.
            recorder.cut(entries, number, f"{image}{attempt}")
            run("mount", "-o", "loop", f"{image}{attempt}", mount_point)
            try:
                seen += read_all(replica, True) if os.path.isdir(replica) else 0
                sync(driftless, environment, source, replica)
                identical(driftless, source, replica)
                break
            except (Broken, OSError) as e:
                if attempt:
                    raise Broken(f"cut after {number} of {len(entries)} writes: {e}") from e
                print(f"once more: cut after {number} of {len(entries)} writes: {e}", file=sys.stderr)
            finally:
                unmount(mount_point)
        if place == "other":
            # The state folder as it was at the end, beside a disk of long before: it must prove every word of it.
            shutil.rmtree(state)
            shutil.copytree(kept, state)
    shutil.rmtree(top)
    return len(flushes), len(chosen), seen


def main():
    driftless, top, kind, place, most = sys.argv[1:6]
    start = time.monotonic()
    try:
        flushes, cuts, seen = recorded(driftless, os.path.join(top, f"recorded-{kind}-{place}"), kind, place, int(most),
                                       hash_of(kind + place))
    except Broken as e:
        print(f"broken: {e}")
        sys.exit(1)
    print(f"{flushes} flushes recorded, {cuts} cuts, {seen} versions read after them, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
