//! What a person sees on a terminal: the progress bar, colours, and that neither touches a line of the log. And that a
//! terminal or pipe that takes nothing keeps nobody waiting.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::fixture::{Pair, eventually, run};
use crate::{console, disk};

/// A terminal: what a program wrote to it.
struct Terminal {
    /// Where the program writes; closed once it has it.
    end: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
}

/// Wide, so that no line of a test is broken.
const COLUMNS: usize = 400;

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let end = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("opened");
        let size = Winsize { ws_row: 24, ws_col: COLUMNS as u16, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&end, size).expect("a size");
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut master, gathered) = (File::from(master), Arc::clone(&written));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails when the program has closed the other end.
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                gathered.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Self { end, written }
    }

    fn stdio(&self) -> Stdio {
        self.end.try_clone().expect("another descriptor").into()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Runs a program on the terminal to its end; gives its exit code and what it wrote.
    fn run(self, mut command: Command) -> (Option<i32>, String) {
        let mut child =
            command.stdin(Stdio::null()).stdout(self.stdio()).stderr(self.stdio()).spawn().expect("started");
        let Self { end, written } = self;
        // The command has descriptors of its own.
        drop((end, command));
        let code = child.wait().expect("ended").code();
        // The reader ends when nobody can write any more.
        eventually(Duration::from_secs(60), "all that was written", || {
            (Arc::strong_count(&written) == 1).then_some(())
        });
        let text = String::from_utf8_lossy(&written.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        (code, text)
    }
}

fn command(pair: &Pair, verb: &str, args: &[&str]) -> Command {
    let mut command = pair.on_both(verb, args);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm");
    command
}

/// What stands on the screen after all that was written, line by line. The bar is one line that is drawn over.
fn screen(text: &str) -> Vec<String> {
    let on_screen = |line: &str| line.rsplit("\x1b[2K").next().unwrap_or_default().replace('\r', "");
    text.split('\n').map(on_screen).filter(|line| !line.is_empty()).collect()
}

fn without_colours(text: &str) -> String {
    ["\x1b[33m", "\x1b[31m", "\x1b[0m"].into_iter().fold(text.to_string(), |text, colour| text.replace(colour, ""))
}

/// A bar, drawn at least once.
fn has_bar(text: &str) -> bool {
    text.split('\r').any(|drawn| drawn.contains("/s") && drawn.ends_with(']'))
}

fn many(count: usize) -> Pair {
    let pair = Pair::new();
    for i in 0..count {
        disk::write(&pair.source().join(format!("folder-{}/{i}", i % 97)), "x");
    }
    pair
}

#[test]
fn bar_is_gone_at_the_end_and_has_broken_no_line() {
    let pair = many(300);
    let log = pair.top().join("sync.log");
    let log_file = ["--log-file", log.to_str().expect("utf-8")];
    let mut sync = command(&pair, "sync", &log_file);
    sync.args(["--progress", "always"]);
    let (code, text) = Terminal::new().run(sync);
    assert_eq!(code, Some(0), "{text}");
    assert!(has_bar(&text), "no bar:\n{text:?}");
    // Room for what somebody types behind it: in a line of its own that would be cleared in the place of the bar.
    let drawn = text.split(['\r', '\n']).filter(|drawn| has_bar(drawn));
    assert!(drawn.map(|drawn| drawn.trim_start_matches("\x1b[2K").len()).all(|columns| columns <= COLUMNS - 4));
    let file = fs::read_to_string(&log).expect("the log");
    let differing = screen(&text).into_iter().zip(file.lines()).find(|(shown, line)| shown != line);
    assert_eq!((differing, screen(&text).len()), (None, file.lines().count()));
    pair.assert_same();
}

#[test]
fn bar_comes_by_itself_where_a_sweep_takes_its_time_and_only_there() {
    let pair = many(12_000);
    let (code, text) = Terminal::new().run(command(&pair, "sync", &[]));
    assert_eq!(code, Some(0));
    assert!(has_bar(&text), "no bar for 12000 files");
    assert_eq!(screen(&text).len(), console::messages(&screen(&text).join("\n")).count(), "more than lines of the log");
    // On a busy machine even the smallest sweep can take so long that it shows one.
    let text = eventually(Duration::from_secs(60), "a quick sweep", || {
        let (quick, start) = (Pair::of("a \"x\""), Instant::now());
        let (_, text) = Terminal::new().run(command(&quick, "sync", &[]));
        (start.elapsed() < Duration::from_millis(500) || !text.contains('\x1b')).then_some(text)
    });
    assert!(!text.contains('\x1b') && text.contains("File copied"), "{text:?}");
}

#[test]
fn no_bar_for_the_quiet_the_dumb_and_those_who_do_not_want_it() {
    for (args, term) in [(vec!["-q"], "xterm"), (vec![], "dumb"), (vec!["--progress", "never"], "xterm")] {
        let pair = many(3000);
        let mut sync = command(&pair, "sync", &args);
        sync.env("TERM", term);
        let (code, text) = Terminal::new().run(sync);
        assert_eq!(code, Some(0));
        assert!(!text.contains('\x1b') && !text.contains(" files, "), "{args:?} {term}: {text:?}");
    }
}

#[test]
fn nothing_but_lines_leaves_through_a_pipe() {
    let pair = many(3000);
    let ran = run(command(&pair, "sync", &[])).expect_code(0);
    assert!(!ran.text().contains('\x1b') && ran.stderr.is_empty(), "{}", ran.stderr);
    // Who wants to see it all the same gets lines.
    let again = many(300);
    let ran = run(command(&again, "sync", &["--progress", "always"])).expect_code(0);
    assert!(!ran.text().contains('\x1b') && !ran.text().contains('\r'), "{}", ran.text());
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("/s")), "{}", ran.stderr);
    // A terminal for one half, and a pipe for the other that may lead to the same terminal.
    let terminal = Terminal::new();
    let mut sync = command(&pair, "sync", &["--checksum"]);
    let ran = sync.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(terminal.stdio()).output().expect("ran");
    assert!(ran.status.success());
    assert_eq!(terminal.text(), "");
}

