//! Owns the language of systemd's unit files, as far as it is written here: words, and the drop-in of one instance. Pure:
//! it reads and writes text, and touches no disk.

use std::fmt::Write;

/// The first line of a unit that `service add` installs, so that `service remove` knows it again.
pub const MARK: &str =
    "# Installed by `driftless service add`. `driftless service remove` takes it away with the last service.";

/// What the drop-in of an instance has to say.
#[derive(Debug, Default)]
pub struct DropIn<'a> {
    /// What is mounted before the service starts: folders at or below a mount of their own.
    pub after_mounts: Vec<&'a str>,
    /// Where the replica is, if the unit lets the service write nowhere.
    pub writable: Option<&'a str>,
    /// That is all of its disk.
    pub is_disk: bool,
    /// The unit has a /tmp of its own, and one of the folders is in the real one.
    pub needs_real_tmp: bool,
    /// The whole command, where the unit's is that of another program.
    pub exec_start: Option<String>,
}

impl DropIn<'_> {
    /// The file's text; `None` if there is nothing to say.
    pub fn text(&self, name: &str, for_user: bool) -> Option<String> {
        let edit = if for_user { "systemctl --user edit" } else { "sudo systemctl edit" };
        let head = format!(
            "# Written by `driftless service add` for {name}. Lines of your own belong elsewhere: {edit} driftless@{name}\n"
        );
        let mut text = head.clone();
        if !self.after_mounts.is_empty() {
            text.push_str(
                "\n[Unit]\n# Mounted before the service starts, which does not start where they cannot be.\n",
            );
            text.push_str("RequiresMountsFor=");
            let words: Vec<_> = self.after_mounts.iter().map(|path| word(path)).collect();
            text.push_str(&words.join(" "));
            text.push('\n');
        }
        let mut service = String::new();
        if let Some(path) = self.writable {
            service.push_str(if self.is_disk {
                "# The replica's disk. (If a folder on it were named, umount could not let go of the disk.)\n"
            } else {
                "# The replica: nothing else of yours can be written to.\n"
            });
            service.push_str("# The hyphen: the service starts without it, too, and waits for it.\n");
            let _ = writeln!(service, "ReadWritePaths={}", word(&format!("-{path}")));
        }
        if self.needs_real_tmp {
            service.push_str("# One of the folders is in the /tmp that everybody sees.\nPrivateTmp=no\n");
        }
        if let Some(command) = &self.exec_start {
            let _ = writeln!(service, "# The program is not where the unit has it.\nExecStart=\nExecStart={command}");
        }
        if !service.is_empty() {
            text.push_str("\n[Service]\n");
            text.push_str(&service);
        }
        (text != head).then_some(text)
    }
}

/// A value as one word: plain if it can be, else in double quotes. A percent sign would begin a specifier.
pub fn word(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-:@,=".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.into();
    }
    let mut word = String::with_capacity(value.len() + 2);
    word.push('"');
    for c in value.chars() {
        match c {
            '\\' | '"' => word.extend(['\\', c]),
            '%' => word.push_str("%%"),
            _ => word.push(c),
        }
    }
    word.push('"');
    word
}

/// Whether systemd takes this as the path of a program: it refuses quotes and backslashes there, however written.
pub fn can_be_program(path: &str) -> bool {
    !path.contains(['\'', '"', '\\'])
}

/// The unit with this program in the place of /usr/bin/driftless.
pub fn with_program(unit: &str, program: &str) -> String {
    let replaced = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let (first, rest) = first_word(value);
        (key.starts_with("Exec") && first == SHIPPED).then(|| format!("{key}={}{rest}", word(program)))
    };
    unit.lines().map(|line| replaced(line).unwrap_or_else(|| line.into()) + "\n").collect()
}

/// The unit's own program in its shipped form.
const SHIPPED: &str = "/usr/bin/driftless";

/// The unit's command with this program; `None` if it is that already, or if the unit has no command.
pub fn other_command(unit: &str, program: &str) -> Option<String> {
    let command = value_of(unit, "ExecStart")?;
    let (first, rest) = first_word(&command);
    (first != word(program)).then(|| format!("{}{rest}", word(program)))
}

/// Whether the unit's sandbox keeps the service from writing to the folders of others.
pub fn restricts_writing(unit: &str) -> bool {
    ["ProtectSystem", "ProtectHome", "ReadOnlyPaths"].iter().any(|key| is_on(unit, key))
}

/// Whether the unit has a /tmp of its own.
pub fn has_own_tmp(unit: &str) -> bool {
    is_on(unit, "PrivateTmp")
}

fn is_on(unit: &str, key: &str) -> bool {
    let off = ["", "no", "n", "false", "f", "off", "0"];
    value_of(unit, key).is_some_and(|value| !off.contains(&value.as_str()))
}

