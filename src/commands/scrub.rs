//! Owns `scrub`: asking a running service for one, or running one on a pair that no service has; and how its result is
//! printed.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::client::{self, USAGE};
use super::open::{self, Refusal};
use super::progress::Progress;
use super::signals;
use crate::cli::ScrubArgs;
use crate::config::{self, Settings};
use crate::fs::pulse::Pulse;
use crate::service::clock;
use crate::service::control::{self, Answer, Command, ask};
use crate::service::log;
use crate::service::pair::Pair;
use crate::service::pass;
use crate::service::places::REMEDY_OF_SYNC;
use crate::service::scrub::{Ask, Found, Progress as Far, Report, Scrub, confine};
use crate::tree::quote::escaped;

const HELD: u8 = 3;

/// Runs `driftless scrub`.
///
/// # Errors
/// What makes the folders or the options unusable.
pub fn run(args: &ScrubArgs) -> Result<ExitCode, Refusal> {
    let wanted = Ask { source: args.with_source, repair: args.repair, rate: args.rate.filter(|rate| *rate < u64::MAX) };
    let Some(settings) = Settings::for_scrub(args)? else {
        return Ok(match client::find(&args.target, &control::folders()) {
            Ok(path) => asked(&path, wanted, args),
            Err(reason) => client::fail(USAGE, &reason),
        });
    };
    match alone(&settings, wanted, args) {
        // Its service has the archive, and whatever else it takes.
        Err(refusal @ (Refusal::Locked { .. } | Refusal::InUse)) => match socket_of(&settings, args) {
            Some(path) => Ok(asked(&path, wanted, args)),
            None => Err(refusal),
        },
        done => done,
    }
}

/// The socket of the service that works with these folders, if it answers.
fn socket_of(settings: &Settings, args: &ScrubArgs) -> Option<std::path::PathBuf> {
    let named = args.target.control.clone().or_else(|| settings.control.clone());
    let path = named.or_else(|| {
        let paths = open::check(settings).ok()?;
        let name = args.target.name.clone().or_else(|| settings.name.clone());
        let name = name.unwrap_or_else(|| config::pair_name(&paths.source, &paths.replica));
        let places = control::folders().into_iter().map(|folder| folder.join(format!("{name}.sock")));
        places.into_iter().find(|path| path.exists())
    })?;
    control::connect(&path).is_ok().then_some(path)
}

/// Has the service do it, however long that takes.
fn asked(path: &Path, wanted: Ask, args: &ScrubArgs) -> ExitCode {
    match ask(path, &Command::Scrub(wanted), None) {
        Ok(Answer { ok: true, scrub: Some(report), .. }) => match print(&report, args, true) {
            Ok(()) => code(&report),
            Err(error) => client::fail(1, &error.to_string()),
        },
        Ok(answer) => client::fail(1, &answer.error.unwrap_or_else(|| "the service sent no result".into())),
        Err(error) => client::fail(1, &format!("{}: {error}", open::shown(path))),
    }
}

/// Does it where no service works with the pair.
fn alone(settings: &Settings, wanted: Ask, args: &ScrubArgs) -> Result<ExitCode, Refusal> {
    let paths = open::check(settings)?;
    open::patterns(settings)?;
    let missing = || "it does not exist".to_string();
    if !paths.has_source {
        return Err(Refusal::Source { path: paths.source, reason: missing() });
    }
    if !paths.has_replica {
        return Err(Refusal::Replica { path: paths.replica, reason: missing() });
    }
    let pulse = Pulse::new(signals::stop_flag());
    let roots = open::roots(&paths, settings)?;
    let progress = Progress::new(settings);
    let mut options = progress.log_options(settings);
    // What there is to say is in the result.
    options.console = !args.json;
    let (log, guard) = log::start(&options).map_err(Refusal::Log)?;
    let result = open::exclude((&roots.0, &roots.1), settings, &log)
        .and_then(|exclude| open::pair(roots, open::in_force(exclude, settings), settings, log))
        .and_then(|(pair, misplaced)| match misplaced {
            Some(reason) => {
                pair.log.error(format_args!("Held: {reason} Nothing was done. {REMEDY_OF_SYNC}"));
                Ok(None)
            }
            None => scrub(&pair, wanted, &pulse).map(Some),
        });
    guard.finish();
    let Some(report) = result? else { return Ok(ExitCode::from(HELD)) };
    // The findings were logged.
    print(&report, args, false).map_err(|error| Refusal::Output(open::words(&error)))?;
    Ok(code(&report))
}

fn scrub(pair: &Pair, wanted: Ask, pulse: &Pulse) -> Result<Report, Refusal> {
    let far = Arc::<Far>::default();
    let work = || {
        confine(pair, wanted);
        let scrub = Scrub { pair, ask: wanted, pulse, progress: &far, from: None };
        let report = scrub.run(&mut |_| {});
        pass::close(pair);
        report
    };
    let report = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("scrub".into()).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| Refusal::Start(e.to_string()))?;
        Ok::<_, Refusal>(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    if let Err(reason) = pair.commit(clock::now(), true) {
        pair.log.warn(format_args!("{reason}; what was recorded is recorded again by the next scrub"));
    }
    pair.end();
    Ok(report)
}

/// Prints the result; `each`: with what was found.
fn print(report: &Report, args: &ScrubArgs, each: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, report)?;
        return writeln!(out);
    }
    for Found { path, side, what, reason } in report.found.iter().filter(|_| each) {
        let word = match what.as_str() {
            "repaired" => "Repaired",
            "unclear" => "Unclear",
            "failed" => "Failed",
            _ => "Decayed",
        };
        // What a service says is not trusted with the terminal.
        writeln!(out, "{}", escaped(&format!("{word}: {path} in the {side}: {reason}")))?;
    }
    if !args.output.quiet {
        writeln!(out, "Scrubbed: {report}")?;
    }
    out.flush()
}

fn code(report: &Report) -> ExitCode {
    ExitCode::from(u8::from(!report.is_clean()))
}
