//! Owns which attributes differ: what the stats show, extended attributes and ACLs, as far as this process could make
//! them equal. It reads nothing: the caller has both sides.

use rustix::io::Errno;

use super::Verify;
use super::entry::{Finding, Side};
use crate::fs::metadata::{self, Xattrs};
use crate::tree::entry::{Kind, Stat, Time};
use crate::tree::quote::escaped;

/// What the stats show, apart from the size.
pub fn attributes(verify: &Verify, source: &Stat, replica: &Stat, finding: &mut Finding) {
    if source.is_linked() || (replica.is_linked() && source.kind != Kind::Directory) {
        finding.linked = Some((source.id(), replica.id()));
    }
    let mut differs = |what, is: String, wanted: String| {
        finding.differs(what, verify.details.then(|| format!("{is}, not {wanted}")));
    };
    let mode = metadata::wanted_mode(source, replica);
    // A link's mode means nothing and cannot be set.
    if mode != replica.mode && source.kind != Kind::Symlink {
        differs("mode", format!("{:04o}", replica.mode), format!("{mode:04o}"));
    }
    if !verify.rights.same_owner(&Stat { gid: replica.gid, ..*source }, replica) {
        differs("owner", replica.uid.to_string(), source.uid.to_string());
    }
    if !verify.rights.same_owner(&Stat { uid: replica.uid, ..*source }, replica) {
        differs("group", replica.gid.to_string(), source.gid.to_string());
    }
    if source.mtime != replica.mtime {
        differs("mtime", time(replica.mtime), time(source.mtime));
    }
}

fn time(time: Time) -> String {
    format!("{}.{:09}", time.sec, time.nsec)
}

/// Extended attributes and ACLs.
pub fn extended(
    verify: &Verify,
    stats: (&Stat, &Stat),
    (source, replica): (Result<Xattrs, Errno>, Result<Xattrs, Errno>),
    finding: &mut Finding,
) {
    let (source, replica) = match (source, replica) {
        (Ok(source), Ok(replica)) => (source, replica),
        (Err(error), _) => return finding.failed(Side::Source, error),
        (_, Err(error)) => return finding.failed(Side::Replica, error),
    };
    let may_hold_capabilities =
        rustix::process::geteuid().is_root() && (stats.0.uid, stats.0.gid) == (stats.1.uid, stats.1.gid);
    let names = differing(&source, &replica, may_hold_capabilities);
    let (acls, others): (Vec<&[u8]>, Vec<&[u8]>) = names.into_iter().partition(|name| name.starts_with(b"system."));
    for (what, names) in [("acl", acls), ("xattrs", others)] {
        if !names.is_empty() {
            let shown: Vec<_> = names.iter().map(|name| escaped(&String::from_utf8_lossy(name))).collect();
            finding.differs(what, verify.details.then(|| shown.join(", ")));
        }
    }
}

/// The names whose values differ. A capability is like the setuid bit: it does not go to a file of somebody else, and
/// only root can give it.
fn differing<'a>(source: &'a Xattrs, replica: &'a Xattrs, may_hold_capabilities: bool) -> Vec<&'a [u8]> {
    let lost = |name: &[u8]| !may_hold_capabilities && name == b"security.capability" && !replica.contains_key(name);
    let changed = source.iter().filter(|(name, value)| replica.get(*name) != Some(*value) && !lost(name));
    let added = replica.iter().filter(|(name, _)| !source.contains_key(*name));
    changed.chain(added).map(|(name, _)| &**name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&[u8], &[u8])]) -> Xattrs {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn attributes_that_were_changed_added_or_removed_are_named() {
        let source = attributes(&[(b"user.a", b"1"), (b"user.b", b"1"), (b"user.c", b"1")]);
        let replica = attributes(&[(b"user.a", b"1"), (b"user.b", b"2"), (b"user.d", b"1")]);
        assert_eq!(differing(&source, &replica, true), [&b"user.b"[..], b"user.c", b"user.d"]);
        assert!(differing(&source, &source, true).is_empty());
    }

    #[test]
    fn a_capability_that_cannot_be_given_is_no_difference_and_one_too_many_is() {
        let (with, without) = (attributes(&[(b"security.capability", b"x")]), Xattrs::new());
        assert!(differing(&with, &without, false).is_empty());
        assert_eq!(differing(&with, &without, true).len(), 1);
        assert_eq!(differing(&without, &with, false).len(), 1);
    }
}
