//! Owns where a folder is that is named by its filesystem (see `tree::tag`): by the table of mounts, and by what udev says
//! of the disks. It asks no disk that is not meant, and mounts nothing.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, major, minor, statx};
use rustix::io::Errno;

use super::mounts::{self, Mount};
use super::root::Root;
use crate::tree::tag::{Known, Tag};

/// Why it is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfound {
    #[error("its filesystem is not mounted")]
    NotMounted,
    #[error("several filesystems of this {0} are mounted")]
    Several(Known),
}

/// Why it cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    Unfound(Unfound),
    Failed(Errno),
}

/// What udev keeps: links to devices, and a file a device. The latter is there also for who may see no device.
const LINKS: &str = "/dev/disk";
const DATABASE: &str = "/run/udev/data";

/// Opens a folder by its name, where it is now; by its path, if that is its name.
///
/// # Errors
/// Its filesystem is not mounted, or as of open(2).
pub fn open(name: &Path) -> Result<Root, Unopened> {
    let Some(tag) = Tag::parse(name) else { return Root::open(name).map_err(Unopened::Failed) };
    let tag = tag.map_err(|_| Unopened::Failed(Errno::INVAL))?;
    let path = find(&tag).map_err(Unopened::Unfound)?;
    let root = Root::open(&path).map_err(Unopened::Failed)?;
    // What was opened may be the folder below a mount point that has just gone.
    let is_there = find(&tag) == Ok(path.clone()) && root.is_in_place();
    if is_there { Ok(root.named(name)) } else { Err(Unopened::Unfound(Unfound::NotMounted)) }
}

/// Where a folder is, or would be, on its filesystem, which is mounted there.
///
/// # Errors
/// It is not mounted, or nobody can tell which is meant.
pub fn find(tag: &Tag) -> Result<PathBuf, Unfound> {
    let mounts = mounts::all().map_err(|_| Unfound::NotMounted)?;
    choose(tag, &mounts, |mount| is_on(tag, mount), is_seen)
}

/// Whether a folder that was found at `path` by its name still is, though perhaps elsewhere as well. What has a path for
/// its name is.
pub fn is_still_at(name: &Path, path: &Path) -> bool {
    let Some(Ok(tag)) = Tag::parse(name) else { return true };
    let mounts = mounts::all().unwrap_or_default();
    places(&tag, &mounts, |mount| is_on(&tag, mount), is_seen).iter().any(|(_, place)| place == path)
}

fn is_on(tag: &Tag, mount: &Mount) -> bool {
    is_meant(tag, mount, Path::new(LINKS), Path::new(DATABASE))
}

/// Wherever it is, in the order of the table.
fn places<'a>(
    tag: &Tag,
    mounts: &'a [Mount],
    is_meant: impl Fn(&Mount) -> bool,
    is_seen: impl Fn(&Mount, &Path) -> bool,
) -> Vec<(&'a Mount, PathBuf)> {
    let place = |mount: &Mount| Some(joined(&mount.point, tag.path.strip_prefix(&mount.root).ok()?));
    let all = mounts.iter().filter_map(|mount| Some((mount, place(mount)?)));
    all.filter(|(mount, path)| is_meant(mount) && is_seen(mount, path)).collect()
}

/// Of several mounts of one filesystem the first that can be written to is taken, so that the choice is the same each time.
fn choose(
    tag: &Tag,
    mounts: &[Mount],
    is_meant: impl Fn(&Mount) -> bool,
    is_seen: impl Fn(&Mount, &Path) -> bool,
) -> Result<PathBuf, Unfound> {
    let mut all = places(tag, mounts, is_meant, is_seen);
    all.sort_by_key(|(mount, _)| mount.is_read_only);
    let Some((first, path)) = all.first() else { return Err(Unfound::NotMounted) };
    if all.iter().any(|(mount, _)| mount.device != first.device) {
        return Err(Unfound::Several(tag.known));
    }
    Ok(path.clone())
}

/// Without a slash at the end where nothing follows.
fn joined(point: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { point.to_path_buf() } else { point.join(rest) }
}

/// Whether a path leads to what is mounted there, and not to something that is mounted over it. What is not there yet would
/// be made in the folder above.
fn is_seen(mount: &Mount, path: &Path) -> bool {
    for at in path.ancestors().take_while(|at| at.starts_with(&mount.point)) {
        match statx(CWD, at, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID) {
            Ok(found) => {
                let is_told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID);
                return !is_told || found.stx_mnt_id == mount.id;
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            // Older kernels do not tell; a disk that fails is where it is.
            Err(_) => return true,
        }
    }
    false
}

fn is_meant(tag: &Tag, mount: &Mount, links: &Path, database: &Path) -> bool {
    let Some(disk) = disk_of(mount) else { return false };
    let (folder, key): (_, &[u8]) = match tag.known {
        Known::Uuid => ("by-uuid", b"E:ID_FS_UUID="),
        Known::Label => ("by-label", b"E:ID_FS_LABEL_ENC="),
    };
    let value = encoded(&tag.value);
    let spellings = match tag.known {
        Known::Uuid => vec![value.to_ascii_lowercase(), value.to_ascii_uppercase()],
        Known::Label => vec![value],
    };
    let path = |value: &[u8]| links.join(folder).join(std::ffi::OsStr::from_bytes(value));
    if spellings.iter().any(|value| device_at(&path(value)).is_some_and(|found| found == disk)) {
        return true;
    }
    let Ok(text) = fs::read(database.join(format!("b{disk}"))) else { return false };
    let told = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key));
    told.is_some_and(|told| match tag.known {
        Known::Uuid => tag.is_value(told),
        Known::Label => spellings.iter().any(|value| value == told),
    })
}

