//! Owns the last line of the terminal on standard error, for the bar to be drawn on.

use std::fmt::Display;
use std::io::{self, Write};

use indicatif::TermLike;

use crate::commands::terminal;

/// The columns that are left free: a terminal shows the `^C` that somebody types behind the bar. In a line of its own it
/// would be the one to be cleared, and the bar would stay.
const MARGIN: usize = 4;

/// Standard error, a little narrower than it is.
#[derive(Debug)]
pub struct LastLine;

/// Columns that can be drawn on.
pub fn columns() -> usize {
    terminal::width().saturating_sub(MARGIN).max(1)
}

fn put(text: impl Display) -> io::Result<()> {
    write!(io::stderr(), "{text}")
}

fn move_cursor(by: usize, direction: char) -> io::Result<()> {
    if by == 0 { Ok(()) } else { put(format_args!("\x1b[{by}{direction}")) }
}

impl TermLike for LastLine {
    fn width(&self) -> u16 {
        u16::try_from(columns()).unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        move_cursor(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        put(format_args!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        put(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        put("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
