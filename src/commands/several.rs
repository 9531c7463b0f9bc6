//! Owns `watch` over several pairs: one process a pair, which is a `watch` like any other, and one that starts them, hands
//! signals on, and ends with them. What one pair waits for, or fails at, keeps no other one waiting. They share the log
//! file, to which each line goes in one piece; all else each has of its own, under names made from its two folders.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::open::{Refusal, shown, words};
use super::pairs;
use crate::cli::WatchArgs;
use crate::config::{ConfigError, Settings};

/// The process of one pair.
struct Member<'a> {
    settings: &'a Settings,
    child: Child,
    /// It was told to stop. Told twice, it would not end in order.
    is_told: bool,
    code: Option<u8>,
}

/// Serves all of these pairs until a signal says stop. If one service ends by itself, all do.
///
/// # Errors
/// An option that is for one pair only, or there are no processes to be had.
pub fn run(args: &WatchArgs, file: &Path, all: &[Settings]) -> Result<ExitCode, Refusal> {
    let for_one = [
        ("--name", args.name.is_some()),
        ("--control", args.control.is_some()),
        ("--metrics", args.metrics.is_some()),
        ("--metrics-listen", args.metrics_listen.is_some()),
        // Of several there is nobody to say when all are ready.
        ("a unit with Type=notify", env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())),
    ];
    if let Some((option, _)) = for_one.into_iter().find(|(_, is_given)| *is_given) {
        return Err(ConfigError::OnePairOnly { option, path: file.into(), count: all.len() }.into());
    }
    let failed = |error: std::io::Error| Refusal::Start(words(&error));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD]).map_err(failed)?;
    let mut members: Vec<Member> = Vec::new();
    for settings in all {
        match start(settings) {
            Ok(child) => members.push(Member { settings, child, is_told: false, code: None }),
            Err(error) => {
                members.iter_mut().for_each(Member::stop);
                members.iter_mut().for_each(|member| drop(member.child.wait()));
                return Err(failed(error));
            }
        }
    }
    let mut is_stopping = false;
    for signal in signals.forever() {
        match signal {
            SIGCHLD => {
                for member in members.iter_mut().filter(|member| member.code.is_none()) {
                    member.look();
                    if let (Some(code), false) = (member.code, is_stopping) {
                        let (source, replica) = (shown(&member.settings.source), shown(&member.settings.replica));
                        eprintln!(
                            "driftless: the service for {source} and {replica} has ended with exit code {code}: all are stopped"
                        );
                        is_stopping = true;
                    }
                }
                if is_stopping {
                    members.iter_mut().filter(|member| !member.is_told).for_each(Member::stop);
                }
            }
            SIGHUP => members.iter().for_each(|member| member.tell(Signal::HUP)),
            SIGUSR1 => members.iter().for_each(|member| member.tell(Signal::USR1)),
            _ => {
                // A person who says it twice means it.
                members.iter_mut().for_each(Member::stop);
                is_stopping = true;
            }
        }
        if members.iter().all(|member| member.code.is_some()) {
            break;
        }
    }
    Ok(ExitCode::from(members.iter().filter_map(|member| member.code).max().unwrap_or_default()))
}

impl Member<'_> {
    fn tell(&self, signal: Signal) {
        // Until it has been waited for, its number is nobody else's.
        if self.code.is_none() {
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    fn stop(&mut self) {
        self.tell(Signal::TERM);
        self.is_told = true;
    }

    /// Notes whether it has ended.
    fn look(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            let killed = status.signal().map(|_| 1);
            self.code = status.code().or(killed).map(|code| u8::try_from(code).unwrap_or(1));
        }
    }
}

fn start(settings: &Settings) -> std::io::Result<Child> {
    let mut words = env::args_os();
    // As it was called, for `ps`; the program itself may be another one by now.
    let program = words.next().unwrap_or_else(|| "driftless".into());
    let mut command = Command::new("/proc/self/exe");
    command.arg0(program).args(words.next()).arg("--one-of").arg(std::process::id().to_string());
    command.args([&settings.source, &settings.replica]).args(words);
    // A terminal's Ctrl-C comes to this process alone, which hands it on.
    command.stdin(Stdio::null()).process_group(0).spawn()
}

/// The arguments of a process that serves one of several pairs.
///
/// # Errors
/// The process that it belongs to is gone.
pub fn member(args: &WatchArgs, words: &[OsString]) -> Result<WatchArgs, Refusal> {
    let [parent, source, replica] = words else { return Err(Refusal::Start("no pair is named".into())) };
    // Without it, nobody would hand on a signal.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let is_theirs = getppid().is_some_and(|pid| OsStr::new(&pid.as_raw_nonzero().to_string()) == parent);
    if !is_theirs {
        return Err(Refusal::Start("the process that it belongs to has ended".into()));
    }
    Ok(pairs::watch_args(args, Path::new(source), Path::new(replica)))
}