/// A source with something to warn of, and one of an error.
fn troubled() -> (Pair, Command) {
    let pair = Pair::of("a \"x\"\n logs/");
    let log = pair.source().join("logs/sync.log");
    let sync = command(&pair, "sync", &["--log-file", log.to_str().expect("utf-8")]);
    (pair, sync)
}

#[test]
fn level_is_coloured_on_a_terminal_and_the_line_is_that_of_the_file() {
    let (pair, sync) = troubled();
    let (_, text) = Terminal::new().run(sync);
    assert!(text.contains(" - \x1b[33mWARN\x1b[0m - "), "{text:?}");
    let file = fs::read_to_string(pair.source().join("logs/sync.log")).expect("the log");
    assert!(!file.contains('\x1b'), "{file:?}");
    assert_eq!(without_colours(&text).replace('\r', ""), file);
}

#[test]
fn no_colour_where_it_is_not_wanted_or_cannot_be_shown() {
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let (_pair, mut sync) = troubled();
        sync.env(name, value);
        let (_, text) = Terminal::new().run(sync);
        assert!(text.contains(" - WARN - ") && !text.contains('\x1b'), "{name}={value}: {text:?}");
    }
    let (_pair, sync) = troubled();
    let ran = run(sync);
    assert!(ran.text().contains(" - WARN - ") && !ran.text().contains('\x1b'), "{}", ran.text());
    let (_pair, mut sync) = troubled();
    sync.env("NO_COLOR", "");
    assert!(Terminal::new().run(sync).1.contains("\x1b[33m"), "an empty NO_COLOR is none");
}

#[test]
fn help_has_colours_by_the_same_rule() {
    let pair = Pair::new();
    let help = |name: &str, value: &str| {
        let mut help = pair.command(&["--help"]);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            help.env_remove(name);
        }
        help.env("TERM", "xterm").env(name, value);
        Terminal::new().run(help).1
    };
    assert!(help("NO_COLOR", "").contains('\x1b'), "none on a terminal");
    assert!(!help("NO_COLOR", "1").contains('\x1b'), "not wanted");
    assert!(!help("TERM", "dumb").contains('\x1b'), "cannot be shown");
}

