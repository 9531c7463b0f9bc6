//! The command line's entry: it parses, hands over, and says in one line why something was refused.

use std::process::ExitCode;

use clap::Parser;
use driftless::cli::{Cli, Command};
use driftless::commands::sync;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Sync(args) => sync::run(&args),
        _ => return ExitCode::from(2),
    };
    result.unwrap_or_else(|refusal| {
        eprintln!("driftless: {refusal}");
        ExitCode::from(2)
    })
}
