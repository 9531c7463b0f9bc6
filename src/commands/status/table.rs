//! Owns the table of all services: one line for each, the names of those that do not answer among them.

use std::fmt::Write;
use std::time::Duration;

use anstyle::Style;

use super::words::{number, span};
use super::{Look, Seen, style_of};
use crate::tree::quote::escaped;

const HEAD: [&str; 6] = ["NAME", "STATE", "PENDING", "LAG", "SOURCE", "REPLICA"];
/// Numbers stand at the right of their column.
const NUMBERS: [bool; 6] = [false, false, true, true, false, false];

/// Ends with a newline. Paths are never cut: lines may be long.
pub fn of(seen: &[Seen], look: Look) -> String {
    let rows: Vec<[String; 6]> = seen.iter().map(row).collect();
    let mut widths = HEAD.map(str::len);
    // What a service says that does not answer is a sentence, and takes no part in it.
    for (row, one) in rows.iter().zip(seen) {
        let columns = if one.answer.is_ok() { 5 } else { 4 };
        for (width, cell) in widths.iter_mut().zip(row).take(columns) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    line(&mut table, &HEAD.map(String::from), widths, look, [Style::new().dimmed(); 6]);
    for (row, one) in rows.iter().zip(seen) {
        let mut styles = [Style::new(); 6];
        styles[1] = style_of(one.answer.as_ref().ok().map(|status| status.state));
        line(&mut table, row, widths, look, styles);
    }
    table
}

fn row(one: &Seen) -> [String; 6] {
    let cells = match &one.answer {
        Ok(status) => {
            let lag = if status.pending == 0 { "-".into() } else { span(Duration::from_millis(status.lag_ms)) };
            let pending = number(status.pending);
            [status.state.to_string(), pending, lag, status.source.clone(), status.replica.clone()]
        }
        Err((_, reason)) => ["no answer".into(), "-".into(), "-".into(), reason.clone(), String::new()],
    };
    let [state, pending, lag, source, replica] = cells.map(|cell| escaped(&cell));
    [escaped(&one.name), state, pending, lag, source, replica]
}

fn line(table: &mut String, cells: &[String; 6], widths: [usize; 6], look: Look, styles: [Style; 6]) {
    let mut text = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let space = widths[at].saturating_sub(cell.chars().count());
        let (before, after) = if NUMBERS[at] { (space, 0) } else { (0, space) };
        let gap = if at == 0 { "" } else { "  " };
        let _ = write!(text, "{gap}{:before$}{}{:after$}", "", look.paint(styles[at], cell), "");
    }
    let _ = writeln!(table, "{}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::{State, Status, sample};

    #[test]
    fn services_stand_below_each_other_and_who_does_not_answer_is_named() {
        let busy = Status { state: State::Busy, pending: 1200, lag_ms: 1500, ..sample() };
        let seen = |name: &str, answer| Seen { name: name.into(), path: "/run/x.sock".into(), answer };
        let table = of(
            &[
                seen("photos", Ok(Box::new(sample()))),
                seen("a\u{1b}", Err((2, "no service answers at '/run/x.sock'".into()))),
                seen("music", Ok(Box::new(busy))),
            ],
            Look { colour: false, width: 80 },
        );
        let expected = "\
NAME     STATE      PENDING   LAG  SOURCE        REPLICA
photos   in sync          0     -  /home/user/a  /mnt/b
a\\u{1b}  no answer        -     -  no service answers at '/run/x.sock'
music    busy         1,200  1.5s  /home/user/a  /mnt/b
";
        assert_eq!(table, expected);
    }
}
