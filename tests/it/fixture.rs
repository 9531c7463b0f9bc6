//! A source, a replica and private state and runtime folders, and the program run on them.
//!
//! Whatever a test makes lies in a temporary folder that goes with the `Pair`; a service that a failing test leaves
//! behind goes with its `Watch`. Nothing waits by sleeping a guessed time: `eventually` asks until a deadline.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

use crate::{console, disk, tree};

/// No command of a test needs longer than this on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a stop may take, by the contract.
pub const STOP: Duration = Duration::from_secs(5);

/// Two folders to keep identical, and a private place for everything else.
pub struct Pair {
    top: TempDir,
    /// Apart from `top` and directly below the system's temporary folder: a socket's path may have 107 bytes only.
    run: TempDir,
}

impl Pair {
    /// A source with the entries that `text` describes (see `tree`); the replica does not exist yet.
    pub fn of(text: &str) -> Self {
        Self::within(&base(), text)
    }

    pub fn new() -> Self {
        Self::of("")
    }

    /// The same in a folder of the caller's choice.
    pub fn within(base: &Path, text: &str) -> Self {
        let named = |base: &Path| tempfile::Builder::new().prefix("driftless-").tempdir_in(base).expect("temp dir");
        let pair = Self { top: named(base), run: named(&std::env::temp_dir()) };
        fs::create_dir(pair.state()).expect("state folder");
        tree::build(&pair.source(), text);
        pair
    }

    /// The folder that holds the source, the replica and the state, for what shall lie beside them.
    pub fn top(&self) -> &Path {
        self.top.path()
    }

    pub fn source(&self) -> PathBuf {
        self.top().join("source")
    }

    pub fn replica(&self) -> PathBuf {
        self.top().join("replica")
    }

    pub fn state(&self) -> PathBuf {
        self.top().join("state")
    }

    pub fn runtime(&self) -> &Path {
        self.run.path()
    }

    pub fn control(&self) -> PathBuf {
        self.run.path().join("control.sock")
    }

    pub fn log_file(&self) -> PathBuf {
        self.top().join("service.log")
    }

    /// The program with `args`, in surroundings where it can touch nothing but this pair.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_driftless"));
        for name in ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID"] {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", self.state()).env("XDG_RUNTIME_DIR", self.runtime());
        command.current_dir(self.top()).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        run(self.command(args))
    }

    /// `driftless VERB SOURCE REPLICA`, to be completed.
    pub fn on_both(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = self.command(&[verb]);
        command.arg(self.source()).arg(self.replica()).args(args);
        command
    }

    /// One pass that must succeed.
    #[track_caller]
    pub fn sync(&self, args: &[&str]) -> Ran {
        run(self.on_both("sync", args)).expect_code(0)
    }

    /// One pass, whatever comes of it.
    pub fn try_sync(&self, args: &[&str]) -> Ran {
        run(self.on_both("sync", args))
    }

    pub fn verify(&self, args: &[&str]) -> Ran {
        run(self.on_both("verify", args))
    }

    /// The service, started and in sync.
    #[track_caller]
    pub fn watch(&self, args: &[&str]) -> Watch<'_> {
        let watch = self.start_watch(args);
        watch.wait_for_answer();
        watch.flush();
        watch
    }

    /// The service, merely started.
    pub fn start_watch(&self, args: &[&str]) -> Watch<'_> {
        self.launch(self.watch_command(args))
    }

    pub fn watch_command(&self, args: &[&str]) -> Command {
        let mut command = self.on_both("watch", &[]);
        command.arg("--control").arg(self.control());
        if !args.iter().any(|arg| arg.starts_with("--log") || *arg == "-l") {
            command.arg("--log-file").arg(self.log_file());
        }
        command.args(args);
        command
    }

    /// Starts what is a `watch_command`, perhaps wrapped in another one that becomes it.
    pub fn launch(&self, mut command: Command) -> Watch<'_> {
        let console = self.top().join("console.txt");
        let open = || OpenOptions::new().create(true).append(true).open(&console).expect("console file");
        let child = command.stdin(Stdio::null()).stdout(open()).stderr(open()).spawn().expect("start the service");
        Watch { pair: self, child, console }
    }

    #[track_caller]
    pub fn assert_same(&self) {
        crate::compare::assert_same(&self.source(), &self.replica());
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Folders that a test closed would keep an ordinary user's temporary folder alive.
        disk::open_all(self.top.path());
    }
}

/// A folder for temporary trees: `$DRIFTLESS_TEST_DIR`, else cargo's own, else the system's.
fn base() -> PathBuf {
    if let Some(chosen) = std::env::var_os("DRIFTLESS_TEST_DIR") {
        return chosen.into();
    }
    let cargos = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let usable = fs::create_dir_all(&cargos).is_ok() && tempfile::tempdir_in(&cargos).is_ok();
    if usable { cargos } else { std::env::temp_dir() }
}

