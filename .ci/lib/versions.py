"""What the checks of versions share: a source with its replica, moments at which both were equal and what the source was
then, and `driftless restore`, which has to make exactly that of the replica's disk."""

import ctypes
import os
import random
import shutil
import subprocess
import time

from trees import Broken, link_groups, tree

KEEP = ("--keep-versions", "30d", "--max-delete", "100%")
# Whose `restore` looks at the disk: the program's own, if nothing else is wanted.
RESTORER = os.environ.get("DRIFTLESS_RESTORER")
EXCHANGE = 2

libc = ctypes.CDLL(None, use_errno=True)


def exchange(one, other):
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), f"exchange of {one} and {other}")


class Noted:
    """A moment at which nothing was under way, and what the source was."""

    def __init__(self, top):
        time.sleep(0.003)
        self.time, self.tree = time.time_ns(), tree(top)
        time.sleep(0.003)

    def at(self):
        return f"@{self.time // 10**9}.{self.time % 10**9:09}"


def differences(want, have):
    """What is otherwise than it was."""
    for path in sorted(want.keys() | have.keys()):
        a, b = want.get(path), have.get(path)
        if a is None or not a.same(b):
            yield f"'{path}' was {a} and is {b}"
    if link_groups(want) != link_groups(have):
        yield f"links were {link_groups(want)} and are {link_groups(have)}"


def below(entries, path):
    if not path:
        return entries
    return {name[len(path) + 1:]: e for name, e in entries.items() if name == path or name.startswith(path + "/")}


class World:
    """A source, its replica, and the state folder."""

    def __init__(self, driftless, top, replica=None, state=None):
        self.driftless, self.top = driftless, top
        os.makedirs(top, exist_ok=True)
        self.source = os.path.join(top, "source")
        self.replica = replica or os.path.join(top, "replica")
        os.makedirs(self.source)
        state = state or os.path.join(top, "state")
        self.environment = dict(os.environ, XDG_STATE_HOME=state, LOG=os.path.join(top, "log"))
        self.noted, self.restores = [], 0

    def command(self, *options):
        return [self.driftless, "sync", "-q", *KEEP, *options, self.source, self.replica]

    def sync(self, *options):
        done = subprocess.run(self.command(*options), env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(f"sync ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")

    def note(self):
        """Now the replica is what the source is."""
        noted = Noted(self.source)
        wrong = list(differences(noted.tree, tree(self.replica)))
        if wrong:
            raise Broken(f"the replica is not what the source is: {wrong[:4]}")
        self.noted.append(noted)

    def check(self, noted, path=""):
        """What was at a path at that moment is what `restore` makes of the replica's disk alone."""
        to = os.path.join(self.top, "restored")
        command = [RESTORER or self.driftless, "restore", "--replica", self.replica, "--to", to, "--at", noted.at(), "--",
                   path or "."]
        done = subprocess.run(command, env=dict(self.environment, XDG_STATE_HOME="/nonexistent"), cwd="/",
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(f"{' '.join(command[1:])}: {done.returncode}: {done.stdout[-400:]} {done.stderr[-400:]}")
        wrong = list(differences(below(noted.tree, path), tree(to) if os.path.isdir(to) else {}))
        if wrong and os.path.isdir(to):
            raise Broken(f"at {noted.at()}, {len(wrong)} differences in '{path}': {wrong[:4]}")
        # Not by a try: what opens a FIFO waits for ever.
        if os.path.isdir(to) and not os.path.islink(to):
            shutil.rmtree(to)
        elif os.path.lexists(to):
            os.unlink(to)
        self.restores += 1

    def at(self, name):
        return os.path.join(self.source, name)

    def write(self, name, data, mode="wb"):
        with open(self.at(name), mode) as f:
            f.write(data)


class Shapes:
    """Two shapes of a source that differ in all ways, and the way from one to the other by what people do."""

    def __init__(self, world):
        self.w, self.is_second, self.rng = world, False, random.Random(5)
        w = world
        for folder in ("d", "full", "tree/below", "tree/other", "empty", "x"):
            os.makedirs(w.at(folder))
        for name in ("saved", "in-place", "moved", "over", "x/one", "x/two", "linked", "written", "full/1", "d/file",
                     "tree/1", "tree/below/2", "tree/below/deep", "bits", "goes", b"odd \xff\n=\\".decode("utf-8", "surrogateescape")):
            self.new(name)
        os.link(w.at("linked"), w.at("d/linked"))
        os.link(w.at("written"), w.at("tree/written"))
        os.symlink("d/file", w.at("link"))
        os.symlink("nowhere", w.at("to-folder"))
        os.mkfifo(w.at("pipe"), 0o640)

    def new(self, name):
        self.w.write(name, self.rng.randbytes(self.rng.choice([0, 30, 700, 5000, 40_000])))

    def save(self, name):
        self.new(name + "~")
        os.rename(self.w.at(name + "~"), self.w.at(name))

    def turn(self):
        """Goes to the other shape."""
        w, at = self.w, self.w.at
        self.is_second = not self.is_second
        there = self.is_second
        self.save("saved")
        self.new("in-place")
        w.write("written", b"more", mode="ab")
        self.save("tree/1" if there else "d/tree/1")
        os.rename(*self.way("moved", "d/renamed"))
        os.rename(*self.way("tree", "d/tree"))
        full = "x" if there else "empty"
        exchange(at(full + "/one"), at(full + "/two"))
        if there:
            exchange(at("x"), at("empty"))
            os.rename(at("over"), at("saved"))
            os.unlink(at("d/linked"))
            os.unlink(at("goes"))
            shutil.rmtree(at("full"))
            self.new("full")
            os.unlink(at("to-folder"))
            os.makedirs(at("to-folder/below"))
            self.new("to-folder/below/file")
            os.unlink(at("pipe"))
            self.new("pipe")
            os.makedirs(at("made/a/b"))
            self.new("made/a/b/file")
            os.symlink("x", at("made/link"))
        else:
            exchange(at("x"), at("empty"))
            self.new("over")
            os.link(at("linked"), at("d/linked"))
            self.new("goes")
            os.unlink(at("full"))
            os.mkdir(at("full"))
            self.new("full/1")
            shutil.rmtree(at("to-folder"))
            os.symlink("nowhere", at("to-folder"))
            os.unlink(at("pipe"))
            os.mkfifo(at("pipe"), 0o640)
            shutil.rmtree(at("made"))
        os.unlink(at("link"))
        os.symlink("elsewhere" if there else "d/file", at("link"))
        os.chmod(at("bits"), 0o600 if there else 0o4755)
        os.chmod(at("d"), 0o700 if there else 0o755)
        for name in ("bits", "d", "d/file"):
            os.setxattr(at(name), "user.tag", str(self.rng.random()).encode())
            os.utime(at(name), ns=(0, self.rng.randrange(10**18)))

    def way(self, one, other):
        pair = self.w.at(one), self.w.at(other)
        return pair if self.is_second else pair[::-1]
