//! Owns the lines of the journal: what happened to a path of the replica, told so that it can be taken back. Each line is
//! text that a person can read, with a sum that tells what is whole from what is torn. It knows neither files nor clocks.
//!
//! ```text
//! SECONDS.NANOSECONDS <tab> WORD <tab> PATH <tab> KEY=VALUE ... <tab> SUM
//! ```
//!
//! A line tells what was before, never what is now: going back from the tree that is there, line by line, gives the tree
//! of any time since the last `since`. The times are of the wall clock, in UTC, and rise from line to line.

use std::collections::BTreeMap;
use std::fmt;

use super::codec::sum;
use super::entry::{Kind, Stat, Time};
use super::name::{split_extension, with_tail};
use super::operation::Cause;
use super::path::RelPath;

/// The folders of the reserved one in which the journal and what is kept lie.
pub const JOURNAL: &[u8] = b"journal";
pub const VERSIONS: &[u8] = b"versions";

/// What an entry has beyond its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    /// By name, ACLs among them.
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

impl Attributes {
    pub fn of(stat: &Stat, xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>) -> Self {
        Self { mode: stat.mode, uid: stat.uid, gid: stat.gid, mtime: stat.mtime, xattrs }
    }
}

/// What asked for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Cause(Cause),
    /// A person had something brought back.
    Restore,
    /// The disk had spoiled it.
    Repair,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something came to a path at which nothing was.
    Created {
        kind: Kind,
    },
    /// What was at the path, no folder, made way for something else; it is kept there, below the folder of versions.
    Updated {
        kind: Kind,
        kept: Option<RelPath>,
    },
    /// It had these attributes before. `quiet`: they follow from something else, as a folder's times do.
    Metadata {
        was: Attributes,
        quiet: bool,
    },
    /// It went to another path, at which nothing was. `ino` is its inode's number.
    Renamed {
        to: RelPath,
        ino: u64,
    },
    /// It changed places with another entry.
    Exchanged {
        with: RelPath,
        ino: u64,
    },
    /// It went. A folder had these attributes; what was in it went before it. Anything else is kept.
    Removed {
        kind: Kind,
        kept: Option<RelPath>,
        was: Option<Attributes>,
    },
    /// What the line of that time announces did not happen.
    Void {
        of: Time,
    },
    /// From here on everything is told.
    Since,
    /// From here on, up to the next `Since`, changes were made of which nothing is told.
    Gap,
    /// Lines went from here, in the course of thinning out. What was there at `from`, the beginning of their period, is
    /// told; what was there between it and `to`, the time of the last of them, is not.
    Thinned {
        from: Time,
        to: Time,
    },
    /// The journal goes on from the file of this name: without it, something is missing.
    Follows {
        file: String,
    },
    /// A run of the program began or ended. Between a beginning and the next one without an end it was interrupted: what
    /// the last lines announce may not have happened.
    Began,
    Ended,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Time,
    /// Of the replica; the root for what concerns all of it.
    pub path: RelPath,
    pub event: Event,
    pub by: By,
    /// In two-way mode: the change was made in the source.
    pub in_source: bool,
}

impl Event {
    /// What is kept of what was lost.
    pub fn kept(&self) -> Option<&RelPath> {
        match self {
            Self::Updated { kept, .. } | Self::Removed { kept, .. } => kept.as_ref(),
            _ => None,
        }
    }

    /// Whether it is for who goes back in time alone: nothing has happened then.
    pub fn is_note(&self) -> bool {
        matches!(self, Self::Thinned { .. } | Self::Follows { .. })
    }

    /// As the journal and those who read it call it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Updated { .. } => "updated",
            Self::Metadata { .. } => "metadata",
            Self::Renamed { .. } => "renamed",
            Self::Exchanged { .. } => "exchanged",
            Self::Removed { .. } => "removed",
            Self::Void { .. } => "void",
            Self::Since => "since",
            Self::Gap => "gap",
            Self::Thinned { .. } => "thinned",
            Self::Follows { .. } => "follows",
            Self::Began => "began",
            Self::Ended => "ended",
        }
    }
}

const BY: [(By, &str); 8] = [
    (By::Cause(Cause::Event), "event"),
    (By::Cause(Cause::Retry), "retry"),
    (By::Cause(Cause::Release), "release"),
    (By::Cause(Cause::Poll), "poll"),
    (By::Cause(Cause::Flush), "flush"),
    (By::Cause(Cause::Sweep), "sweep"),
    (By::Restore, "restore"),
    (By::Repair, "repair"),
];

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BY.iter().find(|(by, _)| by == self).map_or("event", |(_, word)| word))
    }
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::File, "file"),
    (Kind::Directory, "directory"),
    (Kind::Symlink, "symlink"),
    (Kind::Fifo, "fifo"),
    (Kind::Socket, "socket"),
    (Kind::CharDevice, "chardevice"),
    (Kind::BlockDevice, "blockdevice"),
];

