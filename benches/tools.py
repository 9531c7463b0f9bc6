"""Owns the tools that are compared: how each is called, what a call of it costs, and on which machine that was."""
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

NEVER = float("inf")
GIVE_UP_S = 120  # what has not arrived by then never will


@dataclass(frozen=True)
class Tool:
    """Lines for the shell, which find $SRC, $DST, $DRIFTLESS, and in $TMP a folder that stays between the calls."""

    name: str
    needs: tuple[str, ...]  # commands
    copy: str = ""  # into an empty replica, if that is not `sync`
    sync: str = ""  # makes the replica equal to the source
    checksum: str = ""  # the same, comparing contents
    watch: str = ""  # does so for ever, in the foreground
    watch_needs: tuple[str, ...] = ()  # commands, for that alone

    @property
    def first(self) -> str:
        """The first pass."""
        return self.copy or self.sync


def driftless(name: str, options: str = "") -> Tool:
    return Tool(
        name,
        (),
        sync=f'exec "$DRIFTLESS" sync -q {options} "$SRC" "$DST"',
        checksum=f'exec "$DRIFTLESS" sync -q -c {options} "$SRC" "$DST"',
        watch=f'exec "$DRIFTLESS" watch -q --interval 1h --control "$TMP/socket" {options} "$SRC" "$DST"',
    )


def rsync(options: str) -> Tool:
    line = f'exec rsync {options} %s--delete "$SRC/" "$DST/"'
    return Tool(f"rsync {options}", ("rsync",), sync=line % "", checksum=line % "-c ")


def lsyncd(mode: str, options: str) -> Tool:
    watch = f"""cat >"$TMP/conf.lua" <<END
settings {{ nodaemon = true, logfile = "$TMP/lsyncd.log" }}
sync {{ default.{mode}, source = "$SRC", target = "$DST", delete = true, delay = 0, {options} }}
END
exec lsyncd -nodaemon "$TMP/conf.lua" """
    return Tool(f"lsyncd {mode}", ("lsyncd", "rsync"), watch=watch)


# Of a call that was stopped it leaves locks, with which it does not start again.
UNISON = 'rm -f "$UNISON"/lk*; exec unison "$SRC" "$DST" -batch -silent -ui text -force "$SRC" -confirmbigdel=false'
UNISON += " -times -owner -group -perms -1"

REFERENCE = driftless("driftless")
# For what versions cost, and nothing else: what is kept is the replica's, so that no other tool does the same.
KEEPING = driftless("driftless --keep-versions", "--keep-versions '10s: all, 1d: hourly, 30d: daily'")
TOOLS = [
    REFERENCE,
    driftless("driftless --durability none", "--durability none"),
    Tool("cp -a", ("cp",), copy='exec cp -a "$SRC/." "$DST"'),
    rsync("-a"),
    rsync("-aHAXS"),
    Tool(
        "unison",
        ("unison",),
        sync=UNISON,
        checksum=UNISON + " -fastcheck false",
        watch=UNISON + " -repeat watch",
        watch_needs=("unison-fsmonitor",),
    ),
    lsyncd("rsync", "rsync = { archive = true, hard_links = true, acls = true, xattrs = true, sparse = true }"),
    lsyncd("direct", ""),
]


def installed(tools: list[Tool]) -> tuple[list[Tool], list[str]]:
    """Those that can be called, and what is said of the others."""
    left_out = []

    def there(tool: Tool, commands: tuple[str, ...], what: str) -> bool:
        missing = [command for command in commands if shutil.which(command) is None]
        if missing:
            left_out.append(f"{tool.name}{what} (no {' and no '.join(missing)} here)")
        return not missing

    found = [tool for tool in tools if there(tool, tool.needs, "")]
    found = [tool if there(tool, tool.watch_needs, " as a service") else replace(tool, watch="") for tool in found]
    for line in left_out:
        say(f"left out: {line}")
    return found, left_out


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_cleanly(main) -> None:
    """Runs it so that what it has begun is ended and removed by `finally`, whichever way it is stopped."""
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


