"""Kills `driftless sync` at its Nth system call that changes anything, after sequences of up to three operations, and a
running `watch` at random instants, and looks at every name afterwards. Called by `.ci/crashes`."""

import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time

from trees import (Broken, Load, Reader, Service, can_hold_xattrs, identical, old_or_new, read_all, tree)

CALLS = ("openat,mkdirat,mknodat,symlinkat,write,pwrite64,copy_file_range,ftruncate,fallocate,ioctl,fchmod,fchmodat,"
         "chmod,fchown,fchownat,fsetxattr,setxattr,lsetxattr,fremovexattr,utimensat,fsync,fdatasync,syncfs,linkat,renameat,"
         "renameat2,unlinkat")


class World:
    """A source, its replica, and the state folder."""

    def __init__(self, driftless, top):
        self.driftless, self.top = driftless, top
        os.makedirs(top)
        self.source, self.replica = os.path.join(top, "source"), os.path.join(top, "replica")
        os.makedirs(self.source)
        self.environment = dict(os.environ, XDG_STATE_HOME=os.path.join(top, "state"), LOG=os.path.join(top, "log"))
        self.has_xattrs = can_hold_xattrs(top)

    def base(self):
        """The same small tree each time, in both folders."""
        for entry in list(os.scandir(self.source)):
            # The root stays: another folder in its place would be held.
            shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)
        for folder in ("d", "m", "full"):
            os.makedirs(os.path.join(self.source, folder))
        for name, size in (("a", 4000), ("b", 70_000), ("d/c", 500), ("d/e", 0), ("h", 900), ("full/x", 10), ("still", 300)):
            self.write(name, random.Random(name).randbytes(size), 1_600_000_000)
        os.link(self.at("h"), self.at("d/h"))
        os.symlink("d/c", self.at("s"))
        for folder in ("d", "m", "full", ""):
            os.utime(self.at(folder), (1_600_000_000, 1_600_000_000))
        self.sync()

    def at(self, name):
        return os.path.join(self.source, name)

    def write(self, name, data, seconds=None, mode="wb"):
        with open(self.at(name), mode) as f:
            f.write(data)
        if seconds:
            os.utime(self.at(name), (seconds, seconds))

    def command(self):
        return [self.driftless, "sync", "-q", "--jobs", "1", "--max-delete", "100%", self.source, self.replica]

    def sync(self):
        done = subprocess.run(self.command(), env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(f"sync ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")

    def sync_killed_at(self, call):
        """Returns whether the kill came before the end."""
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}", "-e", "signal=none",
                  "-e", f"inject={CALLS}:signal=SIGKILL:when={call}"]
        done = subprocess.run(strace + self.command(), env=self.environment, capture_output=True, text=True)
        if done.returncode == 0:
            return False
        if done.returncode not in (-9, 137):
            raise Broken(f"sync under strace ended with {done.returncode}: {done.stderr[-500:]}")
        return True

    def calls(self):
        """How many of the calls one `sync` makes in its first thread."""
        out = os.path.join(self.top, "calls")
        subprocess.run(["strace", "-f", "-qq", "-o", out, "-e", f"trace={CALLS}", "-e", "signal=none"] + self.command(),
                       env=self.environment, capture_output=True, check=True)
        with open(out) as f:
            threads = [line.split()[0] for line in f]
        return max(threads.count(t) for t in set(threads))


def operations():
    def put(w, name, data):
        w.write(name, data)

    def atomic_save(w):
        w.write("d/.new", b"saved " * 300)
        os.chmod(w.at("d/.new"), 0o640)
        os.rename(w.at("d/.new"), w.at("d/c"))

    def chmod(w):
        os.chmod(w.at("b"), 0o600)
        if w.has_xattrs:
            os.setxattr(w.at("b"), "user.note", b"noted")

    def made(w):
        os.mkdir(w.at("n"))
        os.mkdir(w.at("n/below"))
        w.write("n/below/file", b"below")

    def kind(w):
        shutil.rmtree(w.at("full"))
        w.write("full", b"a file now")

    return {
        "create": lambda w: put(w, "new", os.urandom(3000)),
        "overwrite": lambda w: put(w, "a", os.urandom(9000)),
        "append": lambda w: w.write("b", os.urandom(5000), mode="ab"),
        "atomic save": atomic_save,
        "rename": lambda w: os.rename(w.at("a"), w.at("d/renamed")),
        "rename over": lambda w: os.rename(w.at("b"), w.at("d/c")),
        "unlink": lambda w: os.unlink(w.at("d/e")),
        "mkdir": made,
        "rmdir": lambda w: os.rmdir(w.at("m")),
        "chmod": chmod,
        "hard link": lambda w: os.link(w.at("a"), w.at("d/linked")),
        "write through a link": lambda w: put(w, "d/h", os.urandom(1200)),
        "symbolic link": lambda w: (os.unlink(w.at("s")), os.symlink("elsewhere", w.at("s"))),
        "folder to file": kind,
    }


