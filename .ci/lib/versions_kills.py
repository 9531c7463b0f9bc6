"""Kills `driftless sync --keep-versions` at its Nth system call that changes anything, between two shapes of a source that
differ in all ways. At once, and after the next clean pass, each tree that was flushed before can be had again exactly.
Called by `.ci/versions`."""

import os
import random
import sys
import time

import killed_at
from trees import Broken
from versions import Shapes, World


def killed(world, call):
    """One pass. Returns whether it was killed, how many calls it came to, and before which it was killed."""
    output = os.path.join(world.top, "said")
    code, calls, last = killed_at.traced(world.command("--jobs", "1"), world.environment, output, call)
    if code not in (0, -9):
        with open(output) as f:
            raise Broken(f"sync ended with {code}: {f.read()[-700:]}")
    return code != 0, calls, last


def kills(driftless, top, seconds, seed):
    world = World(driftless, top)
    shapes, rng = Shapes(world), random.Random(seed)
    world.sync()
    world.note()
    most, began = 0, time.monotonic()
    for _ in range(2):
        shapes.turn()
        most = max(most, killed(world, None)[1])
        world.note()
    order = [call for call in range(1, most + 1)]
    rng.shuffle(order)
    done, story = 0, []
    while time.monotonic() - began < seconds:
        shapes.turn()
        story = []
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            # Killed again in the midst of making it good.
            is_killed, calls, last = killed(world, order[done % len(order)] if not story else rng.randrange(1, most))
            story.append(f"killed before call {calls}, {last}" if is_killed else "not killed")
            done += is_killed
            if rng.random() < 0.4:
                shapes.save("saved")
            try:
                # The disk alone, with nobody having made anything good.
                world.check(rng.choice(world.noted[-3:]))
            except Broken as e:
                raise Broken(f"{'; '.join(story)}; at once: {e}") from e
            if not is_killed:
                break
        time.sleep(rng.choice([0, 0.02]))
        try:
            world.sync(*rng.choice([(), ("--durability", "none")]))
            world.note()
            for noted in world.noted[-3:]:
                world.check(noted)
            noted = rng.choice(world.noted)
            world.check(noted, rng.choice(sorted(noted.tree)))
        except Broken as e:
            raise Broken(f"{'; '.join(story)}; after the next pass: {e}") from e
    for noted in world.noted if len(world.noted) < 40 else rng.sample(world.noted, 40):
        world.check(noted)
    return done, most, world


def main():
    driftless, top, seconds, seed = sys.argv[1:5]
    start = time.monotonic()
    if not killed_at.can_be_done():
        print("skipped: no kills at each system call on this kind of machine")
        return
    try:
        done, most, world = kills(driftless, os.path.join(top, "kills"), float(seconds), int(seed))
    except Broken as e:
        print(f"broken: {e}")
        sys.exit(1)
    print(f"{done} kills at one of {most} system calls, {len(world.noted)} times, {world.restores} trees restored, "
          f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
