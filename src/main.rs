//! The command line's entry: it parses, hands over, and says in one line why something was refused.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use driftless::cli::{Cli, Command};
use driftless::commands::client::{self, Question};
use driftless::commands::{check_config, generate, history, restore, scrub, service, status, sync, verify, watch};
use driftless::fs::guarded;
use driftless::service::log::is_journal;
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    guarded::abort_on_panic();
    raise_descriptor_limit();
    let result = match cli.command {
        Command::Sync(args) => sync::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Scrub(args) => scrub::run(&args),
        Command::Status(args) => return status::run(&args),
        Command::Flush(args) => return client::run(&args.target, Question::Flush(args.timeout)),
        Command::Sweep(target) => return client::run(&target, Question::Sweep),
        Command::Release(args) => {
            let question = if args.accept_root { Question::AcceptRoot } else { Question::Release };
            return client::run(&args.target, question);
        }
        Command::History(args) => return history::history(&args),
        Command::Log(args) => return history::log(&args),
        Command::Restore(args) => return restore::run(&args),
        Command::CheckConfig { file } => check_config::run(&file),
        Command::Service(command) => return service::run(&command),
        Command::Completions { shell } => return generate::completions(shell),
        Command::Manpage => return generate::manpage(),
    };
    result.unwrap_or_else(|refusal| {
        // Where systemd reads it, it is an error among its lines.
        let priority = if is_journal(rustix::stdio::stderr()) { "<3>" } else { "" };
        for sentence in refusal.each() {
            eprintln!("{priority}driftless: {sentence}");
        }
        ExitCode::from(2)
    })
}

/// Help goes out whole, also to who asks for nothing; of an error its one sentence.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is no failure of ours.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    let sentence = first.strip_prefix("error: ").unwrap_or(first);
    let space = if rest.is_empty() { "" } else { " " };
    eprintln!("driftless: {sentence}{space}{} (see --help)", rest.join(", "));
    ExitCode::from(2)
}

/// Each folder in work keeps two descriptors; the soft limit is often low for historical reasons alone.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The old limit is enough for all but very deep trees.
    let _ = setrlimit(Resource::Nofile, limit);
}
