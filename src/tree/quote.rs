//! Owns how a path is shown to a person: between quotes, on one line, with everything escaped that could forge a line
//! of the log or steer a terminal. It keeps what can be read as it is; it does not shorten, resolve or compare paths.

use std::fmt::Write;

/// The bytes between single quotes. Readable UTF-8 is kept; controls, invisible and direction-changing characters are
/// written as `\n`, `\t`, `\r` or `\u{202e}`, bytes that are not UTF-8 as `\xNN`, and `\` and `'` with a backslash.
/// Two different names never look the same.
pub fn quoted(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('\'');
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.bytes().all(is_plain)
    {
        out.push_str(text);
        out.push('\'');
        return out;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('\'');
    out
}

/// The same for what lies at `below` in the folder `root`.
pub fn quoted_below(root: &[u8], below: &[u8]) -> String {
    let slash: &[u8] = if below.is_empty() || root.ends_with(b"/") { b"" } else { b"/" };
    match (std::str::from_utf8(root), std::str::from_utf8(below)) {
        (Ok(start), Ok(end)) if root.iter().chain(below).all(|byte| is_plain(*byte)) => {
            let slash = if slash.is_empty() { "" } else { "/" };
            ["'", start, slash, end, "'"].concat()
        }
        _ => quoted(&[root, slash, below].concat()),
    }
}

/// Text that is not a name, such as the system's words for an error: escaped in the same way, without the quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            out.push(c);
        } else {
            push_char(&mut out, c);
        }
    }
    out
}

/// Nearly every name is made of these.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'\\')
}

fn push_char(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\'' => out.push_str("\\'"),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        ' '..='~' => out.push(c),
        _ if is_visible(c) => out.push(c),
        _ => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
    }
}

/// Whether a character outside ASCII shows as itself. The standard library knows which are controls, format
/// characters, separators and unassigned; it is asked about the character after a letter, so that a combining accent
/// (names from macOS are full of them) counts as visible.
fn is_visible(c: char) -> bool {
    // These are letters, marks or symbols by category, and yet show nothing at all.
    if matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'
            ..='\u{180f}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
    ) {
        return false;
    }
    let mut buffer = [b'a'; 5];
    let end = 1 + c.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..end]).is_ok_and(|pair| pair.escape_debug().nth(1) == Some(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that a quoted text stands for.
    fn unquote(text: &str) -> Option<Vec<u8>> {
        let mut rest = text.strip_prefix('\'')?.strip_suffix('\'')?.chars();
        let mut out = Vec::new();
        while let Some(c) = rest.next() {
            let mut push = |c: char| out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            match c {
                '\'' => return None,
                '\\' => match rest.next()? {
                    'n' => push('\n'),
                    't' => push('\t'),
                    'r' => push('\r'),
                    'x' => {
                        let digits: String = rest.by_ref().take(2).collect();
                        out.push(u8::from_str_radix(&digits, 16).ok()?);
                    }
                    'u' => {
                        let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                        push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    plain @ ('\\' | '\'') => push(plain),
                    _ => return None,
                },
                plain => push(plain),
            }
        }
        Some(out)
    }

    #[test]
    fn names_are_shown_as_people_expect() {
        let table: &[(&[u8], &str)] = &[
            (b"", "''"),
            (b"a b.txt", "'a b.txt'"),
            ("dir/Käse-日本.txt".as_bytes(), "'dir/Käse-日本.txt'"),
            ("e\u{301}te\u{301}".as_bytes(), "'e\u{301}te\u{301}'"),
            (b"it's", r"'it\'s'"),
            (b"back\\slash", r"'back\\slash'"),
            (b"a\nb\tc\rd", r"'a\nb\tc\rd'"),
            (b"\x1b[31m\x07\x7f\0", r"'\u{1b}[31m\u{7}\u{7f}\u{0}'"),
            ("evil\u{202e}txt.exe".as_bytes(), r"'evil\u{202e}txt.exe'"),
            (
                "\u{200b}\u{2028}\u{feff}\u{85}\u{ad}\u{3164}".as_bytes(),
                r"'\u{200b}\u{2028}\u{feff}\u{85}\u{ad}\u{3164}'",
            ),
            (b"\xff\xc3(", r"'\xff\xc3('"),
            (b"say \"hi\"", "'say \"hi\"'"),
        ];
        for (name, shown) in table {
            assert_eq!(quoted(name), *shown);
        }
    }

    #[test]
    fn every_control_and_direction_character_is_escaped() {
        let bad = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}').chain('\u{200b}'..='\u{200f}');
        for c in bad.chain('\u{2028}'..='\u{202e}').chain('\u{2060}'..='\u{206f}').chain(['\u{61c}', '\u{e0041}']) {
            assert!(quoted(c.to_string().as_bytes()).is_ascii(), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn escaped_text_keeps_its_quotes_but_not_its_lines() {
        assert_eq!(escaped("can't open\n'x'\u{1b}"), r"can't open\n'x'\u{1b}");
    }

    proptest! {
        #[test]
        fn quoting_can_be_undone_and_stays_on_one_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            text in any::<String>(),
        ) {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let shown = quoted(bytes);
                let breaks = shown.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
                prop_assert!(!breaks);
                prop_assert_eq!(shown.lines().count(), 1);
                prop_assert_eq!(unquote(&shown), Some(bytes.to_vec()));
            }
        }
    }
}
