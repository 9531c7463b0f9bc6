//! Single deeds on the disk that the tests do to a tree, each one a function of a path.
//!
//! They panic where the disk refuses: a test that could not prepare its tree has nothing to say. Whole trees are made
//! by `tree`, comparisons by `compare`.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps, XattrFlags};

/// An open folder, so that what lies below it can be reached however long its path is.
pub struct Folder(File);

impl Folder {
    pub fn open(path: &Path) -> std::io::Result<Self> {
        File::open(path).map(Self)
    }

    /// A short path of this folder, good for as long as it is open.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    pub fn join(&self, name: &OsStr) -> PathBuf {
        self.path().join(name)
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says aloud what could not be tested here.
pub fn skipped(what: &str) {
    eprintln!("skipped: {what}");
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).unwrap_or_else(|e| panic!("mkdir {}: {e}", parent.display()));
    }
    fs::write(path, bytes).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

pub fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(bytes)).expect("append");
}

pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.write_all_at(bytes, offset)).expect("write at");
}

pub fn truncate(path: &Path, size: u64) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(size)).expect("truncate");
}

/// A file of `size` bytes without a hole in it, whose contents follow from `seed`.
pub fn write_solid(path: &Path, size: u64, seed: u8) {
    let block: Vec<u8> = (0..1 << 20).map(|i: u32| ((i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed) | 1).collect();
    let mut file = File::create(path).expect("create");
    let mut left = size;
    while left > 0 {
        let now = left.min(block.len() as u64);
        file.write_all(&block[..now as usize]).expect("write");
        left -= now;
    }
}

/// A file with data at its start and at three quarters, and holes elsewhere.
pub fn write_sparse(path: &Path, size: u64, seed: u8) {
    let file = File::create(path).expect("create");
    file.set_len(size).expect("set length");
    file.write_all_at(&[seed; 4096], 0).expect("write");
    file.write_all_at(&[seed; 4096], size / 4 * 3).expect("write");
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

pub fn lchown(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).expect("chown");
}

pub fn symlink(target: impl AsRef<Path>, path: &Path) {
    std::os::unix::fs::symlink(target, path).expect("symlink");
}

pub fn hard_link(existing: &Path, new: &Path) {
    fs::hard_link(existing, new).expect("link");
}

/// The entry's own metadata, links not followed.
pub fn stat(path: &Path) -> fs::Metadata {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()))
}

pub fn inode(path: &Path) -> u64 {
    stat(path).ino()
}

pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Sets the entry's own mtime (a symlink's as well), which may lie before 1970; atime stays.
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: u32) {
    let keep = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: keep, last_modification };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimensat");
}

/// Changes the contents so that size and mtime stay: only ctime can tell.
pub fn rewrite_unseen(path: &Path) {
    let before = stat(path);
    let mut bytes = fs::read(path).expect("read");
    for byte in &mut bytes {
        *byte = byte.wrapping_add(1);
    }
    write_at(path, 0, &bytes);
    set_mtime(path, before.mtime(), before.mtime_nsec() as u32);
}

/// The way editors save: a new file beside the old one, renamed over it.
pub fn save_atomically(path: &Path, bytes: &[u8]) {
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    fs::write(&beside, bytes).expect("write");
    fs::rename(&beside, path).expect("rename");
}

pub fn exchange(one: &Path, other: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Sets one extended attribute; says no where the filesystem has none of its kind.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    match rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(error) => {
            skipped(&format!("{name} on {}: {error}", path.display()));
            false
        }
    }
}

pub fn remove_xattr(path: &Path, name: &str) {
    rustix::fs::lremovexattr(path, name).expect("remove xattr");
}

/// A POSIX ACL as the kernel takes it: the owner, one named user, the group, the mask, the others.
pub fn acl(owner: u16, user: (u32, u16), group: u16, mask: u16, others: u16) -> Vec<u8> {
    const NOBODY_NAMED: u32 = u32::MAX;
    let entries = [
        (0x01, owner, NOBODY_NAMED),
        (0x02, user.1, user.0),
        (0x04, group, NOBODY_NAMED),
        (0x10, mask, NOBODY_NAMED),
        (0x20, others, NOBODY_NAMED),
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(permissions));
        bytes.extend(u32::to_le_bytes(id));
    }
    bytes
}

pub fn make_fifo(path: &Path) {
    make_node(path, FileType::Fifo, 0).expect("mkfifo");
}

pub fn make_socket(path: &Path) {
    make_node(path, FileType::Socket, 0).expect("make socket");
}

/// The character device 1:`minor`; refused to ordinary users and in some containers.
pub fn make_device(path: &Path, minor: u32) -> std::io::Result<()> {
    make_node(path, FileType::CharacterDevice, rustix::fs::makedev(1, minor))
}

fn make_node(path: &Path, kind: FileType, device: u64) -> std::io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device)?)
}

/// Removes an entry of any kind, with all that is below it, and does nothing where there is none.
pub fn remove(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    let gone = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    gone.unwrap_or_else(|e| panic!("remove {}: {e}", path.display()));
}

/// Makes every folder below `path` listable again, so that it can be removed by its owner.
pub fn open_all(path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if !found.is_dir() {
        return;
    }
    if found.mode() & 0o700 != 0o700 {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    }
    let Ok(folder) = Folder::open(path) else { return };
    for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&folder.join(&entry.file_name()));
        }
    }
}

/// The words for an entry's type that the tests' messages use.
pub fn kind_name(kind: fs::FileType) -> &'static str {
    match kind {
        k if k.is_file() => "file",
        k if k.is_dir() => "folder",
        k if k.is_symlink() => "symlink",
        k if k.is_fifo() => "fifo",
        k if k.is_socket() => "socket",
        k if k.is_char_device() => "character device",
        k if k.is_block_device() => "block device",
        _ => "unknown",
    }
}
