//! Random work on both sides of a pair at once, with a record of all that either side ever finished writing, by which it
//! shows afterwards whether any of it was lost.
//!
//! Each text is written once. It counts as superseded by what has really come in its place: whatever replaces or removes
//! something takes it out of the tree in one step, and looks at what came out. So it does not matter whether it was this
//! side's own or had just come from the other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use crate::compare::{self, Reserved};
use crate::disk;
use crate::random_ops::{Done, chosen, set_mtime};
use crate::random_work::Work;

type Text = Vec<u8>;
type Operation = fn(&mut Both, usize) -> Done;

/// How often each operation is chosen, out of the sum of all, with its name.
const OPERATIONS: [(u64, &str, Operation); 22] = [
    (14, "save", Both::save),
    (6, "create", Both::create),
    (6, "write in place", Both::write_in_place),
    (4, "rewrite unseen", Both::rewrite_unseen),
    (5, "append", Both::append),
    (3, "the same on both", Both::same_on_both),
    (8, "remove", Both::remove),
    (3, "rm -rf", Both::remove_tree),
    (7, "mkdir", |both, side| both.sides[side].make_folder()),
    (3, "mkdir -p and fill", Both::make_deep),
    (6, "rename", Both::rename),
    (4, "rename over", Both::rename_over),
    (4, "rename folder", Both::rename_folder),
    (3, "exchange", Both::exchange),
    (4, "another kind", Both::replace),
    (3, "move in", Both::move_in),
    (3, "symlink", Both::symlink),
    (2, "fifo", |both, side| both.sides[side].fifo()),
    (4, "chmod", |both, side| both.sides[side].chmod()),
    (3, "utime", Both::utime),
    (3, "xattr", |both, side| both.sides[side].xattr()),
    (2, "chown", |both, side| both.sides[side].chown()),
];

/// Few, so that both sides often mean the same.
const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c.txt",
    b"d",
    b"e",
    b".hid",
    b"new\nline",
    b"\xff\xfe.bin",
    b"-r",
    b"x.conflict-20200101-000000-source.txt",
    b"f.",
    LONG,
];
const LONG: &[u8] = &[b'l'; 250];

pub struct Both {
    /// What was done, the newest last.
    pub log: Vec<String>,
    pub sides: [Work; 2],
    /// Where both sides are; what they work in may be below.
    pub roots: [PathBuf; 2],
    /// What is taken out of either tree, on the same filesystem.
    outside: PathBuf,
    parked: Vec<PathBuf>,
    has_hard_links: bool,
    has_unseen: bool,
    number: u64,
    /// All that was ever in a file, the halves of what was written in two steps too.
    known: HashSet<Text>,
    /// What was finished and is to be on both sides, with where it was written.
    live: BTreeMap<Text, PathBuf>,
    /// Whether each side works in a folder of its own, so that there is nothing to be in conflict about.
    is_apart: bool,
}

impl Both {
    pub fn new(seed: u64, sides: [&Path; 2], outside: &Path) -> Self {
        fs::create_dir_all(outside).expect("mkdir");
        sides.iter().for_each(|side| fs::create_dir_all(side).expect("mkdir"));
        Self {
            log: Vec::new(),
            sides: [Work::new(2 * seed, sides[0], outside), Work::new(2 * seed + 1, sides[1], outside)],
            outside: outside.to_owned(),
            roots: sides.map(Path::to_owned),
            parked: Vec::new(),
            has_hard_links: std::env::var_os("DRIFTLESS_HARD_LINKS").is_some(),
            has_unseen: std::env::var_os("DRIFTLESS_UNSEEN").is_some(),
            number: 0,
            known: HashSet::from([Text::new()]),
            live: BTreeMap::new(),
            is_apart: false,
        }
    }

    /// Gives each side a folder of its own to work in.
    pub fn apart(mut self) -> Self {
        self.is_apart = true;
        for (side, own) in ["of the source", "of the replica"].into_iter().enumerate() {
            self.sides[side].source = self.roots[side].join(own);
            fs::create_dir_all(&self.sides[side].source).expect("mkdir");
        }
        self
    }

    /// One side is elsewhere from now on.
    pub fn moved(&mut self, side: usize, root: &Path) {
        self.roots[side] = root.to_owned();
        self.sides[side].source = root.to_owned();
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.sides[0].below(end)
    }

