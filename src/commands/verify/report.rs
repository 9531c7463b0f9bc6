//! Owns what is told: a line a difference, the manifest's lines, the links that do not match, and the summary. It takes
//! the findings in the order of the walk and compares nothing but link groups, which no single entry shows.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::Verify;
use super::entry::{Difference, Finding, Side};
use super::manifest::Manifest;
use crate::tree::entry::InodeId;
use crate::tree::path::RelPath;
use crate::tree::quote::quoted;
use crate::tree::totals::Bytes;

pub struct Report<'a> {
    verify: &'a Verify,
    out: Box<dyn Write>,
    manifest: Option<&'a mut Manifest>,
    links: Links,
    entries: u64,
    differences: u64,
    unreadable: u64,
    bytes: u64,
}

impl<'a> Report<'a> {
    pub fn new(verify: &'a Verify, out: Box<dyn Write>, manifest: Option<&'a mut Manifest>) -> Self {
        let (entries, differences, unreadable, bytes) = (0, 0, 0, 0);
        Self { verify, out, manifest, links: Links::default(), entries, differences, unreadable, bytes }
    }

    pub fn count_entry(&mut self) {
        self.entries += 1;
    }

    /// Whether everything that was told of so far is equal.
    pub fn is_clean(&self) -> bool {
        self.differences == 0 && self.unreadable == 0
    }

    /// # Errors
    /// It cannot be printed.
    pub fn take(&mut self, finding: Finding) -> io::Result<()> {
        let Finding { path, differences, linked, digest, bytes } = finding;
        self.bytes = self.bytes.saturating_add(bytes);
        if let (Some(manifest), Some(digest)) = (&mut self.manifest, digest) {
            manifest.add(digest, &path);
        }
        for difference in &differences {
            self.line(&path, difference)?;
        }
        match linked {
            Some((source, replica)) if !self.links.fit(source, replica) => {
                self.line(&path, &Difference::Differs("hard link", None))
            }
            _ => Ok(()),
        }
    }

    /// The last line.
    ///
    /// # Errors
    /// It cannot be printed.
    pub fn summary(&mut self, stopped: bool, duration: Duration) -> io::Result<()> {
        let word = if stopped { "Stopped" } else { "Verified" };
        let entries = counted(self.entries, "entry", "entries");
        let differences = counted(self.differences, "difference", "differences");
        let unreadable = match self.unreadable {
            0 => String::new(),
            number => format!(", {number} unreadable"),
        };
        let (bytes, seconds) = (Bytes(self.bytes), duration.as_secs_f64());
        writeln!(self.out, "{word}: {entries}, {differences}{unreadable}, {bytes} in {seconds:.3} s")?;
        self.out.flush()
    }

    fn line(&mut self, path: &RelPath, difference: &Difference) -> io::Result<()> {
        match difference {
            Difference::Unreadable(..) => self.unreadable += 1,
            _ => self.differences += 1,
        }
        let root = match difference {
            Difference::Unreadable(Side::Source, _) => &self.verify.source,
            _ => &self.verify.replica,
        };
        let shown = quoted(path.to_path(root.path()).as_os_str().as_bytes());
        match difference {
            Difference::Missing => writeln!(self.out, "Missing: {shown}"),
            Difference::Extra => writeln!(self.out, "Extra: {shown}"),
            Difference::Differs(what, None) => writeln!(self.out, "Differs: {what}: {shown}"),
            Difference::Differs(what, Some(detail)) => writeln!(self.out, "Differs: {what}: {shown}: {detail}"),
            Difference::Unreadable(_, reason) => writeln!(self.out, "Unreadable: {shown}: {reason}"),
        }
    }
}

/// Which inode of the replica stands for which of the source, of those that have several names.
#[derive(Default)]
struct Links {
    replicas: HashMap<InodeId, InodeId>,
    sources: HashMap<InodeId, InodeId>,
}

impl Links {
    /// Whether a name shares its inode with the same names on both sides, as far as they have been met.
    fn fit(&mut self, source: InodeId, replica: InodeId) -> bool {
        let same_replica = *self.replicas.entry(source).or_insert(replica) == replica;
        let same_source = *self.sources.entry(replica).or_insert(source) == source;
        same_replica && same_source
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pairs: &[(u64, u64)]) -> Vec<bool> {
        let mut links = Links::default();
        let id = |ino| InodeId { dev: 0, ino };
        pairs.iter().map(|(source, replica)| links.fit(id(*source), id(*replica))).collect()
    }

    #[test]
    fn links_fit_when_the_same_names_share_an_inode_on_both_sides() {
        assert_eq!(fits(&[(1, 11), (2, 12), (1, 11), (2, 12)]), [true; 4]);
        assert_eq!(fits(&[(1, 11), (1, 12)]), [true, false], "a link that became a file of its own");
        assert_eq!(fits(&[(1, 11), (2, 11)]), [true, false], "two files that became one");
        assert_eq!(
            fits(&[(1, 11), (2, 12), (1, 12), (2, 11)]),
            [true, true, false, false],
            "names that changed places"
        );
    }
}