/// A kind as the journal and those who read it call it.
pub fn kind_word(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("file", |(_, word)| word)
}

impl Line {
    /// One about the journal itself.
    pub fn of_journal(at: Time, event: Event) -> Self {
        Self { at, path: RelPath::root(), event, by: By::Cause(Cause::Sweep), in_source: false }
    }

    /// The line with its sum and its end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        put_time(out, self.at);
        out.push(b'\t');
        out.extend_from_slice(self.event.word().as_bytes());
        out.push(b'\t');
        put_path(out, &self.path);
        match &self.event {
            Event::Created { kind } => put_field(out, "kind", kind_word(*kind)),
            Event::Updated { kind, kept } => {
                put_field(out, "kind", kind_word(*kind));
                put_kept(out, kept.as_ref());
            }
            Event::Metadata { was, quiet } => {
                if *quiet {
                    put_field(out, "quiet", "1");
                }
                put_attributes(out, was);
            }
            Event::Renamed { to: other, ino } | Event::Exchanged { with: other, ino } => {
                out.extend_from_slice(b"\tother=");
                put_path(out, other);
                put_field(out, "ino", &ino.to_string());
            }
            Event::Removed { kind, kept, was } => {
                put_field(out, "kind", kind_word(*kind));
                put_kept(out, kept.as_ref());
                if let Some(was) = was {
                    put_attributes(out, was);
                }
            }
            Event::Void { of } => {
                out.extend_from_slice(b"\tof=");
                put_time(out, *of);
            }
            Event::Thinned { from, to } => {
                out.extend_from_slice(b"\tfrom=");
                put_time(out, *from);
                out.extend_from_slice(b"\tto=");
                put_time(out, *to);
            }
            Event::Follows { file } => {
                out.extend_from_slice(b"\tfile=");
                put_escaped(out, file.as_bytes());
            }
            Event::Since | Event::Gap | Event::Began | Event::Ended => {}
        }
        put_field(out, "by", &self.by.to_string());
        if self.in_source {
            put_field(out, "side", "source");
        }
        let sum = sum(&out[start..]);
        out.extend_from_slice(format!("\t{sum:016x}\n").as_bytes());
    }

    /// What a line says; nothing of one that is torn, damaged, or of another version of the program. Without its end.
    pub fn decode(line: &[u8]) -> Option<Self> {
        let at = line.iter().rposition(|byte| *byte == b'\t')?;
        let (text, end) = (&line[..at], std::str::from_utf8(&line[at + 1..]).ok()?);
        if end.len() != 16 || u64::from_str_radix(end, 16) != Ok(sum(text)) {
            return None;
        }
        let mut parts = text.split(|byte| *byte == b'\t');
        let at = take_time(parts.next()?)?;
        let word = parts.next()?;
        let path = take_path(parts.next()?)?;
        let mut fields = Fields::default();
        for part in parts {
            let split = part.iter().position(|byte| *byte == b'=')?;
            fields.0.push((&part[..split], &part[split + 1..]));
        }
        let event = match word {
            b"created" => Event::Created { kind: fields.kind()? },
            b"updated" => Event::Updated { kind: fields.kind()?, kept: fields.kept()? },
            b"metadata" => Event::Metadata { was: fields.attributes()?, quiet: fields.get("quiet").is_some() },
            b"renamed" => Event::Renamed { to: take_path(fields.get("other")?)?, ino: fields.number("ino", 10)? },
            b"exchanged" => Event::Exchanged { with: take_path(fields.get("other")?)?, ino: fields.number("ino", 10)? },
            b"removed" => {
                let was = fields.get("mode").and_then(|_| fields.attributes());
                Event::Removed { kind: fields.kind()?, kept: fields.kept()?, was }
            }
            b"void" => Event::Void { of: take_time(fields.get("of")?)? },
            b"since" => Event::Since,
            b"gap" => Event::Gap,
            b"thinned" => Event::Thinned { from: take_time(fields.get("from")?)?, to: take_time(fields.get("to")?)? },
            b"follows" => Event::Follows { file: String::from_utf8(unescaped(fields.get("file")?)?).ok()? },
            b"began" => Event::Began,
            b"ended" => Event::Ended,
            _ => return None,
        };
        let word = fields.get("by")?;
        let by = BY.iter().find(|(_, known)| known.as_bytes() == word).map(|(by, _)| *by)?;
        Some(Self { at, path, event, by, in_source: fields.get("side").is_some() })
    }
}

