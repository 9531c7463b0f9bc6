//! Reads what the program says: lines of the log, operations, totals.

/// A well-formed line of the log.
pub struct Line<'a> {
    pub level: &'a str,
    pub message: &'a str,
}

const LEVELS: [&str; 8] = ["TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERRO", "ERROR", "CRITICAL"];

/// The line's parts, where it has the contract's form: `YYYY-MM-DD HH:MM:SS - LEVEL - message`.
pub fn parse(line: &str) -> Option<Line<'_>> {
    let (time, rest) = line.split_once(" - ")?;
    let (level, message) = rest.split_once(" - ")?;
    let form = "0000-00-00 00:00:00";
    let is_time = time.len() == form.len()
        && time
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form });
    let is_message = !message.is_empty() && !message.chars().any(char::is_control);
    (is_time && LEVELS.contains(&level) && is_message).then_some(Line { level, message })
}

/// The messages of the lines that have the log's form.
pub fn messages(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(parse).map(|line| line.message)
}

/// The messages that report a change to the replica: `Some words: 'a path'`.
pub fn operations(text: &str) -> Vec<&str> {
    let reported = text.lines().filter_map(parse).filter(|line| line.level == "INFO");
    let is_operation = |message: &&str| {
        message.split_once(": '").is_some_and(|(words, _)| {
            words.starts_with(|c: char| c.is_ascii_uppercase())
                && words.chars().all(|c| c.is_ascii_alphabetic() || c == ' ')
        })
    };
    reported.map(|line| line.message).filter(is_operation).collect()
}

/// The last line of totals.
#[track_caller]
pub fn totals(text: &str) -> &str {
    let found = text.lines().rfind(|line| line.contains("Sweep finished"));
    found.unwrap_or_else(|| panic!("no line of totals in:\n{text}"))
}

/// The number that stands before `word` in a line of totals.
pub fn counted(totals: &str, word: &str) -> Option<u64> {
    let words: Vec<_> = totals.split([' ', ',', ':', ';']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|found| *found == word)?;
    words.get(at.checked_sub(1)?)?.parse().ok()
}

/// Whether a line of totals counts no change at all.
pub fn says_no_changes(totals: &str) -> bool {
    let kinds = ["copied", "updated", "removed", "renamed", "metadata", "links"];
    totals.contains("no changes") || kinds.iter().all(|kind| counted(totals, kind) == Some(0))
}
