//! Owns `status`: which services are meant, and in which form they are shown, once or for as long as a person looks. It
//! measures nothing: what a service says of itself is `service::status`'s.

mod follow;
mod screen;
mod table;
pub(super) mod words;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use jiff::Zoned;
use serde::Serialize;

use super::client::{self, Reach, USAGE, fail};
use crate::cli::StatusArgs;
use crate::service::control::folders;
use crate::service::status::{State, Status};

/// Whom the person wants to see.
#[derive(Clone, Debug)]
enum Who {
    One(PathBuf),
    /// All that there are at the moment.
    All,
}

/// What a service said, or why it said nothing.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    name: String,
    path: PathBuf,
    answer: Result<Box<Status>, (u8, String)>,
}

/// One service as JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Json<'a> {
    One(&'a Status),
    Named {
        name: &'a str,
        #[serde(flatten)]
        status: &'a Status,
    },
    Unreachable {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        state: &'static str,
        reason: &'a str,
    },
}

/// How a screen looks.
#[derive(Clone, Copy, Debug)]
struct Look {
    colour: bool,
    /// In characters; lines that are no path or command are broken there.
    width: usize,
}

/// Runs `driftless status`. Exit code 0 when there is something to show, 1 when the service refuses, 2 when there is
/// none, or no telling which is meant.
pub fn run(args: &StatusArgs) -> ExitCode {
    let who = match choose(args) {
        Ok(who) => who,
        Err(reason) => return fail(USAGE, &reason),
    };
    if args.follow {
        return follow::run(who, args.json);
    }
    let seen = look(&who);
    let text = match (&who, seen.as_slice()) {
        (Who::One(_), [Seen { answer: Err((code, reason)), .. }]) => return fail(*code, reason),
        (Who::One(_), [Seen { answer: Ok(status), .. }]) if args.json => json(&Json::One(status)),
        (Who::One(_), [Seen { answer: Ok(status), .. }]) => Ok(screen::of(status, &Zoned::now(), Look::here())),
        (_, seen) if args.json => json(&seen.iter().map(|one| one.json(true)).collect::<Vec<_>>()),
        (_, seen) => Ok(table::of(seen, Look::here())),
    };
    match text.and_then(|text| print(&text)) {
        Err(e) => fail(1, &format!("cannot print: {e}")),
        Ok(_) => ExitCode::SUCCESS,
    }
}

fn choose(args: &StatusArgs) -> Result<Who, String> {
    let all = client::survey(&folders());
    let living = all.iter().filter(|(_, reach)| *reach == Reach::Living).count();
    let is_anyone = args.target.control.is_none() && args.target.name.is_none();
    if is_anyone && ((args.all && !all.is_empty()) || (!args.all && !args.json && living > 1)) {
        return Ok(Who::All);
    }
    let found = client::find(&args.target, &folders());
    found
        .map(Who::One)
        .map_err(|e| if args.json && living > 1 { e.replace("--name:", "--name, or take --all:") } else { e })
}

/// Asks everyone at once: one that does not answer keeps nobody else waiting.
fn look(who: &Who) -> Vec<Seen> {
    let paths = match who {
        Who::One(path) => vec![path.clone()],
        Who::All => client::survey(&folders()).into_iter().map(|(path, _)| path).collect(),
    };
    thread::scope(|scope| {
        let asked: Vec<_> = paths.iter().map(|path| (path, scope.spawn(|| client::status(path)))).collect();
        asked.into_iter().filter_map(|(path, thread)| Some(Seen::new(path, thread.join().ok()?))).collect()
    })
}

impl Seen {
    fn new(path: &Path, answer: Result<Box<Status>, (u8, String)>) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, path: path.into(), answer }
    }

    fn json(&self, is_named: bool) -> Json<'_> {
        match &self.answer {
            Ok(status) if is_named => Json::Named { name: &self.name, status },
            Ok(status) => Json::One(status),
            Err((_, reason)) => {
                Json::Unreachable { name: is_named.then_some(&self.name), state: "unreachable", reason }
            }
        }
    }
}

fn json(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Prints, and tells whether anybody reads it.
fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        done => done.map(|()| true),
    }
}

impl Look {
    /// As wide as the terminal, and coloured unless the person does not want that (`NO_COLOR`). Elsewhere each line stays
    /// whole, for programs that look for it.
    fn here() -> Self {
        let out = io::stdout();
        let columns = terminal_size::terminal_size_of(&out).map(|(width, _)| usize::from(width.0));
        let width = if out.is_terminal() { columns.unwrap_or(80).max(40) } else { usize::MAX };
        Self { colour: AutoStream::choice(&out) != ColorChoice::Never, width }
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("{style}{text}{style:#}") } else { text.into() }
    }
}

/// The colour of a state; `None` for a service that does not answer.
fn style_of(state: Option<State>) -> Style {
    let colour = match state {
        Some(State::InSync) => AnsiColor::Green,
        Some(State::Starting | State::Sweeping | State::Busy | State::Stopping) => AnsiColor::Yellow,
        Some(State::Held | State::Degraded) | None => AnsiColor::Red,
    };
    colour.on_default().bold()
}
