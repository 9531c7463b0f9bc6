//! The random operations on a tree: everything that people and programs do to files. An operation that the disk refuses
//! is as good as any other; what they choose from is `random_work`'s.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::disk;
use crate::random_work::Work;

pub type Done = io::Result<String>;
type Operation = fn(&mut Work) -> Done;

/// The operation that a number below the sum of the weights stands for.
pub fn chosen<T: Copy>(all: &[(u64, &'static str, T)], mut number: u64) -> (&'static str, T) {
    let chosen = all.iter().find(|(weight, ..)| {
        let here = number < *weight;
        number = number.saturating_sub(*weight);
        here
    });
    let (_, name, operation) = chosen.expect("within the sum");
    (name, *operation)
}

/// How often each operation is chosen, out of the sum of all, with its name.
const OPERATIONS: [(u64, &str, Operation); 29] = [
    (12, "create", Work::create),
    (8, "overwrite", Work::overwrite),
    (8, "append", Work::append),
    (4, "truncate", Work::truncate),
    (5, "rewrite unseen", Work::rewrite_unseen),
    (5, "write inside", Work::write_inside),
    (8, "save atomically", Work::save_atomically),
    (6, "mkdir", Work::make_folder),
    (4, "mkdir -p and fill", Work::make_deep),
    (10, "rename", Work::rename),
    (5, "rename folder", Work::rename_folder),
    (4, "exchange", Work::exchange),
    (6, "replace by another kind", Work::replace),
    (6, "hard link", Work::hard_link),
    (4, "symlink", Work::symlink),
    (2, "fifo", Work::fifo),
    (5, "chmod", Work::chmod),
    (4, "utime", Work::utime),
    (3, "xattr", Work::xattr),
    (2, "chown", Work::chown),
    (2, "sparse", Work::sparse),
    (2, "mmap", Work::mmap),
    (3, "move out", Work::move_out),
    (4, "move in", Work::move_in),
    (8, "remove", Work::remove),
    (2, "rm -rf", Work::remove_tree),
    (3, "touch all", Work::touch_all),
    (2, "copy", Work::copy),
    (2, "rename and write", Work::rename_and_write),
];

impl Work {
    /// One operation.
    pub fn step(&mut self) {
        if self.log.len().is_multiple_of(5) {
            self.list();
        }
        let sum = OPERATIONS.iter().map(|(weight, ..)| weight).sum();
        let (name, operation) = chosen(&OPERATIONS, self.below(sum));
        let done = if self.folders.len() + self.others.len() > 500 { self.remove_tree() } else { operation(self) };
        let shown = done.unwrap_or_else(|error| format!("refused: {error}"));
        self.log.push(format!("{name}: {}", shown.replace(&format!("{}/", self.source.display()), "")));
    }

    fn create(&mut self) -> Done {
        let (path, bytes) = (self.any_place(), self.bytes());
        File::create_new(&path)?.write_all(&bytes)?;
        Ok(format!("{} with {} bytes", path.display(), bytes.len()))
    }

    fn overwrite(&mut self) -> Done {
        let (path, bytes) = (self.any_file()?, self.bytes());
        fs::write(&path, &bytes)?;
        Ok(format!("{} with {} bytes", path.display(), bytes.len()))
    }

    fn append(&mut self) -> Done {
        let path = self.any_file()?;
        let mut file = OpenOptions::new().append(true).open(&path)?;
        for _ in 0..1 + self.below(3) {
            file.write_all(b"one more line\n")?;
        }
        Ok(path.display().to_string())
    }

    fn truncate(&mut self) -> Done {
        let path = self.any_file()?;
        let size = self.below(fs::symlink_metadata(&path)?.len() + 10);
        OpenOptions::new().write(true).open(&path)?.set_len(size)?;
        Ok(format!("{} to {size}", path.display()))
    }

    fn rewrite_unseen(&mut self) -> Done {
        let path = self.any_file()?;
        let before = fs::symlink_metadata(&path)?;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut first = [0];
        let read = file.read_at(&mut first, 0)?;
        file.write_all_at(&[first[0].wrapping_add(1)][..read], 0)?;
        set_mtime(&path, before.mtime(), before.mtime_nsec())?;
        Ok(path.display().to_string())
    }

    fn write_inside(&mut self) -> Done {
        let path = self.any_file()?;
        let at = self.below(fs::symlink_metadata(&path)?.len() + 1);
        OpenOptions::new().write(true).open(&path)?.write_all_at(b"inside", at)?;
        Ok(format!("{} at {at}", path.display()))
    }

    fn save_atomically(&mut self) -> Done {
        let (path, bytes) = (self.any_file()?, self.bytes());
        let beside = path.with_extension("saving");
        fs::write(&beside, bytes)?;
        fs::rename(&beside, &path)?;
        Ok(path.display().to_string())
    }

    pub fn make_folder(&mut self) -> Done {
        let path = self.any_place();
        fs::create_dir(&path)?;
        Ok(path.display().to_string())
    }

    fn make_deep(&mut self) -> Done {
        let mut path = self.any_place();
        for _ in 0..1 + self.below(6) {
            path.push(["p", "q", "r"][self.one_of(3)]);
        }
        fs::create_dir_all(&path)?;
        for i in 0..self.below(4) {
            fs::write(path.join(i.to_string()), self.bytes())?;
        }
        fs::write(path.join("../beside"), "b")?;
        Ok(path.display().to_string())
    }

    fn rename(&mut self) -> Done {
        let (from, to) = (self.any_other()?, self.any_place());
        fs::rename(&from, &to)?;
        Ok(format!("{} -> {}", from.display(), to.display()))
    }

    fn rename_folder(&mut self) -> Done {
        let (from, to) = (self.inner_folder()?, self.any_place());
        fs::rename(&from, &to)?;
        Ok(format!("{} -> {}", from.display(), to.display()))
    }

    fn rename_and_write(&mut self) -> Done {
        let (from, to) = (self.any_file()?, self.any_place());
        fs::rename(&from, &to)?;
        fs::write(&to, "written after its rename")?;
        fs::write(&from, "written where another was")?;
        Ok(format!("{} -> {}", from.display(), to.display()))
    }

    fn exchange(&mut self) -> Done {
        let (one, other) = (self.any_entry()?, self.any_entry()?);
        disk::exchange(&one, &other)?;
        Ok(format!("{} and {}", one.display(), other.display()))
    }

    fn replace(&mut self) -> Done {
        let path = self.any_entry()?;
        let was = fs::symlink_metadata(&path)?;
        if was.is_dir() {
            fs::remove_dir_all(&path)?
        } else {
            fs::remove_file(&path)?
        };
        let kind = self.below(4);
        match kind {
            0 => fs::write(&path, "a file now")?,
            1 => std::os::unix::fs::symlink("a", &path)?,
            2 => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?,
            _ => {
                fs::create_dir(&path)?;
                fs::write(path.join("a"), "in a folder now")?;
            }
        }
        Ok(format!("{} by {}", path.display(), ["a file", "a symlink", "a fifo", "a folder"][kind as usize]))
    }

    pub fn hard_link(&mut self) -> Done {
        let (existing, new) = (self.any_file()?, self.any_place());
        fs::hard_link(&existing, &new)?;
        Ok(format!("{} = {}", new.display(), existing.display()))
    }

    fn symlink(&mut self) -> Done {
        let path = self.any_place();
        let target = ["a", "../b", "/proc/self", "nowhere", "."][self.one_of(5)];
        std::os::unix::fs::symlink(target, &path)?;
        Ok(format!("{} -> {target}", path.display()))
    }

    pub fn fifo(&mut self) -> Done {
        let path = self.any_place();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        Ok(path.display().to_string())
    }

    pub fn chmod(&mut self) -> Done {
        let path = if self.chance(3) { self.any_folder() } else { self.any_file()? };
        let folder = fs::symlink_metadata(&path)?.is_dir();
        let modes = if folder { [0o755, 0o700, 0o1777, 0o2755] } else { [0o644, 0o600, 0o4755, 0o444] };
        let mode = modes[self.one_of(4)];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(format!("{} {mode:o}", path.display()))
    }

    fn utime(&mut self) -> Done {
        let path = if self.chance(6) { self.any_folder() } else { self.any_entry()? };
        let (seconds, nanoseconds) = (self.below(3_000_000_000) as i64 - 500_000_000, self.below(1_000_000_000));
        set_mtime(&path, seconds, nanoseconds as i64)?;
        Ok(format!("{} {seconds}.{nanoseconds:09}", path.display()))
    }

    fn touch_all(&mut self) -> Done {
        let folder = self.any_folder();
        for entry in fs::read_dir(&folder)?.flatten() {
            set_mtime(&entry.path(), 1_700_000_000, self.below(1000) as i64)?;
        }
        Ok(folder.display().to_string())
    }

    pub fn xattr(&mut self) -> Done {
        let path = if self.chance(3) { self.any_folder() } else { self.any_file()? };
        if self.chance(3) {
            rustix::fs::lremovexattr(&path, "user.tag")?;
        } else {
            let value = self.below(1000).to_string();
            rustix::fs::lsetxattr(&path, "user.tag", value.as_bytes(), XattrFlags::empty())?;
        }
        Ok(path.display().to_string())
    }

    pub fn chown(&mut self) -> Done {
        if !disk::is_root() {
            return Err(io::Error::other("not root"));
        }
        let (path, owner) = (self.any_entry()?, self.below(5) as u32);
        std::os::unix::fs::lchown(&path, Some(owner), Some(owner))?;
        Ok(format!("{} {owner}", path.display()))
    }

    fn sparse(&mut self) -> Done {
        let path = self.any_place();
        let file = File::create_new(&path)?;
        file.set_len(1 << 20)?;
        file.write_all_at(b"in the middle of nothing", self.below(1 << 20))?;
        Ok(path.display().to_string())
    }

    fn mmap(&mut self) -> Done {
        let path = self.any_file()?;
        self.write_through_map(&path)?;
        Ok(path.display().to_string())
    }

    fn move_out(&mut self) -> Done {
        let from = self.any_entry()?;
        let to = self.outside.join(self.log.len().to_string());
        fs::rename(&from, &to)?;
        self.parked.push(to);
        Ok(from.display().to_string())
    }

    fn move_in(&mut self) -> Done {
        if self.parked.is_empty() {
            return Err(io::Error::other("nothing outside"));
        }
        let at = self.one_of(self.parked.len());
        let to = self.any_place();
        fs::rename(&self.parked[at], &to)?;
        self.parked.swap_remove(at);
        Ok(to.display().to_string())
    }

    fn remove(&mut self) -> Done {
        let path = self.any_other()?;
        fs::remove_file(&path)?;
        Ok(path.display().to_string())
    }

    fn remove_tree(&mut self) -> Done {
        let path = self.inner_folder()?;
        fs::remove_dir_all(&path)?;
        Ok(path.display().to_string())
    }

    fn copy(&mut self) -> Done {
        let (from, to) = (self.any_file()?, self.any_place());
        // Only where nothing is: opening a FIFO to write to it would wait for ever.
        File::create_new(&to)?;
        fs::copy(&from, &to)?;
        Ok(format!("{} to {}", from.display(), to.display()))
    }
}

pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) -> io::Result<()> {
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: keep, last_modification };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
