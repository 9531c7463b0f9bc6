"""Kills `driftless sync --two-way` at its Nth system call that changes anything, after operations on both sides, and a
running `watch --two-way` at random instants; a person goes on with what is there, and the next run has to make of it what
it would have made without the kill: both sides equal, nothing lost, nothing back, and no conflict where there was none.
Called by `.ci/crashes`."""

import os
import random
import shutil
import stat
import subprocess
import sys
import time

import killed_at
from trees import Broken, Load, Service, tree
from two_way import (CONFLICT, SIDES, Meant, Pair, as_meant, conflicts, contents, crossed_operations, digest, do,
                     is_content, kept, merged, new, own_operations)

FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR


class Case:
    """One sequence of operations on both sides, what both held before and after, and what is to come of it."""

    def __init__(self, pair, sequence, rng):
        self.pair, self.sequence, self.rng = pair, sequence, rng
        self.story = [f"{name} ({SIDES[side]})" for _, name, side in sequence]

    def prepare(self):
        self.pair.base()
        self.base = self.pair.trees()[0]
        do(self.pair, self.sequence)
        self.one, self.other = self.pair.trees()
        self.kept = kept(self.base, self.one, self.other)
        self.meant = merged(self.base, self.one, self.other)
        self.conflicts = sum(kind is CONFLICTS for kind, _, _ in self.sequence)

    def run(self, kill_at=None):
        """One `sync`. Returns whether it was killed, and how many calls it came to."""
        output = os.path.join(self.pair.top, "said")
        code, calls, last = killed_at.traced(self.pair.command("-q"), self.pair.environment, output, kill_at)
        if code not in (0, -9):
            with open(output) as f:
                raise Broken(f"sync ended with {code}: {f.read()[-700:]}")
        if code:
            self.story.append(f"killed before call {calls}, {last}")
        return code != 0, calls

    def look(self):
        """What is there after a kill: nothing is lost, and each name holds what either side had there."""
        now = self.pair.trees()
        lost = self.kept - contents(now[0]) - contents(now[1])
        if lost:
            raise Broken(f"{len(lost)} contents are lost: {self.where(lost)}")
        for side, entries in zip(SIDES, now):
            for path, entry in entries.items():
                known = [v for v in (self.base.get(path), self.one.get(path), self.other.get(path)) if v is not None]
                if self.conflicts and path.startswith("both"):
                    continue
                if CONFLICT in path:
                    raise Broken(f"'{path}' of the {side}: a FALSE CONFLICT")
                if not any(is_content(v, entry) for v in known):
                    raise Broken(f"'{path}' of the {side} holds what nobody has put there: {known} {entry}")
        return now

    def where(self, lost):
        return [path for entries in (self.one, self.other) for path, e in entries.items() if e.holds in lost]

    def person(self, now):
        """Works on what the kill has left, each name on one side only, where that side has what both are to have."""
        paths = {path for entries in (self.base, self.one, self.other) for path in entries}
        for path in sorted(paths, key=lambda path: (path.count("/"), path)):
            was = [self.base.get(path), self.one.get(path), self.other.get(path)]
            if path == "" or path.startswith("both") or all(e is not None and e.same(was[0]) for e in was):
                continue
            if any(e is not None and e.kind == FILE and e.nlink > 1 for e in (*was, now[0].get(path), now[1].get(path))):
                continue
            if was[0] is None and was[1] is not None and was[2] is not None:
                continue  # Nobody knows before the run that these are equal.
            side = self.rng.randrange(2)
            done = self.edit(path, side, now[side])
            if done:
                self.story.append(f"{done} {path} ({SIDES[side]})")

    def edit(self, path, side, now):
        rng, meant, there, at = self.rng, self.meant.get(path), now.get(path), self.pair.at(side, path)
        parent = os.path.dirname(path)
        if not os.path.isdir(os.path.dirname(at)) or (parent in self.meant and self.meant[parent].kind != FOLDER):
            return None
        if any(p in self.base and (p not in self.one or p not in self.other) for p in parents(path)):
            # A folder that has come back for what is new in it: it goes with that, or stays, by when it came.
            stays = 0.45
        else:
            stays = 1
        if meant is not None and meant.kind == FOLDER:
            # Only what is all there, and new.
            inside = [p for p in self.meant if p == path or p.startswith(path + "/")]
            is_all = all(is_content(self.meant[p], now.get(p)) for p in inside)
            if path in self.base or not is_all or not os.path.isdir(at) or stays < 1 or rng.random() < 0.7:
                return None
            gone = {p: self.meant.pop(p) for p in inside}
            if rng.random() < 0.5:
                shutil.rmtree(at)
                return "removed"
            os.rename(at, at + "-moved")
            self.meant.update({path + "-moved" + p[len(path):]: m for p, m in gone.items()})
            return "renamed"
        what = rng.random() * stays
        if meant is not None and meant.kind == FILE and is_content(meant, there) and os.path.isfile(at):
            if what < 0.3:
                self.overwrite(path, side, meant.mode)
                return "overwrote"
            if what < 0.45:
                self.save(path, side, there, meant.mode)
                return "saved"
            if what < 0.7:
                os.unlink(at)
                del self.meant[path]
                return "removed"
            if what < 0.8:
                os.rename(at, at + "-moved")
                # The other side's change of attributes is lost with the name, if it has not come yet.
                self.meant[path + "-moved"] = Meant(FILE, meant.holds, there.attributes["mode"])
                del self.meant[path]
                return "renamed"
        elif meant is None and path in self.base and self.base[path].kind == FILE and what < 0.3:
            # What was removed is wanted again. Where that has not come yet, it is changed; else it is made anew.
            if there is None and not os.path.lexists(at) and parent in self.meant:
                self.overwrite(path, side, 0o644)
                return "made anew"
            if there is not None and is_content(there, self.base[path]) and os.path.isfile(at):
                self.overwrite(path, side, there.attributes["mode"])
                while parent and parent not in self.meant:
                    folder = now[parent]
                    self.meant[parent] = Meant(FOLDER, None, folder.attributes["mode"])
                    parent = os.path.dirname(parent)
                return "changed"
        return None

    def overwrite(self, path, side, mode):
        data = new()
        self.pair.write(side, path, data)
        self.meant[path] = Meant(FILE, digest(data), mode)

    def save(self, path, side, there, mode):
        data = new()
        self.pair.write(side, path + ".saving", data)
        os.chmod(self.pair.at(side, path + ".saving"), there.attributes["mode"])
        os.rename(self.pair.at(side, path + ".saving"), self.pair.at(side, path))
        self.meant[path] = Meant(FILE, digest(data), mode)

    def check(self, has_edits):
        self.pair.sync()
        now = self.pair.equal()
        as_meant(self.meant, now, self.conflicts)
        names = [path for path in now if CONFLICT in path and "/" not in path[path.index(CONFLICT):]]
        if len(names) != self.conflicts:
            raise Broken(f"{len(names)} conflict names for {self.conflicts} conflicts: {names}")
        lost = self.kept - contents(now)
        if lost and not has_edits:
            raise Broken(f"{len(lost)} contents are lost in the end: {self.where(lost)}")
        if self.rng.random() < 0.25:
            said = self.pair.sync()
            if "0 copied, 0 updated, 0 removed, 0 renamed, 0 metadata, 0 directories, 0 links, 0 problems" not in said:
                raise Broken(f"the pass after it has done something: {said}")


