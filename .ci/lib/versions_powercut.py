"""Cuts the power of the disk that a replica with versions is on, while a pass works, and, with a record of all writes, at any
point of one. Each tree that was flushed and on disk before the cut can be had again exactly: from the disk as the cut has
left it, and after the next pass. Called by `.ci/versions`, as root."""

import os
import random
import shutil
import subprocess
import sys
import time

from powercut import MKFS, run, unmount
from recorded import Recorder
from trees import Broken, cut_power
from versions import Shapes, World


def mount(image, disk):
    """Mounts what a cut has left; a disk whose power is gone can be there for a moment yet."""
    for _ in range(100):
        run("mount", "-o", "loop", image, disk)
        try:
            os.listdir(disk)
            return
        except OSError:
            unmount(disk)
            time.sleep(0.05)
    raise Broken(f"{disk} cannot be read after a cut")


def flushed(world, disk):
    """A pass, on disk, and what it was."""
    world.sync()
    run("sync", "-f", disk)
    world.note()


def look(world, rng, story):
    """What the cut has left, and what the next pass makes of it."""
    last = world.noted[-3:]
    try:
        for noted in last:
            world.check(noted)
    except Broken as e:
        raise Broken(f"{story}, at once: {e}") from e
    try:
        world.sync()
        # The clock goes on, and nothing is on disk that the next cut could not take.
        for noted in [*last, rng.choice(world.noted)]:
            world.check(noted)
    except Broken as e:
        raise Broken(f"{story}, after the next pass: {e}") from e


def cuts(driftless, top, kind, seconds, seed):
    os.makedirs(top)
    image, disk = os.path.join(top, "image"), os.path.join(top, "disk")
    run("truncate", "-s", "320M", image)
    run(*MKFS[kind], image)
    os.makedirs(disk)
    run("mount", "-o", "loop", image, disk)
    done, rng, began = 0, random.Random(seed), time.monotonic()
    try:
        world = World(driftless, os.path.join(top, "world"), os.path.join(disk, "replica"))
        shapes = Shapes(world)
        flushed(world, disk)
        while time.monotonic() - began < seconds:
            shapes.turn()
            work = subprocess.Popen(world.command(), env=world.environment, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
            time.sleep(0.25 * rng.random())
            cut_power(disk)
            work.kill()
            work.wait()
            unmount(disk)
            mount(image, disk)
            done += 1
            look(world, rng, f"cut {done}")
            flushed(world, disk)
    finally:
        if os.path.ismount(disk):
            unmount(disk)
    said = f"{done} cuts, {world.restores} trees restored"
    shutil.rmtree(top)
    return said


def recorded(driftless, top, kind, seconds, seed):
    os.makedirs(top)
    disk = os.path.join(top, "mounted")
    os.makedirs(disk)
    rng, marks = random.Random(seed), []
    recorder = Recorder(top, kind, "320M" if kind == "xfs" else "64M")
    try:
        run("mount", recorder.device, disk)
        try:
            world = World(driftless, os.path.join(top, "world"), os.path.join(disk, "replica"))
            shapes = Shapes(world)
            for at in range(4):
                if at:
                    shapes.turn()
                flushed(world, disk)
                marks.append(len(recorder.entries()))
        finally:
            unmount(disk)
    finally:
        recorder.end()
    entries, kept = recorder.entries(), list(zip(marks, world.noted))
    state = world.environment["XDG_STATE_HOME"]
    shutil.copytree(state, state + "-kept")
    began, done = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        number = rng.randrange(marks[0], len(entries) + 1)
        # A new file each time: a loop device is let go of late, and would still write to the old one.
        image = os.path.join(top, f"cut-{done}")
        recorder.cut(entries, number, image)
        mount(image, disk)
        try:
            # Of what came later this disk knows nothing.
            world.noted = [noted for mark, noted in kept if mark <= number]
            look(world, rng, f"after {number} of {len(entries)} writes")
        finally:
            unmount(disk)
        os.unlink(image)
        done += 1
        shutil.rmtree(state)
        shutil.copytree(state + "-kept", state)
    said = f"{done} cuts in {len(entries)} writes, {world.restores} trees restored"
    shutil.rmtree(top)
    return said


def main():
    what, driftless, top, kind, seconds, seed = sys.argv[1:7]
    start = time.monotonic()
    try:
        work = {"cuts": cuts, "recorded": recorded}[what]
        said = work(driftless, os.path.join(top, f"{what}-{kind}"), kind, float(seconds), int(seed))
    except Broken as e:
        print(f"broken: {e}")
        sys.exit(1)
    print(f"{said}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