    pub fn chance(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One operation on either side.
    pub fn step(&mut self) {
        let side = self.below(2) as usize;
        self.step_on(side);
    }

    pub fn step_on(&mut self, side: usize) {
        self.sides[side].list();
        if self.sides[side].folders.is_empty() {
            return;
        }
        let sum = OPERATIONS.iter().map(|(weight, ..)| weight).sum();
        let (mut name, operation) = chosen(&OPERATIONS, self.below(sum));
        let done = if self.has_hard_links && self.chance(15) {
            name = "hard link";
            self.sides[side].hard_link()
        } else {
            operation(self, side)
        };
        let root = format!("{}/", self.sides[side].source.display());
        let shown = done.unwrap_or_else(|error| format!("refused: {error}")).replace(&root, "");
        self.log.push(format!("{} {name}: {}", ["source", "replica"][side], shown.replace(&"l".repeat(250), "LONG")));
    }

    /// What is wrong with two sides that are to be equal and to hold everything.
    pub fn trouble(&self, reserved: Reserved) -> Option<String> {
        let roots = &self.roots;
        let found = compare::differences(&roots[0], &roots[1], reserved);
        let mut trouble = Vec::new();
        if !found.is_empty() {
            trouble.push(compare::list(&found));
        }
        let outside: HashSet<Text> = contents(&self.outside).into_values().collect();
        for root in roots {
            let files = contents(root);
            let there: BTreeSet<&Text> = files.values().collect();
            let is_lost = |text: &Text| !there.contains(text) && !outside.contains(text);
            let lost = self.live.iter().filter(|(text, _)| is_lost(text));
            trouble.extend(lost.map(|(text, at)| format!("lost: {} of {at:?}", shown(text))));
            let torn = files.iter().filter(|(_, text)| !self.known.contains(*text));
            trouble.extend(torn.map(|(path, text)| format!("torn: {path:?} of {}", shown(text))));
            let is_false = |path: &&PathBuf| {
                let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
                self.is_apart && !NAMES.contains(&name) && position(name, b".conflict-").is_some()
            };
            trouble.extend(files.keys().filter(is_false).map(|path| format!("a false conflict: {path:?}")));
        }
        (!trouble.is_empty()).then(|| trouble.join("\n"))
    }

    /// What is not there any more, of what was finished. It is to be there no longer.
    pub fn give_up_lost(&mut self) -> usize {
        let there: HashSet<Text> = contents(&self.roots[0]).into_values().collect();
        let before = self.live.len();
        self.live.retain(|text, _| there.contains(text));
        before - self.live.len()
    }

    fn place(&mut self, side: usize) -> PathBuf {
        let name = NAMES[self.sides[side].one_of(NAMES.len())];
        self.sides[side].any_folder().join(OsStr::from_bytes(name))
    }

    /// What nobody has written before.
    fn text(&mut self, side: usize) -> Text {
        self.number += 1;
        let line = format!("{}{:06}\n", ["a", "b"][side], self.number);
        let times = if self.chance(20) { 1000 + self.below(40_000) } else { 1 + self.below(100) };
        let text = line.repeat(times as usize).into_bytes();
        self.known.insert(text.clone());
        text
    }

    fn out(&mut self) -> PathBuf {
        self.number += 1;
        self.outside.join(self.number.to_string())
    }

    /// All below `path` was taken out of a tree.
    fn took(&mut self, path: PathBuf) {
        contents(&path).values().for_each(|text| drop(self.live.remove(text)));
        self.parked.push(path);
    }

    /// Notes as finished what was written under a name, if it is still what the name shows: in the meantime something
    /// else may have taken the name.
    fn finished(&mut self, path: &Path, text: Text) {
        if read(path).is_some_and(|there| there == text) {
            self.live.insert(text, path.to_owned());
        }
    }

    /// Puts what was built outside under a name.
    fn land(&mut self, built: &Path, place: &Path) -> io::Result<()> {
        for _ in 0..5 {
            match rename_new(built, place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return done,
            }
            match disk::exchange(built, place) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let old = self.out();
                    fs::rename(built, &old)?;
                    self.took(old);
                    return Ok(());
                }
            }
        }
        Err(io::Error::other("it comes and goes"))
    }

    fn save(&mut self, side: usize) -> Done {
        let (place, text, built) = (self.place(side), self.text(side), self.out());
        if fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir()) {
            return Err(io::Error::other("a folder"));
        }
        fs::write(&built, &text)?;
        if self.chance(8) {
            set_mtime(&built, self.below(2_000_000_000) as i64, self.below(1_000_000_000) as i64)?;
        }
        self.land(&built, &place)?;
        self.live.insert(text.clone(), place.clone());
        Ok(format!("{} with {}", place.display(), shown(&text)))
    }

    fn create(&mut self, side: usize) -> Done {
        let (place, text) = (self.place(side), self.text(side));
        let half = text.len() / 2;
        self.known.insert(text[..half].to_vec());
        let mut file = File::create_new(&place)?;
        file.write_all(&text[..half])?;
        thread::sleep(Duration::from_millis(self.below(4)));
        file.write_all(&text[half..])?;
        drop(file);
        self.finished(&place, text.clone());
        Ok(format!("{} with {}", place.display(), shown(&text)))
    }

    fn write_in_place(&mut self, side: usize) -> Done {
        let (path, text) = (self.sides[side].any_file()?, self.text(side));
        let (file, old) = open(&path)?;
        file.set_len(0)?;
        file.write_all_at(&text, 0)?;
        drop(file);
        self.live.remove(&old);
        self.finished(&path, text.clone());
        Ok(format!("{} with {} for {}", path.display(), shown(&text), shown(&old)))
    }

    /// The same size and mtime as before.
    fn rewrite_unseen(&mut self, side: usize) -> Done {
        let path = self.sides[side].any_file()?;
        let (file, old) = open(&path)?;
        let before = file.metadata()?;
        self.number += 1;
        let mark = format!("u{:06}", self.number);
        if old.len() < mark.len() || !self.has_unseen {
            return Err(io::Error::other("not now"));
        }
        let text = [mark.as_bytes(), &old[mark.len()..]].concat();
        self.known.insert(text.clone());
        file.write_all_at(mark.as_bytes(), 0)?;
        drop(file);
        self.live.remove(&old);
        if fs::symlink_metadata(&path)?.ino() == before.ino() {
            set_mtime(&path, before.mtime(), before.mtime_nsec())?;
        }
        self.finished(&path, text.clone());
        Ok(format!("{} with {} for {}", path.display(), shown(&text), shown(&old)))
    }

    fn append(&mut self, side: usize) -> Done {
        let path = self.sides[side].any_file()?;
        let (file, old) = open(&path)?;
        self.number += 1;
        let text = [&old[..], format!("{}{:06}\n", ["a", "b"][side], self.number).as_bytes()].concat();
        self.known.insert(text.clone());
        file.write_all_at(&text[old.len()..], old.len() as u64)?;
        drop(file);
        self.live.remove(&old);
        self.finished(&path, text.clone());
        Ok(format!("{} with {} for {}", path.display(), shown(&text), shown(&old)))
    }

    fn same_on_both(&mut self, side: usize) -> Done {
        if self.is_apart {
            return Err(io::Error::other("each has its own"));
        }
        let (place, text) = (self.place(side), self.text(side));
        let path = place.strip_prefix(&self.sides[side].source).expect("below it").to_owned();
        for at in [side, 1 - side] {
            let (built, place) = (self.out(), self.sides[at].source.join(&path));
            fs::write(&built, &text)?;
            if fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir()) {
                return Err(io::Error::other("a folder"));
            }
            self.land(&built, &place)?;
            self.live.insert(text.clone(), place);
        }
        Ok(format!("{} with {}", path.display(), shown(&text)))
    }

    fn remove(&mut self, side: usize) -> Done {
        let path = self.sides[side].any_other()?;
        self.take_out(&path)
    }

    fn remove_tree(&mut self, side: usize) -> Done {
        let path = self.sides[side].inner_folder()?;
        self.take_out(&path)
    }

    fn take_out(&mut self, path: &Path) -> Done {
        let out = self.out();
        fs::rename(path, &out)?;
        self.took(out);
        Ok(path.display().to_string())
    }

    fn make_deep(&mut self, side: usize) -> Done {
        let (place, built) = (self.place(side), self.out());
        fs::create_dir_all(built.join("p/q"))?;
        let mut texts = Vec::new();
        for name in ["p/1", "p/q/2", "p/q/3"] {
            let text = self.text(side);
            fs::write(built.join(name), &text)?;
            texts.push(text);
        }
        rename_new(&built, &place)?;
        let all: Vec<_> = texts.iter().map(|text| shown(text)).collect();
        texts.into_iter().for_each(|text| drop(self.live.insert(text, place.clone())));
        Ok(format!("{} with {}", place.display(), all.join(", ")))
    }

    fn rename(&mut self, side: usize) -> Done {
        let (from, to) = (self.sides[side].any_other()?, self.place(side));
        self.rename_to(&from, &to)
    }

    fn rename_folder(&mut self, side: usize) -> Done {
        let (from, to) = (self.sides[side].inner_folder()?, self.place(side));
        self.rename_to(&from, &to)
    }

    fn rename_to(&mut self, from: &Path, to: &Path) -> Done {
        rename_new(from, to)?;
        Ok(format!("{} -> {}", from.display(), to.display()))
    }

    fn rename_over(&mut self, side: usize) -> Done {
        let (from, to) = (self.sides[side].any_other()?, self.sides[side].any_other()?);
        disk::exchange(&from, &to)?;
        self.take_out(&from)?;
        Ok(format!("{} -> {}", from.display(), to.display()))
    }

    fn exchange(&mut self, side: usize) -> Done {
        let (one, other) = (self.sides[side].any_entry()?, self.sides[side].any_entry()?);
        disk::exchange(&one, &other)?;
        Ok(format!("{} and {}", one.display(), other.display()))
    }

    fn replace(&mut self, side: usize) -> Done {
        let path = self.sides[side].any_entry()?;
        let was = fs::symlink_metadata(&path)?;
        self.take_out(&path)?;
        if was.is_dir() {
            let text = self.text(side);
            File::create_new(&path)?.write_all(&text)?;
            self.finished(&path, text);
        } else {
            fs::create_dir(&path)?;
        }
        Ok(path.display().to_string())
    }

    /// None that leads out of the tree: a link can take the place of a folder that the next operation works in.
    fn symlink(&mut self, side: usize) -> Done {
        let (place, target) = (self.place(side), ["a", "d/e", "nowhere"][self.below(3) as usize]);
        std::os::unix::fs::symlink(target, &place)?;
        Ok(format!("{} -> {target}", place.display()))
    }

    fn move_in(&mut self, side: usize) -> Done {
        if self.parked.is_empty() {
            return Err(io::Error::other("nothing outside"));
        }
        let (at, to) = (self.sides[side].one_of(self.parked.len()), self.place(side));
        let from = self.parked[at].clone();
        let texts = contents(&from);
        rename_new(&from, &to)?;
        self.parked.swap_remove(at);
        let all: Vec<_> = texts.values().map(|text| shown(text)).collect();
        for text in texts.into_values().filter(|text| !text.is_empty()) {
            self.live.insert(text, to.clone());
        }
        Ok(format!("{} with {}", to.display(), all.join(", ")))
    }

    fn utime(&mut self, side: usize) -> Done {
        let path = self.sides[side].any_entry()?;
        let (seconds, nanoseconds) = (self.below(2_000_000_000) as i64, self.below(1_000_000_000) as i64);
        set_mtime(&path, seconds, nanoseconds)?;
        Ok(format!("{} {seconds}.{nanoseconds:09}", path.display()))
    }
}

/// All files below, and what they hold.
pub fn contents(top: &Path) -> BTreeMap<PathBuf, Text> {
    let is_reserved = |entry: &walkdir::DirEntry| entry.depth() == 1 && entry.file_name() == ".driftless";
    let all = walkdir::WalkDir::new(top)
        .follow_root_links(false)
        .into_iter()
        .filter_entry(move |entry| !is_reserved(entry))
        .flatten();
    let files = all.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    files.filter_map(|path| Some((path.strip_prefix(top).ok()?.to_owned(), read(&path)?))).collect()
}

/// The contents of a regular file. A FIFO keeps nobody waiting.
fn read(path: &Path) -> Option<Text> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = Vec::new();
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    file.read_to_end(&mut text).ok()?;
    Some(text)
}

/// A regular file to write in, and what it holds.
fn open(path: &Path) -> io::Result<(File, Text)> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok((file, text))
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|at| at == what)
}

/// A text by its first and its last line.
fn shown(text: &[u8]) -> String {
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    match (lines.first(), lines.last()) {
        (Some(first), Some(last)) if first != last => format!("{}..{}", first.escape_ascii(), last.escape_ascii()),
        (Some(first), _) => first.escape_ascii().to_string(),
        _ => "nothing".into(),
    }
}