#[derive(Default)]
struct Fields<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| *known == key.as_bytes()).map(|(_, value)| *value)
    }

    fn number(&self, key: &str, radix: u32) -> Option<u64> {
        u64::from_str_radix(std::str::from_utf8(self.get(key)?).ok()?, radix).ok()
    }

    fn kind(&self) -> Option<Kind> {
        let word = self.get("kind")?;
        KINDS.iter().find(|(_, known)| known.as_bytes() == word).map(|(kind, _)| *kind)
    }

    /// Nothing where it cannot be read, nothing in it where nothing is kept.
    fn kept(&self) -> Option<Option<RelPath>> {
        self.get("kept").map_or(Some(None), |path| take_path(path).map(Some))
    }

    fn attributes(&self) -> Option<Attributes> {
        let mut xattrs = BTreeMap::new();
        for (key, value) in &self.0 {
            if let Some(name) = key.strip_prefix(b"x.") {
                xattrs.insert(unescaped(name)?.into(), unescaped(value)?.into());
            }
        }
        Some(Attributes {
            mode: u16::try_from(self.number("mode", 8)?).ok()?,
            uid: u32::try_from(self.number("uid", 10)?).ok()?,
            gid: u32::try_from(self.number("gid", 10)?).ok()?,
            mtime: take_time(self.get("mtime")?)?,
            xattrs,
        })
    }
}

fn put_field(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(format!("\t{key}={value}").as_bytes());
}

fn put_kept(out: &mut Vec<u8>, kept: Option<&RelPath>) {
    if let Some(kept) = kept {
        out.extend_from_slice(b"\tkept=");
        put_path(out, kept);
    }
}

fn put_attributes(out: &mut Vec<u8>, was: &Attributes) {
    put_field(out, "mode", &format!("{:04o}", was.mode));
    put_field(out, "uid", &was.uid.to_string());
    put_field(out, "gid", &was.gid.to_string());
    out.extend_from_slice(b"\tmtime=");
    put_time(out, was.mtime);
    for (name, value) in &was.xattrs {
        out.extend_from_slice(b"\tx.");
        put_escaped(out, name);
        out.push(b'=');
        put_escaped(out, value);
    }
}

/// Seconds, which may be negative, and nine digits that are added to them.
fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(format!("{}.{:09}", time.sec, time.nsec).as_bytes());
}

fn take_time(text: &[u8]) -> Option<Time> {
    let (sec, nsec) = std::str::from_utf8(text).ok()?.split_once('.')?;
    let is_fraction = nsec.len() == 9 && nsec.bytes().all(|byte| byte.is_ascii_digit());
    is_fraction.then_some(())?;
    Some(Time { sec: sec.parse().ok()?, nsec: nsec.parse().ok()? })
}

/// The root is `.`, which is no name.
fn put_path(out: &mut Vec<u8>, path: &RelPath) {
    if path.is_root() { out.push(b'.') } else { put_escaped(out, path.as_bytes()) }
}

fn take_path(text: &[u8]) -> Option<RelPath> {
    if text == b"." { Some(RelPath::root()) } else { RelPath::new(&unescaped(text)?).filter(|path| !path.is_root()) }
}

/// What can be read stays; controls, `\`, `=` and what is not UTF-8 become `\xNN`.
fn put_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let is_plain = |byte: &u8| !byte.is_ascii_control() && !matches!(byte, b'\\' | b'=');
    for chunk in bytes.utf8_chunks() {
        for byte in chunk.valid().as_bytes() {
            if is_plain(byte) { out.push(*byte) } else { put_byte(out, *byte) }
        }
        chunk.invalid().iter().for_each(|byte| put_byte(out, *byte));
    }
}