def parents(path):
    while path := os.path.dirname(path):
        yield path


OWN, CROSSED, CONFLICTS = own_operations(), crossed_operations(), conflicts()


def one_case(pair, sequence, call, rng):
    """Returns whether it was killed."""
    case = Case(pair, sequence, rng)
    case.prepare()
    try:
        killed, calls = case.run(call)
        now = case.look()
        if killed and rng.random() < 0.2:
            # And the run that is to make it good is killed too.
            case.run(rng.randint(1, calls + 10))
            now = case.look()
        has_edits = rng.random() < 0.7
        if has_edits:
            case.person(now)
        case.check(has_edits)
    except Broken as e:
        raise Broken(f"{'; '.join(case.story)}: {e}") from e
    return killed


def groups():
    """All operations on either side, in sequences in which none takes from another what it needs."""
    apart = [["create", "atomic save", "unlink", "remove a tree", "rmdir", "folder to file", "write through a link"],
             ["overwrite", "folder tree", "rename a tree", "chmod", "symbolic link", "create below"],
             ["rename", "append", "file to folder", "create"], ["hard link", "rename over", "create below"]]
    crossed = list(CROSSED)
    for at, names in enumerate(apart):
        others = apart[(at + 1) % len(apart)]
        own = [(OWN, name, 0) for name in names] + [(OWN, name, 1) for name in others]
        taken = {"remove a tree", "rename a tree"} & {name for _, name, _ in own}
        across = [n for n in crossed[at:] + crossed[:at] if not (taken and "tree" in n)][:1]
        yield own + [(CROSSED, name, at % 2) for name in across]
    for name in crossed:
        yield [(CROSSED, name, 0), (OWN, "create", 1), (OWN, "folder tree", 0)]
    yield [(CONFLICTS, "both overwrite", 0), (CONFLICTS, "both create", 1), (OWN, "unlink", 0)]
    yield [(CONFLICTS, "a folder and a file", 1), (OWN, "overwrite", 1)]


def at_random(rng):
    own = [(OWN, name, side) for side in (0, 1) for name in rng.sample(sorted(OWN), rng.randint(0, 4))]
    if rng.random() < 0.3:
        own.append((CROSSED, rng.choice(sorted(CROSSED)), rng.randrange(2)))
    if rng.random() < 0.1:
        own.append((CONFLICTS, rng.choice(sorted(CONFLICTS)), rng.randrange(2)))
    rng.shuffle(own)
    return own