/// The number of the disk that was mounted. A filesystem of several disks has another of its own.
fn disk_of(mount: &Mount) -> Option<String> {
    if !mount.device.starts_with("0:") {
        return Some(mount.device.clone());
    }
    let source = Some(&mount.source).filter(|source| source.starts_with("/dev"))?;
    device_at(source).or_else(|| {
        let number = Path::new("/sys/class/block").join(source.file_name()?).join("dev");
        Some(fs::read_to_string(number).ok()?.trim().to_string())
    })
}

/// The number of a device.
fn device_at(path: &Path) -> Option<String> {
    let number = fs::metadata(path).ok()?.rdev();
    (number != 0).then(|| format!("{}:{}", major(number), minor(number)))
}

/// A value as udev writes it in names: what is not plain, as `\xNN`.
fn encoded(value: &[u8]) -> Vec<u8> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(byte);
    let mut out = Vec::new();
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            match bytes {
                [byte] if !is_plain(byte) => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                bytes => out.extend_from_slice(bytes),
            }
        }
        chunk.invalid().iter().for_each(|byte| out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
        30 22 8:17 / /mnt/one ro,relatime shared:1 - ext4 /dev/sdb1 rw\n\
        31 22 8:17 / /media/my\\040disk rw shared:2 master:3 - ext4 /dev/sdb1 rw\n\
        32 22 8:17 /data /srv/data rw - ext4 /dev/sdb1 rw\n\
        33 22 8:33 / /mnt/other rw - ext4 /dev/sdc1 rw\n\
        34 22 0:50 /@home /home rw - btrfs /dev/sdd rw\n";

    fn tag(text: &str) -> Tag {
        Tag::parse(Path::new(text)).expect("a name").expect("usable")
    }

    fn chosen(path: &str, devices: &[&str], unseen: &[u64]) -> Result<String, Unfound> {
        let meant = |mount: &Mount| devices.contains(&mount.device.as_str());
        let found = choose(&tag(&format!("LABEL=x:{path}")), &mounts::parse(TABLE), meant, |mount, _| {
            !unseen.contains(&mount.id)
        });
        found.map(|path| path.display().to_string())
    }

    #[test]
    fn a_folder_is_where_its_filesystem_is_mounted() {
        assert_eq!(chosen("/copies", &["8:17"], &[]), Ok("/media/my disk/copies".into()), "where it can be written to");
        assert_eq!(chosen("/", &["8:17"], &[]), Ok("/media/my disk".into()));
        assert_eq!(chosen("/copies", &["8:17"], &[31]), Ok("/mnt/one/copies".into()), "what is covered is not seen");
        assert_eq!(chosen("/data/a", &["8:17"], &[30, 31]), Ok("/srv/data/a".into()), "a part is enough");
        assert_eq!(chosen("/database", &["8:17"], &[30, 31]), Err(Unfound::NotMounted));
        assert_eq!(chosen("/@home/user", &["0:50"], &[]), Ok("/home/user".into()));
        assert_eq!(chosen("/a", &[], &[]), Err(Unfound::NotMounted));
        assert_eq!(chosen("/a", &["8:17", "8:33"], &[]), Err(Unfound::Several(Known::Label)));
    }

    #[test]
    fn disks_are_known_by_links_and_by_what_udev_has_noted() {
        let top = tempfile::tempdir().expect("a folder");
        let (links, database) = (top.path().join("disk"), top.path().join("data"));
        for folder in [&links.join("by-uuid"), &links.join("by-label"), &database] {
            fs::create_dir_all(folder).expect("made");
        }
        let noted =
            "S:disk/by-uuid/12\nE:ID_FS_LABEL=My_disk\nE:ID_FS_LABEL_ENC=My\\x20d\u{ef}sk\nE:ID_FS_UUID=AB-12\n";
        fs::write(database.join("b8:17"), noted).expect("written");
        // Any device will do.
        std::os::unix::fs::symlink("/dev/null", links.join("by-uuid/77-AA")).expect("linked");
        let null = device_at(Path::new("/dev/null")).expect("a device");
        let mount = |device: &str, source: &str| Mount {
            id: 1,
            device: device.into(),
            root: "/".into(),
            point: "/mnt".into(),
            is_read_only: false,
            source: source.into(),
        };
        let is =
            |name: &str, device: &str, source: &str| is_meant(&tag(name), &mount(device, source), &links, &database);
        assert!(is("UUID=ab-12:/x", "8:17", "/dev/sdb1"));
        assert!(is("LABEL=My d\u{ef}sk:/x", "8:17", "/dev/sdb1"));
        assert!(!is("LABEL=My_disk:/x", "8:17", "/dev/sdb1"));
        assert!(!is("UUID=ab-12:/x", "8:18", "/dev/sdb2"));
        assert!(is("UUID=77-aa:/x", &null, "/dev/null"));
        assert!(is("UUID=77-aa:/x", "0:50", "/dev/null"), "one of several disks");
        assert!(!is("UUID=77-aa:/x", "0:50", "tmpfs"));
    }

    #[test]
    fn what_is_mounted_here_is_seen_where_it_is() {
        let all = mounts::all().expect("the table");
        let Some(top) = all.iter().rfind(|mount| mount.point == Path::new("/")) else { return };
        assert!(is_seen(top, Path::new("/")) && is_seen(top, Path::new("/no such folder/at all")));
        if all.iter().any(|mount| mount.point == Path::new("/proc")) {
            assert!(!is_seen(top, Path::new("/proc/self")), "that is on another mount");
        }
        assert_eq!(open(Path::new("LABEL=no such disk:/")).err(), Some(Unopened::Unfound(Unfound::NotMounted)));
    }
}