def case(world, names, call):
    """One sequence, one kill. Returns whether it was killed."""
    doings = operations()
    world.base()
    old = tree(world.replica)
    for name in names:
        try:
            doings[name](world)
        except OSError:
            pass  # An earlier operation took what this one needs.
    new = tree(world.source)
    killed = world.sync_killed_at(call)
    old_or_new(old, new, tree(world.replica))
    world.sync()
    identical(world.driftless, world.source, world.replica)
    return killed


def kills_at_calls(driftless, top, part, parts, share, every):
    """One part of all sequences: those of one operation at every call, or some; a share of longer ones at one call each."""
    world = World(driftless, os.path.join(top, f"calls-{part}"))
    rng = random.Random(f"calls {part}")
    kills, sequences, known = 0, 0, {}
    names = list(operations())
    world.base()
    idle = world.calls()
    for name in names:
        world.base()
        operations()[name](world)
        known[name] = world.calls()
    for at, name in enumerate(names):
        sequences += 1
        for call in range(1, known[name] + 1):
            if call % (parts * every) == part:
                kills += step(world, (name,), call)
    longer = [s for n in (2, 3) for s in itertools.permutations(names, n)]
    for sequence in longer[part::parts]:
        if rng.random() >= share:
            continue
        sequences += 1
        calls = idle + sum(max(known[name] - idle, 1) for name in sequence)
        kills += step(world, sequence, rng.randint(1, calls))
    return kills, sequences


def step(world, sequence, call):
    try:
        return case(world, sequence, call)
    except Broken as e:
        raise Broken(f"{' + '.join(sequence)}, killed at call {call}: {e}") from e


def failed_syncs(driftless, top):
    """A copy that cannot be brought to disk is not published, and is made from scratch the next time."""
    world = World(driftless, os.path.join(top, "failed"))
    tried = 0
    for call, files in (("fsync", 1), ("fsync", 2), ("syncfs", 3), ("syncfs", 12)):
        world.base()
        for at in range(files):
            world.write("a" if at == 0 else f"new-{at}", os.urandom(3000))
        old, new = tree(world.replica), tree(world.source)
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", "signal=none",
                  "-e", f"inject={call}:error=EIO:when=1"]
        done = subprocess.run(strace + world.command(), env=world.environment, capture_output=True, text=True)
        if done.returncode != 1:
            raise Broken(f"{call} failed for {files} files, and sync ended with {done.returncode}: {done.stdout[-300:]}")
        now = tree(world.replica)
        old_or_new(old, new, now)
        # With syncfs none of them is known to be on disk, with fsync none of those after the failure is either.
        if not now["a"].same(old["a"]) or any(path.startswith("new-") for path in now):
            raise Broken(f"{call} failed for {files} files, and some were published")
        world.sync()
        identical(driftless, world.source, world.replica)
        tried += 1
    return tried


def kills_at_random(driftless, top, kills, seed, *options):
    """A working source, a service that is killed again and again, a reader that never stops."""
    world = World(driftless, os.path.join(top, f"random-{seed}"))
    os.makedirs(world.replica)
    socket = os.path.join(world.top, "s")
    rng = random.Random(seed)
    load = Load(world.source, seed, world.has_xattrs)
    reader = Reader(world.replica, world.has_xattrs)
    load.start()
    reader.start()
    for _ in range(kills):
        service = Service(driftless, world.source, world.replica, socket, world.environment, *options)
        # From the first moments of a start to the midst of the work.
        time.sleep(rng.choice([0.01, 0.04, 0.1, 0.25]) * rng.random() * 2)
        if service.process.poll() is not None:
            raise Broken(f"the service ended by itself: {service.process.stderr.read()[-500:]}")
        service.kill()
        if reader.problem:
            break
    service = Service(driftless, world.source, world.replica, socket, world.environment, *options)
    load.end()
    service.flush()
    reader.end()
    service.stop()
    identical(driftless, world.source, world.replica)
    return reader.looks, read_all(world.replica, world.has_xattrs)


def in_parallel(*works):
    """Runs all and returns what they return; the first problem ends it."""
    results, problems = [None] * len(works), []

    def run(at, work):
        try:
            results[at] = work()
        except BaseException as e:  # noqa: BLE001
            problems.append(e)

    threads = [threading.Thread(target=run, args=(i, w)) for i, w in enumerate(works)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if problems:
        raise problems[0]
    return results


def main():
    what, driftless, top = sys.argv[1:4]
    start = time.monotonic()
    try:
        if what == "calls":
            share, every = float(sys.argv[4]), int(sys.argv[5])
            done = in_parallel(*[lambda p=p: kills_at_calls(driftless, top, p, 2, share, every) for p in (0, 1)])
            kills = sum(d[0] for d in done)
            said = f"{kills} kills at a system call, {sum(d[1] for d in done)} runs of sequences"
        elif what == "failed":
            said = f"{failed_syncs(driftless, top)} failures"
        else:
            kills = int(sys.argv[4])
            done = kills_at_random(driftless, top, kills, 1, *sys.argv[5:])
            said = f"{kills} kills at random, {done[0]} versions read meanwhile, {done[1]} at the end"
    except Broken as e:
        print(f"broken: {e}")
        sys.exit(1)
    print(f"{said}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
