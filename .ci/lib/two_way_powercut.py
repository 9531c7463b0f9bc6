"""Cuts the power of the disks that two sides are on, of each in turn and of both, while `watch --two-way` works and both
sides are at work, each in a folder of its own. What the program has written is complete; what either side has of its own
after the cut is somewhere afterwards; the next start makes both sides equal. Called by `.ci/powercut`, as root."""

import glob
import os
import random
import shutil
import sys
import time

from powercut import MKFS, Neighbour, hash_of, run, unmount
from trees import Broken, Load, Service, cut_power, is_versioned, read_version, tree
from two_way import SIDES, Pair, contents


class Disk:
    """One side's disk, and the side on it."""

    def __init__(self, top, kind, name):
        self.image, self.place = os.path.join(top, f"image-{name}"), os.path.join(top, f"disk-{name}")
        run("truncate", "-s", "320M", self.image)
        run(*MKFS[kind], self.image)
        os.makedirs(self.place)
        self.side = os.path.join(self.place, "side")
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.place)

    def again(self):
        """As after the machine has come up: what the disk has."""
        unmount(self.place)
        self.mount()

    def sync(self):
        run("sync", "-f", self.place)


def own(side):
    return f"of the {SIDES[side]}"


def versions(top):
    for folder, _, names in os.walk(top):
        yield from (os.path.join(folder, name) for name in names if is_versioned(name))


def read_all(top):
    """Reads each version; returns how many."""
    return sum(read_version(path, False, contents_only=True) is not None for path in versions(top))


def scrub(top):
    """A side's own last writes may have been lost: that is its own doing. It removes what is not whole."""
    for path in versions(top):
        try:
            read_version(path, False, contents_only=True)
        except Broken:
            os.unlink(path)


def lost(before, now):
    """What is nowhere any more of what was there."""
    missing = contents(before) - contents(now)
    return sorted(path for path, entry in before.items() if entry.holds in missing)


def superseded(pair, side, path, said):
    """Whether the program had brought something later of this side's path to the other one before the cut: by that it goes
    on, and what the cut has brought back is what this side itself had given up."""
    top, parts = pair.at(1 - side, own(side)), path.split("/")
    places = ["/".join([top, *parts[:n]]) for n in range(1, len(parts) + 1)]
    words = ("updated: ", "removed: ", "copied: ", "created: ", "Renamed: ")
    return any(f"'{place}'" in line and any(word in line for word in words) for line in said for place in places)


def number(path):
    """The number of the version that a path holds, the later the higher; -1 where it holds none that is whole."""
    try:
        return read_version(path, False, contents_only=True) or -1
    except (Broken, OSError):
        return -1


def later(pair, side):
    """Where the other side has a later version of this side's own: the program has brought it, and the line that says so may
    have been on its way to the log."""
    top = pair.at(side, own(side))
    paths = [os.path.relpath(path, top) for path in versions(top)]
    return {path for path in paths
            if number(os.path.join(pair.at(1 - side, own(side)), path)) > number(os.path.join(top, path))}


def sync(pair, durability):
    service = Service(pair.driftless, *pair.sides, os.path.join(pair.top, "s"), pair.environment, "--two-way",
                      "--durability", durability)
    service.flush()
    service.stop()
    return pair.equal()


def cut(pair, disks, loads, which, durability, rng):
    """One cut under work, and the next start. Returns how many versions were read."""
    log = pair.environment["LOG"]
    said = os.path.getsize(log)
    service = Service(pair.driftless, *pair.sides, os.path.join(pair.top, "s"), pair.environment, "--two-way",
                      "--durability", durability)
    neighbours = [Neighbour(os.path.join(disk.place, "neighbour"), rng) for disk in disks]
    for thread in neighbours:
        thread.start()
    time.sleep(rng.choice([0.2, 0.4, 0.8]) * (0.3 + rng.random()))
    before = None
    if rng.random() < 0.5:
        # The service meets a disk that is gone, and nobody else does anything.
        for load in loads:
            load.rest()
        before = [tree(pair.at(side, own(side))) for side in (0, 1)]
    for at in which:
        cut_power(disks[at].place)
    if before is not None:
        time.sleep(0.4 * rng.random())
    service.kill()
    with open(log, errors="replace") as file:
        file.seek(said)
        said = file.readlines()
    for load in loads:
        load.rest()
    for thread in neighbours:
        thread.end()
    for at in which:
        disks[at].again()
    # Another start of the machine, or a disk that was pulled out.
    for log in glob.glob(os.path.join(pair.state, "driftless", "*", "archive.log[01]")):
        if rng.random() < 0.3:
            os.unlink(log)
    there = [tree(pair.at(side, own(side))) if os.path.isdir(pair.at(side, own(side))) else {} for side in (0, 1)]
    for side in (0, 1):
        if before is not None and side not in which and lost(before[side], there[side]):
            raise Broken(f"lost while the other disk was gone: {lost(before[side], there[side])}")
    seen = 0
    if durability == "batch":
        seen = sum(read_all(pair.at(1 - side, own(side))) for side in (0, 1))
    given_up = [later(pair, side) for side in (0, 1)]
    now = sync(pair, durability)
    for side in (0, 1):
        missing = [path for path in lost(there[side], now)
                   if path not in given_up[side] and not superseded(pair, side, path, said)]
        if missing:
            raise Broken(f"lost of the {SIDES[side]}'s own by the next start: {missing}")
    for side in (0, 1):
        scrub(pair.at(side, own(side)))
    return seen


def cuts(driftless, top, kind, which, durability, place, number, seed):
    """`which`: the disks of the `source`, of the `replica`, or of `both`. `place`: the state folder is on the `same` disk as
    the source, or on an`other` one."""
    os.makedirs(top)
    rng, seen = random.Random(seed), 0
    disks, loads = [], []
    try:
        for name in SIDES:
            disks.append(Disk(top, kind, name))
        state = os.path.join(disks[0].place if place == "same" else top, "state")
        pair = Pair(driftless, top, state, [disk.side for disk in disks])
        for side in (0, 1):
            os.makedirs(pair.at(side, own(side)))
            loads.append(Load(pair.at(side, own(side)), 2 * seed + side, True, 0.004))
        sync(pair, durability)
        for disk in disks:
            disk.sync()
        for load in loads:
            load.start()
        for at in range(number):
            for load in loads:
                load.go_on()
            try:
                seen += cut(pair, disks, loads, which, durability, rng)
            except Broken as e:
                raise Broken(f"cut {at + 1}: {e}") from e
            for side in (0, 1):
                if not os.path.isdir(pair.at(side, own(side))):
                    raise Broken(f"cut {at + 1}: the folder of the {SIDES[side]} is gone")
            if rng.random() < 0.5:
                sync(pair, durability)
                for disk in disks:
                    disk.sync()
    finally:
        for load in loads:
            load.end() if load.is_alive() else None
        for disk in disks:
            if os.path.ismount(disk.place):
                unmount(disk.place)
    shutil.rmtree(top)
    return seen


def main():
    driftless, top, kind, which, durability, place, number = sys.argv[1:8]
    start = time.monotonic()
    try:
        folder = os.path.join(top, f"two-way-{kind}-{which}-{durability}-{place}")
        seed = hash_of(kind + which + durability + place)
        sides = {"source": [0], "replica": [1], "both": [0, 1]}[which]
        seen = cuts(driftless, folder, kind, sides, durability, place, int(number), seed)
    except Broken as e:
        print(f"broken: {e}")
        sys.exit(1)
    print(f"{number} cuts, {seen} versions read after them, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
