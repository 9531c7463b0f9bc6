//! Owns what is known of the terminal: whether there is one, what it can show, and whether the person wants colours.

use std::env;
use std::io::IsTerminal;

use rustix::fs::{FileType, fstat};
use rustix::termios::tcgetwinsize;

/// Whether lines on standard output may have colours: on a terminal, unless `NO_COLOR` says otherwise.
pub fn has_colours() -> bool {
    std::io::stdout().is_terminal() && !is_dumb() && !is_set("NO_COLOR")
}

/// Whether a line on standard error can be drawn again and again: on a terminal that can move its cursor, and on which
/// no other program puts what this one says on standard output.
pub fn can_redraw() -> bool {
    std::io::stderr().is_terminal() && !is_dumb() && !is_piped()
}

/// Whether the terminal can do nothing but print.
pub fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Columns of the terminal that standard error is.
pub fn width() -> usize {
    let told = tcgetwinsize(rustix::stdio::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if told == 0 { 80 } else { told }
}

fn is_piped() -> bool {
    let kind = fstat(rustix::stdio::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    kind.is_ok_and(|kind| matches!(kind, FileType::Fifo | FileType::Socket))
}

/// As the convention has it, an empty value is none.
fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}
