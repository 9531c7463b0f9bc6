"""Owns the trees that are measured: it makes them, the same ones each time, and says in what two of them differ."""
import os
import random
import stat
import time
from collections import defaultdict
from pathlib import Path

POOL_BYTES = 8 << 20  # contents are slices of this much that is random
EPOCH_NS = 1_600_000_000 * 10**9  # old times, so that nothing takes a tree for one that still changes
AWKWARD_NAMES = [b"with space.txt", b"-leading-dash", "n\u00e4me.txt".encode(), b"new\nline", b"not-utf8-\xff"]
ENDINGS = [b".c", b".h", b".py", b".rs", b".md", b".json", b".txt", b".o"]
HOLE_SLACK = 1 << 20  # bytes that a sparse file's copy may take on the disk beyond the original


class Maker:
    def __init__(self, root: Path, seed: int = 1):
        self.root = os.fsencode(root)
        self.rng = random.Random(seed)
        self.pool = self.rng.randbytes(POOL_BYTES)
        self.folders = [self.root]
        root.mkdir(parents=True)

    def folder(self, path: bytes) -> bytes:
        os.mkdir(path)
        self.folders.append(path)
        return path

    def file(self, path: bytes, size: int, mode: int = 0o644) -> bytes:
        start = self.rng.randrange(POOL_BYTES - size)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.write(fd, self.pool[start : start + size])
            os.fchmod(fd, mode)
            os.utime(fd, ns=self.times())
        finally:
            os.close(fd)
        return path

    def times(self) -> tuple[int, int]:
        mtime = EPOCH_NS + self.rng.randrange(10**17)
        return mtime, mtime

    def stamp_folders(self) -> None:
        for path in reversed(self.folders):
            os.utime(path, ns=self.times())


def source_code(root: Path, scale: float) -> None:
    """What real trees hold: sizes spread widely around 4 KiB, links of both kinds, modes, xattrs, awkward names."""
    maker = Maker(root)
    rng, folders, files = maker.rng, maker.folders, []
    for i in range(int(2_500 * scale)):
        parent = rng.choice(folders[-200:] if rng.random() < 0.3 else folders)
        maker.folder((parent if parent.count(b"/") < 30 else folders[0]) + b"/d%d" % i)
    for i in range(int(30_000 * scale)):
        size = min(int(rng.lognormvariate(8.318, 1.58)), 4 << 20)  # a median of 4096
        mode = rng.choices([0o644, 0o755, 0o600], [94, 5, 1])[0]
        files.append(maker.file(rng.choice(folders) + b"/f%d%s" % (i, rng.choice(ENDINGS)), size, mode))
    flat = maker.folder(maker.root + b"/flat")  # the one that the small change renames
    for i in range(int(500 * scale)):
        maker.file(flat + b"/g%d.txt" % i, rng.randrange(8192))
    for name in AWKWARD_NAMES:
        maker.file(rng.choice(folders) + b"/" + name, 100)
    for i in range(int(300 * scale)):
        link = rng.choice(folders) + b"/l%d" % i
        os.symlink(b"no/such/target" if i % 20 == 0 else os.path.basename(rng.choice(files)), link)
        os.utime(link, ns=maker.times(), follow_symlinks=False)
    for i in range(int(100 * scale) or 1):
        os.link(rng.choice(files), rng.choice(folders) + b"/h%d" % i)
        try:
            os.setxattr(rng.choice(files), b"user.note", b"value %d" % i)
        except OSError:
            pass  # not on this filesystem
    maker.stamp_folders()


def tiny_files(root: Path, scale: float) -> None:
    """100,000 files of up to 1 KiB, 50 to a folder."""
    spread(root, int(100_000 * scale), lambda rng: rng.randrange(1025))