def kills_at_calls(driftless, top, part, parts, every, number, seed):
    """One part of the kills: after each of the fixed sequences at one of `every` calls, after random ones at one call.
    Returns how many there were, and all that went wrong."""
    pair = Pair(driftless, os.path.join(top, f"two-way-{part}"))
    kills, wrong = 0, []
    rng = random.Random(f"{seed} {part}")

    def attempt(sequence, call):
        nonlocal kills
        try:
            kills += one_case(pair, sequence, call, rng)
        except Broken as e:
            wrong.append(str(e).replace("\n", " "))

    for at, sequence in enumerate(groups()):
        case = Case(pair, sequence, rng)
        case.prepare()
        calls = case.run()[1]
        case.check(False)
        for call in range(1, calls + 1):
            if (call + at + seed) % (parts * every) == part:
                attempt(sequence, call)
    for _ in range(number // parts):
        attempt(at_random(rng), rng.randint(1, 150))
    return kills, wrong


def kills_at_random(driftless, top, kills, seed):
    """Both sides at work, each in a folder of its own, under a service that is killed again and again: no conflict is ever
    a true one."""
    pair = Pair(driftless, os.path.join(top, f"two-way-random-{seed}"))
    socket = os.path.join(pair.top, "s")
    rng = random.Random(seed)
    loads = []
    for side, name in enumerate(SIDES):
        os.makedirs(pair.at(side, f"of the {name}"))
        loads.append(Load(pair.at(side, f"of the {name}"), 2 * seed + side, pair.has_xattrs, 0.004))
    for load in loads:
        load.start()
    rounds = 0
    for at in range(kills):
        service = Service(driftless, *pair.sides, socket, pair.environment, "--two-way")
        # From the first moments of a start to the midst of the work.
        time.sleep(rng.choice([0.02, 0.05, 0.15, 0.3]) * rng.random() * 2)
        if service.process.poll() is not None:
            raise Broken(f"the service ended by itself: {service.process.stderr.read()[-500:]}")
        service.kill()
        if at % 10 == 9 or at + 1 == kills:
            for load in loads:
                load.rest()
            meant = [tree(os.path.join(side, f"of the {name}")) for side, name in zip(pair.sides, SIDES)]
            service = Service(driftless, *pair.sides, socket, pair.environment, "--two-way")
            service.flush()
            service.stop()
            pair.equal()
            for side, name in enumerate(SIDES):
                # A side's own is as that side has left it.
                now = tree(pair.at(1 - side, f"of the {name}"))
                for path in sorted(meant[side].keys() | now.keys()):
                    a, b = meant[side].get(path), now.get(path)
                    if path and (a is None or not a.same(b)) and not (a and b and a.kind == b.kind == FOLDER):
                        raise Broken(f"after kill {at + 1}, '{path}' of the {name}'s own: meant {a}, is {b}")
            rounds += 1
            for load in loads:
                load.go_on()
    for load in loads:
        load.end()
    return kills, rounds


def main():
    what, driftless, top = sys.argv[1:4]
    start = time.monotonic()
    if not killed_at.can_be_done() and what != "random":
        print("skipped: no kills at each system call on this kind of machine")
        return
    wrong = []
    if what == "part":
        # One half of the kills, in a process of its own, which has no other children.
        part, every, number, seed = map(int, sys.argv[4:8])
        kills, wrong = kills_at_calls(driftless, top, part, 2, every, number, seed)
        print("\n".join(wrong))
        print(kills)
        return
    if what == "calls":
        command = [sys.executable, "-B", __file__, "part", driftless, top]
        parts = [subprocess.Popen([*command, str(part), *sys.argv[4:7]], stdout=subprocess.PIPE, text=True)
                 for part in (0, 1)]
        ended = [part.communicate()[0].split("\n") for part in parts]
        if any(part.returncode for part in parts):
            sys.exit(1)
        wrong = [line for lines in ended for line in lines[:-2] if line]
        said = f"{sum(int(lines[-2]) for lines in ended)} kills at a system call"
    else:
        try:
            kills, rounds = kills_at_random(driftless, top, int(sys.argv[4]), int(sys.argv[5]))
            said = f"{kills} kills at random, {rounds} times all was looked at"
        except Broken as e:
            wrong, said = [str(e)], "kills at random"
    # What has just got its name when the program is killed, and is removed before the next start, is nowhere known to have
    # been there: it may come back. Anything else is broken, and so is this if it is not rare.
    back = [line for line in wrong if line.endswith("is there, though it was removed")]
    rare = what == "calls" and len(back) <= int(said.split()[0]) // 50
    broken = [line for line in wrong if not (rare and line in back)]
    for line in broken:
        print(f"broken: {line}")
    came_back = f", {len(back)} came back" if rare else ""
    print(f"{said}, {time.monotonic() - start:.0f} s, {len(broken)} broken{came_back}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