#[test]
fn signal_takes_the_bar_away() {
    let pair = many(3000);
    let terminal = Terminal::new();
    let mut sync = command(&pair, "sync", &["--progress", "always"]);
    let mut child =
        sync.stdin(Stdio::null()).stdout(terminal.stdio()).stderr(terminal.stdio()).spawn().expect("started");
    eventually(Duration::from_secs(60), "the bar", || has_bar(&terminal.text()).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).expect("signalled");
    let status = eventually(Duration::from_secs(60), "the end", || child.try_wait().expect("wait"));
    assert_eq!(status.code(), Some(0));
    let is_whole =
        || console::messages(&screen(&terminal.text()).join("\n")).last()?.starts_with("Sweep ").then_some(());
    eventually(Duration::from_secs(60), "the last line", is_whole);
    let last = screen(&terminal.text());
    assert!(console::parse(last.last().expect("a line")).is_some(), "{last:?}");
}

#[test]
fn console_that_nobody_reads_keeps_the_service_from_nothing() {
    let pair = Pair::of("a \"x\"");
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut watch = pair.watch_command(&["-v"]);
    let child = watch.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null()).spawn().expect("started");
    drop(watch);
    let running = crate::fixture::Running(child);
    let flush = || {
        let mut flush = pair.command(&["flush", "--control"]);
        flush.arg(pair.control());
        run(flush)
    };
    eventually(Duration::from_secs(60), "the first pass", || (flush().code == Some(0)).then_some(()));
    // More than the pipe and the program together take; each line has the name in it.
    let name = "n".repeat(230);
    for i in 0..1500 {
        disk::write(&pair.source().join(format!("{i}-{name}")), "x");
    }
    flush().expect_code(0);
    crate::compare::assert_same_live(&pair.source(), &pair.replica());
    let log = || fs::read_to_string(pair.log_file()).expect("the log");
    assert!(log().contains("WARN - Standard output takes nothing"), "not said");
    // Whoever reads at last is told what is missing.
    let gathered = Arc::new(Mutex::new(String::new()));
    let gathers = Arc::clone(&gathered);
    thread::spawn(move || {
        let mut reader = io::BufReader::new(reader);
        let mut line = String::new();
        while io::BufRead::read_line(&mut reader, &mut line).is_ok_and(|length| length > 0) {
            gathers.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
            line.clear();
        }
    });
    let text = || gathered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    eventually(Duration::from_secs(60), "the note", || text().contains("of the log are missing here").then_some(()));
    disk::write(&pair.source().join("last"), "x");
    flush().expect_code(0);
    let is_there = |text: &str| console::operations(text).iter().any(|line| line.ends_with("/last'"));
    eventually(Duration::from_secs(60), "lines as before", || is_there(&text()).then_some(()));
    let all = log();
    let copied: BTreeSet<_> = console::operations(&all).into_iter().filter(|line| line.contains(&name)).collect();
    assert!(copied.len() >= 1500, "only {} of 1500 files are in the log file", copied.len());
    drop(running);
}

#[test]
fn idle_service_on_a_terminal_draws_nothing() {
    // Enough for a bar, however late its thread comes to draw it.
    let pair = many(1000);
    let terminal = Terminal::new();
    let mut watch = pair.watch_command(&["--progress", "always"]);
    watch.env("TERM", "xterm");
    let child = watch.stdin(Stdio::null()).stdout(terminal.stdio()).stderr(terminal.stdio()).spawn().expect("started");
    let running = crate::fixture::Running(child);
    let finished = || terminal.text().contains("Sweep finished").then_some(());
    eventually(Duration::from_secs(60), "the first pass", finished);
    assert!(has_bar(&terminal.text()));
    let switches = || -> Option<u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", running.0.id())).ok()?.flatten();
        let task = tasks
            .map(|task| task.path())
            .find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "progress"))?;
        let status = fs::read_to_string(task.join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    // A measurement's length, not a guess at when something will have happened.
    eventually(Duration::from_secs(60), "nothing is drawn, and the bar's thread does not wake", || {
        let (before, drawn) = (switches().expect("its thread"), terminal.text().len());
        thread::sleep(Duration::from_secs(1));
        (switches().expect("its thread") <= before + 1 && terminal.text().len() == drawn).then_some(())
    });
}
