//! Owns `history` and `log`: what the journal of a replica tells of a path, or of all of them. It reads, from the
//! replica's disk alone, and writes nothing; what is told, and when, is the journal's.

mod read;
mod show;
mod story;

use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use rustix::io::Errno;

use super::client::{USAGE, fail};
use super::open::shown;
use super::status::words::counted;
use super::which::{self, Found};
use crate::cli::{HistoryArgs, HistoryOptions, LogArgs};
use crate::fs::history::{ahead, reading, shown_time};
use crate::service::pass::describe;
use crate::tree::history::Event;
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;
use read::{Failed, Told, Window, is_mark};
use story::Story;

/// Runs `driftless history`: oldest first, so that what happened last stands at the end of the screen. Exit code 0, also
/// when nothing is told; 1 when a part of the journal cannot be read; 2 when there is none, or no telling whose.
pub fn history(args: &HistoryArgs) -> ExitCode {
    let found = which::find(&args.options.whose, &args.path);
    let (found, path) = match found.and_then(|found| found.inside(&args.path).map(|path| (found, path))) {
        Ok(both) => both,
        Err(reason) => return fail(USAGE, &reason),
    };
    let window = Window { since: args.options.since, until: args.options.until };
    let verbose = args.options.verbose > 0;
    let is_shown = |told: &Told| match &told.line.event {
        Event::Began | Event::Ended => false,
        Event::Metadata { quiet: true, .. } => verbose,
        _ => true,
    };
    run(&found, path, window, &args.options, is_shown)
}

/// Runs `driftless log`, in the same order and with the same exit codes.
pub fn log(args: &LogArgs) -> ExitCode {
    let found = match which::find(&args.options.whose, Path::new(".")) {
        Ok(found) => found,
        Err(reason) => return fail(USAGE, &reason),
    };
    let window = Window { since: args.options.since, until: args.options.until };
    let verbose = args.options.verbose > 0;
    let is_shown = |told: &Told| match &told.line.event {
        Event::Removed { .. } => true,
        _ if args.removed => false,
        Event::Began | Event::Ended | Event::Metadata { quiet: true, .. } => verbose,
        _ => true,
    };
    run(&found, RelPath::root(), window, &args.options, is_shown)
}

fn run(
    found: &Found,
    path: RelPath,
    window: Window,
    options: &HistoryOptions,
    is_shown: impl Fn(&Told) -> bool,
) -> ExitCode {
    let replica = found.replica.path();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut count = 0u64;
    let tell = |told: &Told| {
        if !is_shown(told) {
            return Ok(());
        }
        count += u64::from(!is_mark(&told.line.event));
        let text = if options.json { show::object(told, replica).to_string() } else { show::line(told, replica) };
        writeln!(out, "{text}").map_err(Failed::Output)
    };
    let name = if path.is_root() { "anything".to_string() } else { quoted(path.as_bytes()) };
    let result = read::tell(&found.replica, window, &mut Story::of(path), tell);
    let result = result.and_then(|unread| out.flush().map(|()| unread).map_err(Failed::Output));
    if let Ok(unread) = &result
        && unread.damaged > 0
    {
        let files: Vec<_> = unread.damaged_in.iter().map(|name| quoted(name.as_bytes())).collect();
        let _ = writeln!(
            io::stderr(),
            "driftless: {} of the journal passed over, in {}",
            counted(unread.damaged, "damaged line", "damaged lines"),
            files.join(", ")
        );
    }
    match result {
        Ok(unread) if !unread.failed.is_empty() => fail(1, &unread.failed.join("\n")),
        Ok(_) => {
            warn_of_times(found);
            if count == 0 {
                let when = if window.since.is_some() || window.until.is_some() { " of that time" } else { "" };
                let _ = writeln!(
                    io::stderr(),
                    "driftless: nothing{when} is told of {name} in the journal of {}",
                    shown(replica)
                );
            }
            ExitCode::SUCCESS
        }
        Err(Failed::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failed::Output(error)) => fail(1, &format!("cannot print: {error}")),
        Err(Failed::Journal(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => fail(
            USAGE,
            &format!("the replica {} has no history: it is kept with --keep-versions or --keep", shown(replica)),
        ),
        Err(Failed::Journal(error)) => {
            let advice = match error {
                Errno::ACCESS => "; run this as the service's user, or with sudo",
                _ => "",
            };
            fail(USAGE, &format!("the journal of {} cannot be read: {}{advice}", shown(replica), describe(error)))
        }
    }
}

/// Says it where the clock was ahead: the times that are shown are not those of the changes.
fn warn_of_times(found: &Found) {
    let ahead = reading::folder(&found.replica).and_then(|folder| ahead::find(folder.as_fd()));
    // What cannot be read was said.
    let Ok(Some(ahead)) = ahead else { return };
    let since = ahead.until.map_or_else(String::new, |until| format!(" after {}", shown_time(until)));
    let _ = writeln!(
        io::stderr(),
        "driftless: the journal of {} has times that are still to come: the clock was ahead, or is behind now. What is \
         told{since} happened in this order, but not at these times",
        shown(found.replica.path())
    );
}
