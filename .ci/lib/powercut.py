"""Cuts the power of the disk that the replica is on, again and again, while a service works, and looks at every name
afterwards. Called by `.ci/powercut`, as root."""

import os
import random
import shutil
import subprocess
import sys
import threading
import time

from trees import Broken, Load, Service, cut_power, identical, read_all

MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q"]}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)}: {done.stderr[-300:]}")


class Neighbour(threading.Thread):
    """Another program on the same disk, which brings its own file to disk: with it go all names that are in the
    journal, and not what they name."""

    def __init__(self, path, rng):
        super().__init__(daemon=True)
        self.path, self.pauses, self.ends = path, random.Random(rng.random()), threading.Event()

    def run(self):
        try:
            with open(self.path, "ab") as f:
                while not self.ends.is_set():
                    f.write(b"mine")
                    f.flush()
                    os.fsync(f.fileno())
                    time.sleep(0.002 + 0.03 * self.pauses.random())
        except OSError:
            pass  # The power is gone.

    def end(self):
        self.ends.set()
        self.join()


def unmount(place):
    for _ in range(100):
        if subprocess.run(["umount", place], capture_output=True).returncode == 0:
            return
        time.sleep(0.05)
    raise Broken(f"{place} cannot be unmounted")


def sync(driftless, environment, *arguments):
    done = subprocess.run([driftless, "sync", "-q", "--max-delete", "100%", *arguments], env=environment,
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise Broken(f"sync ended with {done.returncode}: {done.stdout[-500:]}")


def unsynced(driftless, top, kind, number, seed):
    """Copies that nothing has brought to disk, remembered as equal, and a cut: as after a restart of the machine, their
    contents are looked at again. Their sizes and times are on the disk: they tell nothing."""
    os.makedirs(top)
    image, disk, source = (os.path.join(top, n) for n in ("image", "disk", "source"))
    run("truncate", "-s", "320M", image)
    run(*MKFS[kind], image)
    os.makedirs(disk)
    os.makedirs(source)
    replica = os.path.join(disk, "replica")
    environment = dict(os.environ, XDG_STATE_HOME=os.path.join(top, "state"), LOG=os.path.join(top, "log"))
    boot = os.path.join(top, "boot")
    rng = random.Random(seed)
    empty = 0
    for at in range(number):
        run("mount", "-o", "loop", image, disk)
        try:
            for n in range(5):
                write_sparse(os.path.join(source, f"sparse-{at}-{n}"), rng)
            # Not so young that the clock's grain alone would have them compared.
            time.sleep(0.05)
            with open(boot, "w") as f:
                f.write(f"boot {at}\n")
            sync(driftless, environment, "--durability", "none", source, replica)
            # All inodes, and no data.
            with open(os.path.join(disk, "neighbour"), "wb") as f:
                os.fsync(f.fileno())
            cut_power(disk)
            unmount(disk)
            run("mount", "-o", "loop", image, disk)
            for n in range(5):
                name = f"sparse-{at}-{n}"
                with open(os.path.join(source, name), "rb") as a:
                    want = a.read()
                try:
                    with open(os.path.join(replica, name), "rb") as b:
                        have = b.read()
                except FileNotFoundError:
                    continue
                empty += len(have) == len(want) and have != want
            with open(boot, "w") as f:
                f.write(f"boot {at}, later\n")
            command = [driftless, "sync", "-q", source, replica]
            # The kernel's answer to which boot this is, for this one process.
            inside = f"mount --bind '{boot}' /proc/sys/kernel/random/boot_id && exec \"$@\""
            done = subprocess.run(["unshare", "-m", "sh", "-c", inside, "sh", *command], env=environment,
                                  capture_output=True, text=True)
            if done.returncode != 0:
                raise Broken(f"sync ended with {done.returncode}: {done.stdout[-300:]} {done.stderr[-300:]}")
            identical(driftless, source, replica)
        finally:
            unmount(disk)
    shutil.rmtree(top)
    if not empty:
        raise Broken("no cut left a file with the right size and other contents: nothing was shown")
    return empty


def write_sparse(path, rng):
    with open(path, "wb") as f:
        f.truncate(rng.randrange(30, 60) * 4096)
        f.seek(rng.randrange(1, 28) * 4096)
        f.write(rng.randbytes(5000))


def cuts(driftless, top, kind, durability, place, number, seed):
    """`place`: the state folder is on the `same` disk, whose power is cut, or on an`other` one. Returns how many versions were read after a cut."""
    os.makedirs(top)
    image, disk, source = (os.path.join(top, n) for n in ("image", "disk", "source"))
    run("truncate", "-s", "320M", image)
    run(*MKFS[kind], image)
    os.makedirs(disk)
    os.makedirs(source)
    run("mount", "-o", "loop", image, disk)
    replica = os.path.join(disk, "replica")
    state = os.path.join(disk if place == "same" else top, "state")
    environment = dict(os.environ, XDG_STATE_HOME=state, LOG=os.path.join(top, "log"))
    rng = random.Random(seed)
    load = Load(source, seed, True)
    load.start()
    options = ["--durability", durability]
    seen = 0
    try:
        for at in range(number):
            service = Service(driftless, source, replica, os.path.join(top, "s"), environment, *options)
            neighbour = Neighbour(os.path.join(disk, "neighbour"), rng)
            neighbour.start()
            time.sleep(rng.choice([0.1, 0.3, 0.8]) * (0.3 + rng.random()))
            cut_power(disk)
            service.kill()
            neighbour.end()
            unmount(disk)
            run("mount", "-o", "loop", image, disk)
            if durability == "batch" or place == "control":
                try:
                    seen += read_all(replica, True) if os.path.isdir(replica) else 0
                except Broken as e:
                    raise Broken(f"cut {at + 1}: {e}") from e
            # Now and then the next start has to make all good that the cut left; else it is cut in the midst of that.
            if at % 3 == 2 or at + 1 == number:
                load.rest()
                try:
                    sync(driftless, environment, *options, source, replica)
                    identical(driftless, source, replica)
                    read_all(replica, True)
                except Broken as e:
                    raise Broken(f"cut {at + 1}, after the next start: {e}") from e
                load.go_on()
    finally:
        load.end()
        if os.path.ismount(disk):
            unmount(disk)
    shutil.rmtree(top)
    return seen


def main():
    driftless, top, kind, durability, place, number = sys.argv[1:7]
    start = time.monotonic()
    try:
        own = os.path.join(top, f"{kind}-{durability}-{place}")
        if place == "remembered":
            seen = f"{unsynced(driftless, own, kind, int(number), 1)} files with the right size and other contents"
        else:
            seed = hash_of(kind + durability + place)
            seen = f"{cuts(driftless, own, kind, durability, place, int(number), seed)} versions read"
    except Broken as e:
        print(f"broken: {e}")
        sys.exit(1)
    print(f"{number} cuts, {seen} after them, {time.monotonic() - start:.0f} s")


def hash_of(words):
    return sum(ord(c) * (i + 1) for i, c in enumerate(words)) % 1000


if __name__ == "__main__":
    main()
