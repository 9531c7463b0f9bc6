"""What the checks of crashes and power cuts share: trees as they are on the disk, files that describe themselves, a
source that is at work all the time, and readers that never stop looking."""

import atexit
import fcntl
import hashlib
import os
import random
import stat
import struct
import subprocess
import threading
import time

RESERVED = ".driftless"


class Broken(Exception):
    """A promise that was not kept."""


def xattrs(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return ()
    return tuple(sorted((n, os.getxattr(path, n, follow_symlinks=False)) for n in names if n.startswith("user.")))


class Entry:
    """One name: what it is, what it holds, and its attributes."""

    def __init__(self, path):
        s = os.lstat(path)
        self.kind = stat.S_IFMT(s.st_mode)
        self.inode, self.ctime, self.nlink = s.st_ino, s.st_ctime_ns, s.st_nlink
        self.holds = None
        if self.kind == stat.S_IFREG:
            with open(path, "rb") as f:
                self.holds = hashlib.sha256(f.read()).hexdigest()
        elif self.kind == stat.S_IFLNK:
            self.holds = os.readlink(path)
        mode = None if self.kind == stat.S_IFLNK else stat.S_IMODE(s.st_mode)
        self.attributes = {
            "mode": mode, "owner": (s.st_uid, s.st_gid), "mtime": s.st_mtime_ns, "xattrs": xattrs(path)
        }

    def same(self, other):
        return other is not None and (self.kind, self.holds, self.attributes) == (
            other.kind, other.holds, other.attributes)

    def __repr__(self):
        return f"<{oct(self.kind)} {str(self.holds)[:12]} {self.attributes}>"


def tree(top):
    """All names below `top`, without the reserved folder."""
    found = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        for name in os.listdir(os.path.join(top, folder)):
            path = os.path.join(folder, name)
            if path == RESERVED:
                continue
            found[path] = Entry(os.path.join(top, path))
            if found[path].kind == stat.S_IFDIR:
                folders.append(path)
    found[""] = Entry(top)
    return found


def link_groups(entries):
    groups = {}
    for path, entry in entries.items():
        if entry.kind == stat.S_IFREG:
            groups.setdefault(entry.inode, set()).add(path)
    return {frozenset(paths) for paths in groups.values() if len(paths) > 1}


def identical(driftless, source, replica):
    """By the program's own verification, and by this one; and nothing of the program's is left."""
    done = subprocess.run([driftless, "verify", "-v", source, replica], capture_output=True, text=True)
    if done.returncode != 0:
        raise Broken(f"verify: {done.stdout[:600]} {done.stderr[:300]}")
    want, have = tree(source), tree(replica)
    for path in sorted(want.keys() | have.keys()):
        a, b = want.get(path), have.get(path)
        if a is None or not a.same(b):
            raise Broken(f"'{path}' differs: {a} {b}")
    if link_groups(want) != link_groups(have):
        raise Broken("hard links differ")
    if os.path.lexists(os.path.join(replica, RESERVED)):
        raise Broken("the reserved folder is left")


def old_or_new(old, new, now):
    """Each name holds the old or the new version, with the attributes of that version; what was not to be changed was
    not; and there is no other name. Folders get their attributes when all below them is done."""
    for path in sorted(old.keys() | new.keys() | now.keys()):
        before, after, there = old.get(path), new.get(path), now.get(path)
        if there is None:
            if before is not None and after is not None:
                raise Broken(f"'{path}' is missing")
            continue
        if before is None and after is None:
            raise Broken(f"'{path}' came from nowhere")
        if before is not None and after is not None and before.same(after):
            unlinked = before.nlink == 1 and after.nlink == 1 and before.kind == stat.S_IFREG
            if before.kind != stat.S_IFDIR and (not there.same(before) or (unlinked and there.inode != before.inode)):
                raise Broken(f"'{path}' was touched for nothing: {before} {there}")
        versions = [v for v in (before, after) if v is not None and (v.kind, v.holds) == (there.kind, there.holds)]
        if not versions:
            raise Broken(f"'{path}' holds neither version: {before} {after} {there}")
        if there.kind == stat.S_IFDIR:
            continue
        for name, value in there.attributes.items():
            if value not in [v.attributes[name] for v in versions]:
                raise Broken(f"'{path}' has a {name} of neither version: {versions} {there}")


### Files that describe themselves


def version(number, rng):
    """The bytes of one version, and the attributes that belong to it. They are written in the file itself."""
    mode = 0o600 | rng.choice([0, 0o11, 0o44, 0o55, 0o66])
    mtime = 1_500_000_000_000_000_000 + number * 1_000_000_007
    length = rng.choice([0, 10, 900, 5000, 40_000, 200_000])
    body = rng.randbytes(length)
    digest = hashlib.sha256(body).hexdigest()
    return f"version {number} {mode} {mtime} {length} {digest}\n".encode() + body, mode, mtime


def write_version(folder, name, number, rng, has_xattrs):
    """Saves a version as an editor does: unseen, then under its name."""
    data, mode, mtime = version(number, rng)
    unseen = os.path.join(folder, f".unseen-{threading.get_ident()}")
    fd = os.open(unseen, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        half = len(data) // 2
        os.write(fd, data[:half])
        if rng.random() < 0.1:
            time.sleep(0.03)
        os.write(fd, data[half:])
        os.fchmod(fd, mode)
        if has_xattrs:
            os.setxattr(fd, "user.version", str(number).encode())
        os.utime(fd, ns=(mtime, mtime))
    finally:
        os.close(fd)
    os.rename(unseen, os.path.join(folder, name))


def read_version(path, has_xattrs, contents_only=False):
    """The number of the version that a name holds; None where there is none. Anything but one complete version with its
    own attributes is a broken promise."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as f:
        # The attributes of what is open may be mended under the reader only where the version stays.
        s = os.fstat(fd)
        data = f.read()
        mark = None
        if has_xattrs:
            try:
                mark = os.getxattr(fd, "user.version").decode()
            except OSError:
                mark = "missing"
    head, _, body = data.partition(b"\n")
    words = head.decode("ascii", "replace").split()
    if len(words) != 6 or words[0] != "version":
        raise Broken(f"{path} holds no version: {len(data)} bytes, {data[:40]!r}")
    number, mode, mtime, length = map(int, words[1:5])
    if len(body) != length or hashlib.sha256(body).hexdigest() != words[5]:
        raise Broken(f"{path} is torn: version {number}, {len(body)} of {length} bytes")
    if not contents_only and (stat.S_IMODE(s.st_mode), s.st_mtime_ns) != (mode, mtime):
        raise Broken(f"{path}: mode {oct(s.st_mode)} mtime {s.st_mtime_ns}, not those of version {number}: {words}")
    if not contents_only and mark is not None and mark != str(number):
        raise Broken(f"{path}: the extended attribute says {mark}, the contents {number}")
    return number


def is_versioned(name):
    return name.startswith("v-")


def read_all(replica, has_xattrs):
    """Looks at every name once. Returns how many versions were seen."""
    seen = 0
    for folder, folders, names in os.walk(replica):
        if folder == replica and RESERVED in folders:
            folders.remove(RESERVED)
        for name in names:
            if is_versioned(name):
                seen += read_version(os.path.join(folder, name), has_xattrs) is not None
    return seen


class Load(threading.Thread):
    """A source at work: versions saved, names renamed, linked, removed, folders made and moved, files written in place."""

    def __init__(self, source, seed, has_xattrs, pause=0.002):
        super().__init__(daemon=True)
        self.source, self.rng, self.has_xattrs, self.pause = source, random.Random(seed), has_xattrs, pause
        self.number, self.ends, self.problem = seed * 1_000_000, threading.Event(), None
        self.runs = threading.Event()
        self.runs.set()
        self.rests = threading.Event()

    def folder(self):
        return os.path.join(self.source, self.rng.choice(["", "", "one", "two", "two/three"]))

    def step(self):
        rng, folder = self.rng, self.folder()
        os.makedirs(folder, exist_ok=True)
        name = os.path.join(folder, f"v-{rng.randrange(6)}")
        other = os.path.join(self.folder(), f"v-{rng.randrange(6)}")
        what = rng.random()
        self.number += 1
        if what < 0.55:
            write_version(folder, os.path.basename(name), self.number, rng, self.has_xattrs)
        elif what < 0.65:
            os.makedirs(os.path.dirname(other), exist_ok=True)
            os.rename(name, other)
        elif what < 0.72:
            os.unlink(name)
        elif what < 0.78:
            os.link(name, other)
        elif what < 0.81:
            # Its size is in the filesystem's journal before its data is anywhere.
            with open(os.path.join(folder, f"sparse-{rng.randrange(3)}"), "wb") as f:
                f.truncate(rng.randrange(1, 60) * 4096)
                f.seek(rng.randrange(1, 30) * 4096)
                f.write(rng.randbytes(5000))
        elif what < 0.90:
            with open(os.path.join(folder, f"loose-{rng.randrange(3)}"), rng.choice(["wb", "ab"])) as f:
                f.write(rng.randbytes(rng.randrange(30_000)))
        elif what < 0.94:
            os.rename(os.path.join(self.source, "two"), os.path.join(self.source, "one", f"moved-{rng.randrange(2)}"))
        elif what < 0.97:
            os.symlink(f"to-{self.number}", os.path.join(folder, f"link-{self.number % 7}"))
        else:
            os.chmod(folder, rng.choice([0o700, 0o755, 0o750]))

    def run(self):
        while not self.ends.is_set():
            if not self.runs.is_set():
                self.rests.set()
                self.runs.wait(0.05)
                continue
            try:
                self.step()
            except OSError:
                pass  # Not there, there already, not empty: the next step is another.
            except Exception as e:  # noqa: BLE001
                self.problem = e
                return
            time.sleep(self.pause * self.rng.random() * 2)

    def rest(self):
        self.rests.clear()
        self.runs.clear()
        self.rests.wait(5)

    def go_on(self):
        self.runs.set()

    def end(self):
        self.ends.set()
        self.runs.set()
        self.join()
        if self.problem:
            raise self.problem


class Reader(threading.Thread):
    """Opens names in the replica for as long as it runs; each must hold a complete version. The attributes of a linked
    or renamed file are mended after its name is there, so that only the contents are judged in passing."""

    def __init__(self, replica, has_xattrs):
        super().__init__(daemon=True)
        self.replica, self.has_xattrs = replica, has_xattrs
        self.ends, self.problem, self.looks = threading.Event(), None, 0

    def run(self):
        places = [os.path.join(self.replica, f, f"v-{n}") for f in ("", "one", "two", "two/three") for n in range(6)]
        while not self.ends.is_set():
            for place in places:
                try:
                    self.looks += read_version(place, self.has_xattrs, contents_only=True) is not None
                except NotADirectoryError:
                    pass
                except Broken as e:
                    self.problem = e
                    return
            time.sleep(0.001)

    def end(self):
        self.ends.set()
        self.join()
        if self.problem:
            raise self.problem


class Service:
    """A running `driftless watch`."""

    def __init__(self, driftless, source, replica, socket, environment, *options):
        self.driftless, self.socket, self.environment = driftless, socket, environment
        command = [driftless, "watch", "-q", "--control", socket, "--max-delete", "100%", "--debounce", "20ms",
                   "--log-file", environment["LOG"], *options, source, replica]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)
        # A check that fails leaves nothing running.
        atexit.register(self.process.kill)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def flush(self, seconds=60):
        limit = time.monotonic() + seconds
        while True:
            done = subprocess.run([self.driftless, "flush", "--control", self.socket, "--timeout", f"{seconds}s"],
                                  env=self.environment, capture_output=True, text=True)
            if done.returncode == 0:
                return
            if self.process.poll() is not None:
                raise Broken(f"the service ended: {self.process.stderr.read()[-500:]}")
            if time.monotonic() > limit:
                raise Broken(f"no flush: {done.stderr}")
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        error = self.process.communicate(timeout=30)[1]
        if self.process.returncode != 0:
            raise Broken(f"the service ended with {self.process.returncode}: {error[-500:]}")


def can_hold_xattrs(folder):
    probe = os.path.join(folder, ".probe")
    with open(probe, "w"):
        pass
    try:
        os.setxattr(probe, "user.probe", b"1")
        return True
    except OSError:
        return False
    finally:
        os.unlink(probe)


def cut_power(mount_point):
    """Shuts a mounted ext4 or xfs down at once: what was not brought to disk is gone, the journal's tail too."""
    shutdown, without_flushing_the_log = 0x8004587D, 2
    fd = os.open(mount_point, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, shutdown, struct.pack("I", without_flushing_the_log))
    finally:
        os.close(fd)