def machine(work: Path) -> str:
    """What the figures were measured on."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.search(r"MemTotal: *(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cpu[1] if cpu else platform.machine()}, {cores} core{'s'[:cores != 1]}, {memory:.0f} GiB of memory; "
        f"{filesystem(work)}; Linux {platform.release()}"
    )


def filesystem(path: Path) -> str:
    real, found = f"{path.resolve()}/", ("", "an unknown filesystem")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind = line.split()[:3]
        place = place.replace("\\040", " ")
        if real.startswith(place.rstrip("/") + "/") and len(place) >= len(found[0]):
            found = place, kind
    return found[1]


def versions(tools: list[Tool], program: Path) -> str:
    commands = {command: command for tool in tools for command in tool.needs}
    commands = {"driftless": str(program)} | commands
    return ", ".join(f"{name} {version(command)}" for name, command in commands.items())


def version(command: str) -> str:
    for option in "--version", "-version":
        done = subprocess.run([command, option], capture_output=True, text=True)
        found = re.search(r"\d+\.\d[\w.]*", done.stdout)
        if done.returncode == 0 and found:
            return found[0]
    return "(unknown version)"


def remove(path: Path) -> None:
    subprocess.run(["rm", "-rf", path], check=True)


@dataclass
class Pair:
    """A tool at work on two folders."""

    tool: Tool
    source: Path
    replica: Path
    state: Path  # what the tool remembers of them, and its log
    program: Path

    def __post_init__(self):
        self.replica.mkdir(parents=True, exist_ok=True)
        self.state.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        remove(self.replica)
        remove(self.state)

    def _start(self, line: str, log) -> subprocess.Popen:
        places = {"SRC": self.source, "DST": self.replica, "TMP": self.state, "DRIFTLESS": self.program}
        state = {"XDG_STATE_HOME": self.state, "XDG_RUNTIME_DIR": self.state, "UNISON": self.state / "unison"}
        environment = os.environ | {name: str(path) for name, path in (places | state).items()}
        session = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
        return subprocess.Popen(["sh", "-c", line], env=environment, **session)

    def call(self, line: str) -> tuple[float, float]:
        """Seconds, and the bytes that were written (none on a filesystem in memory)."""
        subprocess.run(["sync", "-f", self.replica], check=True)
        with open(self.state / "log", "ab") as log:
            start = time.monotonic()
            process = self._start(line, log)
            try:
                _, status, used = os.wait4(process.pid, 0)
                seconds = time.monotonic() - start
            except BaseException:
                end_session(process.pid)
                raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            tail = (self.state / "log").read_bytes()[-500:].decode(errors="replace")
            raise Failed(f"{self.tool.name} ended with {process.returncode}: {tail}")
        return seconds, used.ru_oublock * 512


class Failed(Exception):
    pass


class Watching:
    """A tool that follows its source, with all of its processes, for as long as the `with` lasts."""

    def __init__(self, pair: Pair):
        self.pair = pair

    def __enter__(self):
        self.log = open(self.pair.state / "log", "ab")
        self.process = self.pair._start(self.pair.tool.watch, self.log)
        return self

    def __exit__(self, *_):
        end_session(self.process.pid)
        self.process.wait()
        self.log.close()

    def cpu(self) -> float:
        """Seconds, those of processes that have ended included."""
        return sum(sum(map(int, fields[11:15])) for _, fields in members(self.process.pid)) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Bytes, resident."""
        return sum(int(fields[21]) for _, fields in members(self.process.pid)) * os.sysconf("SC_PAGE_SIZE")

    def settle(self) -> None:
        """Waits until new files arrive, and then until it has nothing left to do."""
        end = time.monotonic() + 5 * GIVE_UP_S
        for attempt in range(2):  # the first may be found by a listing at the start
            arrived = False
            while not arrived:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Failed(f"{self.pair.tool.name} does not follow its source")
                name = f".canary-{attempt}-{time.monotonic_ns()}"
                (self.pair.source / name).write_text("x")
                arrived = wait_for((self.pair.replica / name).exists, 5)
                (self.pair.source / name).unlink()
        before = -1.0
        while (now := self.cpu()) - before > 0.02 and time.monotonic() < end:
            before = now
            time.sleep(1)


def members(session: int):
    """The processes of a session, and the fields of their stat from the third on."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(name), fields


def end_session(session: int) -> None:
    for number, patience in (signal.SIGTERM, 6), (signal.SIGKILL, 2):
        for pid, _ in list(members(session)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        if wait_for(lambda: not list(members(session)), patience, 0.05):
            return


def wait_for(condition, limit_s: float, every_s: float = 0.01) -> bool:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True
