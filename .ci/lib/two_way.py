"""What the checks of two-way mode share: two sides with a state folder, operations on either side that leave no doubt
what has to come of them, and what has to come of them, worked out from what both sides hold."""

import hashlib
import os
import random
import shutil
import stat
import subprocess

from trees import RESERVED, Broken, can_hold_xattrs, link_groups, tree

SIDES = "source", "replica"
CONFLICT = ".conflict-"


class Pair:
    """Two sides, and the state folder."""

    def __init__(self, driftless, top, state=None, sides=None):
        self.driftless, self.top = driftless, top
        os.makedirs(top, exist_ok=True)
        self.sides = sides or [os.path.join(top, side) for side in SIDES]
        self.state = state or os.path.join(top, "state")
        self.environment = dict(os.environ, XDG_STATE_HOME=self.state, LOG=os.path.join(top, "log"))
        self.has_xattrs = can_hold_xattrs(top)

    def at(self, side, name):
        return os.path.join(self.sides[side], name)

    def write(self, side, name, data, seconds=None, mode="wb"):
        with open(self.at(side, name), mode) as f:
            f.write(data)
        if seconds:
            os.utime(self.at(side, name), (seconds, seconds))

    def command(self, *options):
        return [self.driftless, "sync", "--two-way", "--jobs", "1", "--max-delete", "100%", *options, *self.sides]

    def sync(self):
        """Returns what it said."""
        done = subprocess.run(self.command(), env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(f"sync ended with {done.returncode}: {done.stdout[-700:]} {done.stderr[-500:]}")
        return done.stdout

    def trees(self):
        return [tree(side) for side in self.sides]

    def equal(self):
        """Both sides are strictly equal, by the program's own verification too, and nothing of the program's is left."""
        done = subprocess.run([self.driftless, "verify", "-v", *self.sides], capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken(f"verify: {done.stdout[:600]} {done.stderr[:300]}")
        one, other = self.trees()
        for path in sorted(one.keys() | other.keys()):
            if path not in one or not one[path].same(other.get(path)):
                raise Broken(f"'{path}' differs: {one.get(path)} {other.get(path)}")
        if link_groups(one) != link_groups(other):
            raise Broken("hard links differ")
        for side in self.sides:
            if os.path.lexists(os.path.join(side, RESERVED)):
                raise Broken(f"the reserved folder of {side} is left: {list(os.walk(os.path.join(side, RESERVED)))}")
        return one

    def base(self):
        """The same small tree each time, agreed by both sides. Each side has its own of each kind, among one another."""
        for folder in (*self.sides, self.state):
            shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(self.sides[0])
        for s in "01":
            for folder in ("d", "m" + s, "full" + s, "t" + s, f"t{s}/below"):
                os.makedirs(self.at(0, folder), exist_ok=True)
            for name, size in (("a", 4000), ("b", 70_000), ("d/c", 500), ("d/e", 0), ("d/g", 700), ("h", 900), ("k", 30)):
                self.write(0, name + s, random.Random(name + s).randbytes(size), 1_600_000_000)
            for name in ("full@/x", "t@/1", "t@/below/2", "t@/below/3"):
                self.write(0, name.replace("@", s), name.replace("@", s).encode(), 1_600_000_000)
            os.link(self.at(0, "h" + s), self.at(0, "d/h" + s))
            os.symlink("d/c" + s, self.at(0, "s" + s))
        for name in ("still", "both", "crossed"):
            self.write(0, name, name.encode() * 100, 1_600_000_000)
        for folder, _, _ in os.walk(self.sides[0], topdown=False):
            os.utime(folder, (1_600_000_000, 1_600_000_000))
        self.sync()


def new():
    """What nobody has written before."""
    return os.urandom(8).hex().encode() * random.randint(1, 400)


def own_operations():
    """What a side does to what is its own: the other one does nothing there."""

    def on(p, side, name):
        return p.at(side, name.replace("@", str(side)))

    def put(p, side, name, data=None, mode="wb"):
        p.write(side, name.replace("@", str(side)), data or new(), mode=mode)

    def atomic_save(p, side):
        put(p, side, "d/.new@")
        os.chmod(on(p, side, "d/.new@"), 0o640)
        os.rename(on(p, side, "d/.new@"), on(p, side, "d/c@"))

    def chmod(p, side):
        os.chmod(on(p, side, "b@"), 0o600)
        if p.has_xattrs:
            os.setxattr(on(p, side, "b@"), "user.note", b"noted")

    def made(p, side):
        os.makedirs(on(p, side, "n@/below"))
        put(p, side, "n@/1")
        put(p, side, "n@/below/2")
        os.symlink("1", on(p, side, "n@/link"))

    def to_file(p, side):
        shutil.rmtree(on(p, side, "full@"))
        put(p, side, "full@")

    def to_folder(p, side):
        os.unlink(on(p, side, "k@"))
        os.mkdir(on(p, side, "k@"))
        put(p, side, "k@/in")

    def to_link(p, side):
        os.unlink(on(p, side, "s@"))
        os.symlink("elsewhere", on(p, side, "s@"))

    return {
        "create": lambda p, s: put(p, s, "new@"),
        "create below": lambda p, s: put(p, s, "m@/new"),
        "overwrite": lambda p, s: put(p, s, "a@"),
        "append": lambda p, s: put(p, s, "b@", mode="ab"),
        "atomic save": atomic_save,
        "rename": lambda p, s: os.rename(on(p, s, "a@"), on(p, s, "d/renamed@")),
        "rename over": lambda p, s: os.rename(on(p, s, "b@"), on(p, s, "d/g@")),
        "unlink": lambda p, s: os.unlink(on(p, s, "d/e@")),
        "folder tree": made,
        "remove a tree": lambda p, s: shutil.rmtree(on(p, s, "t@")),
        "rename a tree": lambda p, s: os.rename(on(p, s, "t@"), on(p, s, "d/u@")),
        "rmdir": lambda p, s: os.rmdir(on(p, s, "m@")),
        "chmod": chmod,
        "hard link": lambda p, s: os.link(on(p, s, "a@"), on(p, s, "d/linked@")),
        "write through a link": lambda p, s: put(p, s, "d/h@"),
        "symbolic link": to_link,
        "folder to file": to_file,
        "file to folder": to_folder,
    }


def crossed_operations():
    """What both sides do in one place, and no conflict."""

    def rescued(p, s):
        shutil.rmtree(p.at(s, "t0"))
        p.write(1 - s, "t0/below/new", new())

    def renamed(p, s):
        os.rename(p.at(s, "t1"), p.at(s, "d/v1"))
        p.write(1 - s, "t1/below/2", new())

    def comes_back(p, s):
        os.unlink(p.at(s, "crossed"))
        p.write(1 - s, "crossed", new())

    def fields(p, s):
        os.chmod(p.at(s, "crossed"), 0o640)
        p.write(1 - s, "crossed", new())

    def same(p, s):
        data = new()
        p.write(s, "same", data)
        p.write(1 - s, "same", data)

    def both_remove(p, s):
        os.unlink(p.at(s, "crossed"))
        os.unlink(p.at(1 - s, "crossed"))

    return {"new below a removed tree": rescued, "changed in a renamed tree": renamed, "removed and changed": comes_back,
            "attributes and contents": fields, "the same on both": same, "removed on both": both_remove}


def conflicts():
    """Both sides mean the same name: a true conflict in all names that begin with `both`."""

    def folder(p, s):
        os.unlink(p.at(s, "both"))
        os.mkdir(p.at(s, "both"))
        p.write(s, "both/in", new())
        p.write(1 - s, "both", new())

    return {
        "both overwrite": lambda p, s: (p.write(s, "both", new()), p.write(1 - s, "both", new())),
        "both create": lambda p, s: (p.write(s, "both.txt", new()), p.write(1 - s, "both.txt", new())),
        "a folder and a file": folder,
    }


def do(pair, sequence):
    """The sequence is of kinds, names and sides."""
    for kind, name, side in sequence:
        try:
            kind[name](pair, side)
        except OSError:
            pass  # An earlier operation took what this one needs.


def contents(entries):
    return {e.holds for e in entries.values() if e.kind == stat.S_IFREG}


def kept(base, one, other):
    """What has to be on either side at any time: what either side has made, and what none has taken away."""
    old, a, b = contents(base), contents(one), contents(other)
    return ((a - old) | (b - old) | (a & b)) - {digest(b"")}


def is_content(e, f):
    """Whether two entries hold the same, whatever their attributes are."""
    return e is not None and f is not None and (e.kind, e.holds) == (f.kind, f.holds)


class Meant:
    """What a name is to be."""

    def __init__(self, kind, holds, mode):
        self.kind, self.holds, self.mode = kind, holds, mode

    def __repr__(self):
        return f"<{oct(self.kind)} {str(self.holds)[:12]} {self.mode and oct(self.mode)}>"


def merged(base, one, other):
    """What both sides are to be: for each name what the side has that has changed it, with the attributes of both."""
    result = {}
    for path in base.keys() | one.keys() | other.keys():
        old, a, b = base.get(path), one.get(path), other.get(path)
        if a is None or (is_content(a, old) and b is not None and not is_content(b, old)):
            a, b = b, a
        # Now it is `a` that has other contents, if any has.
        if a is None or (b is None and is_content(a, old)):
            continue
        mode = a.attributes["mode"]
        if b is not None and old is not None and mode == old.attributes["mode"]:
            mode = b.attributes["mode"]
        result[path] = Meant(a.kind, a.holds, mode)
    for path in list(result):
        # What is new holds the folders that lead to it.
        while path:
            path = os.path.dirname(path)
            if path not in result:
                folder = one.get(path) or other.get(path)
                result[path] = Meant(folder.kind, None, folder.attributes["mode"])
    return result


def digest(data):
    return hashlib.sha256(data).hexdigest()


def as_meant(meant, now, is_conflict):
    """Each name is what it is meant to be, but those of true conflicts, and there is no other."""
    for path in sorted(meant.keys() | now.keys()):
        if path == "" or is_conflict and path.startswith("both"):
            continue
        want, have = meant.get(path), now.get(path)
        if want is None and CONFLICT in path:
            raise Broken(f"'{path}': a FALSE CONFLICT")
        if want is None:
            raise Broken(f"'{path}' is there, though it was removed")
        if have is None:
            raise Broken(f"'{path}' is gone, and nobody has removed it: {want}")
        if not is_content(want, have):
            raise Broken(f"'{path}' is not what was last written there: {want} {have}")
        if want.kind != stat.S_IFLNK and want.mode != have.attributes["mode"]:
            raise Broken(f"'{path}' has another mode: {want} {have}")