def spread(root: Path, entries: int, size) -> None:
    """So many entries, the folders among them: files of `size(rng)` bytes, 50 to a folder, 100 of these to a folder."""
    maker, made, folder = Maker(root), 0, 0
    while made < entries:
        if folder % 100 == 0:
            outer = maker.folder(maker.root + b"/p%d" % (folder // 100))
        inner = maker.folder(outer + b"/q%d" % folder)
        made += 1 + (folder % 100 == 0)
        for i in range(min(50, entries - made)):
            maker.file(inner + b"/f%d" % i, size(maker.rng))
            made += 1
        folder += 1
    maker.stamp_folders()


def one_folder(root: Path, entries: int, size) -> None:
    """The same number of files, all in one folder."""
    maker = Maker(root)
    for i in range(entries):
        maker.file(maker.root + b"/f%d" % i, size(maker.rng))
    maker.stamp_folders()


def large_files(root: Path, scale: float) -> None:
    """A file of 1 GiB, and another one with 64 MiB in it, the rest of which is holes."""
    maker, mib = Maker(root), 1 << 20
    with open(root / "large.bin", "wb") as out:
        for _ in range(max(8, int(1024 * scale))):
            out.write(maker.rng.randbytes(mib))
    with open(root / "sparse.img", "wb") as out:
        pieces = max(2, int(64 * scale))
        for i in range(pieces):
            out.seek(i * 16 * mib)
            out.write(maker.rng.randbytes(mib))
        out.truncate(pieces * 16 * mib)
    for name in "large.bin", "sparse.img":
        os.utime(root / name, ns=maker.times())
    maker.stamp_folders()


def walk(root: bytes) -> dict[bytes, os.stat_result]:
    """Each entry by its path below the root, and the root by an empty one."""
    found, todo = {b"": os.lstat(root)}, [b""]
    while todo:
        folder = todo.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                found[path] = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(path)
    return found


def sizes(root: Path) -> dict[bytes, int | None]:
    """Each entry below the root: a file with its size, anything else with none."""
    tree = walk(os.fsencode(root)).items()
    return {path: info.st_size if stat.S_ISREG(info.st_mode) else None for path, info in tree if path}


def wait_until_there(replica: Path, wanted: dict[bytes, int | None], unwanted: Path | None, limit_s: float) -> bool:
    """Waits until all that is wanted is there, and what is not is gone; it looks at one path at a time, and often."""
    root, end = os.fsencode(replica), time.monotonic() + limit_s

    def there(path: bytes, size: int | None) -> bool:
        try:
            info = os.lstat(os.path.join(root, path))
        except OSError:
            return False
        return size is None or info.st_size == size

    for path, size in wanted.items():
        while not there(path, size):
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
    while unwanted and os.path.lexists(unwanted):
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def differences(source: Path, replica: Path) -> list[str]:
    """What is not the same, in kinds; empty for trees that are the same in contents and all metadata."""
    source, replica = os.fsencode(source), os.fsencode(replica)
    left, right = walk(source), walk(replica)
    found = {"entries too many"} if right.keys() - left.keys() else set()
    for path, a in left.items():
        b = right.get(path)
        if b is None:
            found.add("missing entries")
        elif stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
            found.add("types")
        else:
            found.update(_attributes(os.path.join(source, path), a, os.path.join(replica, path), b))
    if _links(left) != _links(right):
        found.add("hard links")
    return sorted(found)


def _attributes(here: bytes, a: os.stat_result, there: bytes, b: os.stat_result):
    what = {stat.S_IFDIR: "folders", stat.S_IFLNK: "symbolic links"}.get(stat.S_IFMT(a.st_mode), "files")
    if stat.S_IMODE(a.st_mode) != stat.S_IMODE(b.st_mode):
        yield f"modes of {what}"
    if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
        yield f"owners of {what}"
    if a.st_mtime_ns != b.st_mtime_ns:
        yield f"times of {what}"
    if a.st_rdev != b.st_rdev:
        yield "device numbers"
    if _xattrs(here) != _xattrs(there):
        yield "xattrs"
    if stat.S_ISLNK(a.st_mode):
        if os.readlink(here) != os.readlink(there):
            yield "symbolic links"
    elif stat.S_ISREG(a.st_mode):
        if a.st_size != b.st_size or not _same_contents(here, there):
            yield "contents"
        if a.st_blocks * 512 + HOLE_SLACK < a.st_size and b.st_blocks * 512 > a.st_blocks * 512 + HOLE_SLACK:
            yield "holes"


def _xattrs(path: bytes) -> dict:
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
    except OSError:
        return {}


def _same_contents(here: bytes, there: bytes) -> bool:
    with open(here, "rb", 0) as a, open(there, "rb", 0) as b:
        while True:
            block = a.read(1 << 20)
            if block != b.read(1 << 20):
                return False
            if not block:
                return True


def _links(tree: dict[bytes, os.stat_result]) -> set[frozenset]:
    names = defaultdict(set)
    for path, info in tree.items():
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            names[info.st_dev, info.st_ino].add(path)
    return {frozenset(group) for group in names.values() if len(group) > 1}