fn put_byte(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'\\' {
            let (code, end) = after.strip_prefix(b"x")?.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
            rest = end;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    Some(out)
}

/// The name of a version: `NAME~TIME.EXT`, with a number where that is taken. `time` is when it was lost.
pub fn version_name(name: &[u8], time: &str, number: u32) -> Vec<u8> {
    let (stem, extension) = split_extension(name);
    let numbered = if number == 0 { String::new() } else { format!("-{number}") };
    let tail = [b"~", time.as_bytes(), numbered.as_bytes(), extension].concat();
    with_tail(stem, &tail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path() -> impl Strategy<Value = RelPath> {
        let name = proptest::collection::vec(any::<u8>(), 1..12);
        proptest::collection::vec(name, 0..4).prop_filter_map("a path", |names| RelPath::new(&names.join(&b'/')))
    }

    fn time() -> impl Strategy<Value = Time> {
        (-5_000_000_000i64..5_000_000_000, 0u32..1_000_000_000).prop_map(|(sec, nsec)| Time { sec, nsec })
    }

    fn kind() -> impl Strategy<Value = Kind> {
        proptest::sample::select(KINDS.map(|(kind, _)| kind).to_vec())
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        let bytes = || proptest::collection::vec(any::<u8>(), 1..9).prop_map(Vec::into_boxed_slice);
        let xattrs = proptest::collection::btree_map(bytes(), bytes(), 0..3);
        (0u16..0o10000, any::<u32>(), any::<u32>(), time(), xattrs)
            .prop_map(|(mode, uid, gid, mtime, xattrs)| Attributes { mode, uid, gid, mtime, xattrs })
    }

    fn event() -> impl Strategy<Value = Event> {
        let kept = || proptest::option::of(path());
        let was = || proptest::option::of(attributes());
        prop_oneof![
            kind().prop_map(|kind| Event::Created { kind }),
            (kind(), kept()).prop_map(|(kind, kept)| Event::Updated { kind, kept }),
            (attributes(), any::<bool>()).prop_map(|(was, quiet)| Event::Metadata { was, quiet }),
            (path(), any::<u64>()).prop_map(|(to, ino)| Event::Renamed { to, ino }),
            (path(), any::<u64>()).prop_map(|(with, ino)| Event::Exchanged { with, ino }),
            (kind(), kept(), was()).prop_map(|(kind, kept, was)| Event::Removed { kind, kept, was }),
            time().prop_map(|of| Event::Void { of }),
            Just(Event::Since),
            Just(Event::Gap),
            (time(), time()).prop_map(|(from, to)| Event::Thinned { from, to }),
            ".*".prop_map(|file| Event::Follows { file }),
            Just(Event::Began),
            Just(Event::Ended),
        ]
    }

    fn line() -> impl Strategy<Value = Line> {
        let by = proptest::sample::select(BY.map(|(by, _)| by).to_vec());
        (time(), path(), event(), by, any::<bool>()).prop_map(|(at, path, event, by, in_source)| Line {
            at,
            path,
            event,
            by,
            in_source,
        })
    }

    proptest! {
        #[test]
        fn a_line_says_what_was_put_into_it(line in line()) {
            let mut text = Vec::new();
            line.encode(&mut text);
            prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(text.pop(), Some(b'\n'));
            prop_assert_eq!(Line::decode(&text), Some(line));
        }

        #[test]
        fn what_is_torn_or_damaged_says_nothing(line in line(), at in any::<usize>(), bit in 0u8..8) {
            let mut text = Vec::new();
            line.encode(&mut text);
            text.pop();
            let at = at % text.len();
            prop_assert_eq!(Line::decode(&text[..at]), None);
            text[at] ^= 1 << bit;
            // An uppercase digit of the sum says the same.
            prop_assert!(Line::decode(&text).is_none_or(|read| read == line));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Line::decode(&bytes);
        }
    }

    #[test]
    fn a_line_is_read_by_people_too() {
        let path = RelPath::new("Ordner/Käse\n.txt".as_bytes()).expect("a path");
        let kept = RelPath::new("Ordner/Käse~2026.txt".as_bytes());
        let event = Event::Updated { kind: Kind::File, kept };
        let line = Line { at: Time { sec: 5, nsec: 6 }, path, event, by: By::Cause(Cause::Event), in_source: false };
        let mut text = Vec::new();
        line.encode(&mut text);
        let text = String::from_utf8(text).expect("text");
        let shown = "5.000000006\tupdated\tOrdner/Käse\\x0a.txt\tkind=file\tkept=Ordner/Käse~2026.txt\tby=event\t";
        assert!(text.starts_with(shown), "{text}");
    }

    #[test]
    fn a_version_is_found_by_its_name_and_opens_like_the_file() {
        let name = |name: &str, number| String::from_utf8(version_name(name.as_bytes(), "T", number)).expect("text");
        assert_eq!((name("a.txt", 0), name("a.txt", 2)), ("a~T.txt".into(), "a~T-2.txt".into()));
        assert_eq!((name(".profile", 0), name("plain", 0)), (".profile~T".into(), "plain~T".into()));
        assert_eq!(name(&"é".repeat(127), 0), format!("{}~T", "é".repeat(126)));
        assert!(name(&"x".repeat(255), 7).len() <= 255);
    }
}