/// The last value of a key, with continued lines joined.
fn value_of(unit: &str, key: &str) -> Option<String> {
    let mut found = None;
    let mut lines = unit.lines();
    while let Some(line) = lines.next() {
        let Some(value) = line.trim_start().strip_prefix(key).and_then(|rest| rest.trim_start().strip_prefix('='))
        else {
            continue;
        };
        let mut value = value.trim().to_owned();
        while value.ends_with('\\') {
            value.pop();
            let Some(next) = lines.next() else { break };
            value.push_str(next.trim());
        }
        found = Some(value);
    }
    found
}

/// The first word as it is written, quotes and all, and what follows it.
fn first_word(value: &str) -> (&str, &str) {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in value.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ' | '\t') => return value.split_at(at),
            _ => {}
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The words of a value as systemd reads them: quotes, backslashes, specifiers.
    fn read(value: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut rest = value.trim_start();
        while !rest.is_empty() {
            let (first, after) = first_word(rest);
            let (mut word, mut quote) = (String::new(), None);
            let mut chars = first.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' => word.extend(chars.next()),
                    _ if quote == Some(c) => quote = None,
                    '"' | '\'' if quote.is_none() => quote = Some(c),
                    _ => word.push(c),
                }
            }
            assert_eq!(quote, None, "{value}");
            words.push(word.replace("%%", "%"));
            rest = after.trim_start();
        }
        words
    }

    #[test]
    fn words_are_written_so_that_systemd_reads_them_back() {
        let table = [
            ("/mnt/backup/photos", "/mnt/backup/photos"),
            ("-/mnt/my photos", "\"-/mnt/my photos\""),
            ("/100%", "\"/100%%\""),
            ("/a\"b'c", "\"/a\\\"b'c\""),
            ("/a\\b", "\"/a\\\\b\""),
            ("/#1;", "\"/#1;\""),
            ("/ä $HOME", "\"/ä $HOME\""),
            ("", "\"\""),
        ];
        for (value, written) in table {
            assert_eq!(word(value), written);
            assert_eq!(read(written), [value]);
        }
    }

    #[test]
    fn a_drop_in_has_only_what_is_needed() {
        assert_eq!(DropIn::default().text("photos", true), None);
        let drop_in = DropIn {
            after_mounts: vec!["/mnt/a b", "/home/user"],
            writable: Some("/mnt/a b"),
            is_disk: false,
            exec_start: Some("/opt/driftless watch".into()),
            needs_real_tmp: true,
        };
        let text = drop_in.text("photos", false).expect("something");
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                "[Unit]",
                "RequiresMountsFor=\"/mnt/a b\" /home/user",
                "[Service]",
                "ReadWritePaths=\"-/mnt/a b\"",
                "PrivateTmp=no",
                "ExecStart=",
                "ExecStart=/opt/driftless watch"
            ]
        );
    }

    #[test]
    fn the_program_of_a_unit_is_another_one_where_it_has_to_be() {
        let unit = "[Service]\n#ExecStart=/no\nExecStart=/usr/bin/driftless watch \\\n  --config %E/%i.toml\n\
            ExecReload=/bin/kill -HUP $MAINPID\nPrivateTmp=yes\nProtectHome=no\n";
        assert_eq!(other_command(unit, "/usr/bin/driftless"), None);
        assert_eq!(other_command(unit, "/a b/d").as_deref(), Some("\"/a b/d\" watch --config %E/%i.toml"));
        let mine = with_program(unit, "/a b/d");
        assert!(mine.contains("\nExecStart=\"/a b/d\" watch \\\n  --config") && mine.contains("=/bin/kill"), "{mine}");
        assert_eq!(other_command(&mine, "/a b/d"), None);
        assert_eq!(other_command("[Service]\n", "/d"), None);
        assert!(has_own_tmp(unit) && !restricts_writing(unit) && restricts_writing("ProtectSystem = strict"));
        assert!(!has_own_tmp(&format!("{unit}PrivateTmp=no\n")));
        assert!(can_be_program("/a b/%d") && !can_be_program("/a'b"));
    }

    proptest! {
        #[test]
        fn any_words_come_back_as_they_were(values in prop::collection::vec("[^\\p{Cc}]{0,12}", 1..4)) {
            let written: Vec<_> = values.iter().map(|value| word(value)).collect();
            prop_assert_eq!(read(&written.join(" ")), values);
        }

        #[test]
        fn any_text_is_read_as_a_unit_without_a_panic(text in any::<String>(), program in "[^\\p{Cc}]{0,12}") {
            let _ = (other_command(&text, &program), restricts_writing(&text), with_program(&text, &program));
        }
    }
}