/// The same command at the end of another one's arguments: `sh -c 'umask 077; exec "$@"' sh` and the like.
pub fn wrapped(wrapper: &[&str], command: &Command) -> Command {
    let mut whole = Command::new(wrapper[0]);
    whole.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        whole.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole
}

/// What a command that ended left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Everything that it said.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command to its end; one that hangs is killed, and fails the test.
#[track_caller]
pub fn run(mut command: Command) -> Ran {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(PATIENCE) else {
        let _ = kill_process(pid, Signal::KILL);
        panic!("hangs: {command:?}");
    };
    let output = output.expect("wait");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A running service. Killed when the test leaves it without a `stop`.
pub struct Watch<'a> {
    pair: &'a Pair,
    child: Child,
    console: PathBuf,
}

impl Watch<'_> {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal the service");
    }

    /// Does something at one go, as the service sees it, however long the machine takes for it.
    pub fn at_one_go(&self, work: impl FnOnce()) {
        self.signal(Signal::STOP);
        work();
        self.signal(Signal::CONT);
    }

    pub fn client(&self, verb: &str, args: &[&str]) -> Ran {
        let mut command = self.pair.command(&[verb, "--control"]);
        command.arg(self.pair.control()).args(args);
        run(command)
    }

    /// Returns once all that was done before is in the replica.
    #[track_caller]
    pub fn flush(&self) {
        let ran = self.client("flush", &["--timeout", "60s"]);
        if ran.code != Some(0) {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            panic!("flush: {}\n{}\nend of the log:\n{tail}", ran.text(), self.status());
        }
    }

    /// Flushes, and compares strictly.
    #[track_caller]
    pub fn assert_follows(&self) {
        self.flush();
        crate::compare::assert_same_live(&self.pair.source(), &self.pair.replica());
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        let ran = self.client("status", &["--json"]).expect_code(0);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("status --json: {error}: {}", ran.stdout))
    }

    #[track_caller]
    pub fn wait_for_state(&self, state: &str) {
        eventually(Duration::from_secs(60), &format!("state {state}"), || {
            (self.status()["state"] == state).then_some(())
        });
    }

    #[track_caller]
    pub fn wait_for_answer(&self) {
        eventually(Duration::from_secs(60), "the service answers", || {
            assert!(self.alive(), "the service ended at once:\n{}", self.console());
            (self.client("status", &[]).code == Some(0)).then_some(())
        });
    }

    /// Asked so that the child can still be waited for, and without `&mut self`.
    fn alive(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
    }

    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// What the service has logged. A thread of its own writes that: it is waited for until it adds no more, or a second.
    pub fn log(&self) -> String {
        let length = || fs::metadata(self.pair.log_file()).map_or(0, |m| m.len());
        let start = Instant::now();
        let (mut last, mut same) = (length(), 0);
        while same < 3 && start.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_millis(10));
            let now = length();
            (last, same) = (now, if now == last { same + 1 } else { 0 });
        }
        String::from_utf8_lossy(&fs::read(self.pair.log_file()).unwrap_or_default()).into_owned()
    }

    pub fn sweeps_finished(&self) -> usize {
        console::messages(&self.log()).filter(|message| message.starts_with("Sweep finished")).count()
    }

    /// A line of the service's file in `/proc/PID/io`: `rchar`, `wchar`, ...
    pub fn io(&self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.pid())).expect("read /proc/PID/io");
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {key} in {text}"))
    }

    /// SIGTERM: exit code 0. Gives the time that it took: what the contract grants is asserted where that is the matter.
    #[track_caller]
    pub fn stop(self) -> Duration {
        self.stop_by(Signal::TERM)
    }

    #[track_caller]
    pub fn stop_by(self, signal: Signal) -> Duration {
        self.signal(signal);
        self.ended()
    }

    /// Waits for the end of a service that is about to stop.
    #[track_caller]
    pub fn ended(mut self) -> Duration {
        let start = Instant::now();
        let status = eventually(PATIENCE, "the service stops", || self.child.try_wait().expect("wait"));
        assert_eq!(status.code(), Some(0), "exit code of the service:\n{}", self.console());
        start.elapsed()
    }

    /// SIGKILL, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let console = self.console();
            let lines: Vec<_> = console.lines().collect();
            eprintln!("--- the service's last words:\n{}", lines[lines.len().saturating_sub(25)..].join("\n"));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            for signal in [Signal::TERM, Signal::CONT] {
                let _ = kill_process(Pid::from_child(&self.child), signal);
            }
            let start = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < STOP {
                thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process that does not outlive its test.
pub struct Running(pub Child);

impl Running {
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer; panics when there is none before the deadline.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
