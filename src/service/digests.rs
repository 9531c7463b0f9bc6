//! Owns the way of passes and scrubs to what is known of contents, whichever side they take for their source: recording a
//! digest, and keeping what has decayed from being copied over what has not.

use std::os::fd::BorrowedFd;

use super::clock;
use super::pair::Pair;
use crate::fs::compare;
use crate::fs::copy::Fault;
use crate::fs::digest::shows_writes;
use crate::fs::pulse::Pulse;
use crate::plan::decay::{Read, Spread, Verdict, judge, spread, verdict};
use crate::tree::digest::{Damage, Decayed, Digest, Md5, Seal, SealState};
use crate::tree::entry::{Kind, Stat};
use crate::tree::identity::Side;
use crate::tree::path::RelPath;

/// In nanoseconds: what has been quiet for so long is on its disk, and a write through a mapping shows in its times again.
/// Before that, it need not.
const SETTLED: i128 = 60_000_000_000;

impl Pair {
    /// What is known of the contents of a file, the sides as this pair takes them.
    pub fn digest(&self, source: &Stat, replica: Option<&Stat>) -> Option<Digest> {
        if self.is_turned() {
            self.archive.digest(replica?.id()).map(Digest::turned)
        } else {
            self.archive.digest(source.id())
        }
    }

    /// Remembers the MD5 of what both sides' files hold; the stats are of before the reading, and held after it.
    pub fn record_digest(&self, md5: Md5, source: &Stat, replica: &Stat) {
        // This program's own writes go through no mapping.
        if is_settled(source) && (self.two_way.is_none() || is_settled(replica)) {
            self.set_digest(md5, source, Some(replica));
        }
    }

    /// The same where what was in memory of the files was on their disks before they were read. Without a replica that holds
    /// the same, it is the source's alone.
    pub fn set_digest(&self, md5: Md5, source: &Stat, replica: Option<&Stat>) {
        let checked = clock::wall();
        let digest = Digest { md5, size: source.size, source: seal(source), replica: replica.and_then(seal), checked };
        if !self.is_turned() {
            self.archive.set_digest(source.id(), Some(digest));
        } else if let Some(replica) = replica {
            self.archive.set_digest(replica.id(), Some(digest.turned()));
        }
    }

    /// Whether the contents of a file are to be hashed while they are at hand: nothing valid is known of them.
    pub fn lacks_digest(&self, source: &Stat, replica: &Stat) -> bool {
        !self.options.dry_run
            && source.kind == Kind::File
            && is_settled(source)
            && (self.two_way.is_none() || is_settled(replica))
            && self.digest(source, Some(replica)).is_none_or(|known| {
                let is_whole = |side, stat| known.state(side, stat) == SealState::Whole;
                !is_whole(Side::Source, source) || !is_whole(Side::Replica, replica)
            })
    }

    /// Takes the replica's new file for the one that it has replaced, where the source's is still the one whose contents are
    /// known.
    pub fn carry_digest(&self, source: &Stat, replaced: &Stat, replica: &Stat) {
        if let Some(known) = self.digest(source, Some(replaced))
            && known.state(Side::Source, source) == SealState::Whole
            // Else it may have been written to: what was copied is not for certain what was recorded.
            && source.dev == 0
            && shows_writes(self.source.fd())
        {
            self.set_digest(known.md5, source, Some(replica));
        }
    }

    /// Decides whether a file whose contents differ on both sides is copied to where this pair's passes write. What has
    /// decayed is reported and remembered.
    ///
    /// # Errors
    /// That `pulse` said stop.
    pub fn spread(
        &self,
        path: &RelPath,
        [(from, source), (to, replica)]: [(BorrowedFd, &Stat); 2],
        pulse: &Pulse,
    ) -> Result<Spread, Fault> {
        let Some(known) = self.digest(source, Some(replica)).filter(|known| known.size == source.size) else {
            return Ok(Spread::Copy);
        };
        let states =
            (self.proven(&known, Side::Source, (from, source)), self.proven(&known, Side::Replica, (to, replica)));
        // Nothing there proves anything.
        if ![states.0, states.1].contains(&SealState::Whole) {
            return Ok(Spread::Copy);
        }
        let read = |file| match compare::md5(file, pulse) {
            Ok(md5) if md5 == known.md5 => Ok(Read::Equal),
            Ok(_) => Ok(Read::Differs),
            Err(Fault::Cancelled) => Err(Fault::Cancelled),
            Err(_) => Ok(Read::Failed),
        };
        let of_source = read(from)?;
        let spread = spread(states.0, states.1, Some(of_source));
        match spread {
            Spread::Copy => {}
            Spread::Repair => {
                let side = self.written_side();
                let shown = self.shown(path);
                let is = if self.options.dry_run { "would be" } else { "is" };
                self.log.warn(format_args!(
                    "Decayed: {shown} in the {side}: its contents had changed, and nobody had written to it; it {is} replaced \
                     by the good ones"
                ));
            }
            Spread::Refuse => {
                // What the other side is good for is known when it was read, too.
                let found = [judge(states.0, of_source), judge(states.1, read(to)?)].map(Some);
                let (both, stats) = if self.is_turned() {
                    (verdict(found[1], found[0]), (replica, source))
                } else {
                    (verdict(found[0], found[1]), (source, replica))
                };
                if let Verdict::Decayed(side, damage) = both {
                    let stat = if side == Side::Source { stats.0 } else { stats.1 };
                    let (found, seal) = (clock::wall(), Seal::of(stat));
                    self.note_decayed(path, Decayed { side, damage, found, seal, size: stat.size }, false);
                }
            }
        }
        Ok(spread)
    }

    /// What a file's seal says, where it proves something, the sides as this pair takes them. Not everywhere does each write
    /// show in the times. What has decayed is not written to by a change of its attributes or its name.
    pub fn proven(&self, known: &Digest, side: Side, (file, stat): (BorrowedFd, &Stat)) -> SealState {
        let of = if self.is_turned() { side.other() } else { side };
        match known.state(side, stat) {
            SealState::Whole if !shows_writes(file) => SealState::Touched,
            SealState::Touched if self.archive.decayed_as(of, stat).is_some() => SealState::Whole,
            state => state,
        }
    }

    /// The name under which the file that passes are about to copy was found to have decayed.
    pub fn decayed_before(&self, source: &Stat) -> Option<RelPath> {
        self.archive.decayed_as(self.written_side().other(), source)
    }

    /// Forgets that a file had decayed where both sides are these by now.
    pub fn forget_decayed(&self, path: &RelPath, source: &Stat, replica: &Stat) {
        let now = |side| if side == self.written_side() { replica } else { source };
        if self.archive.decayed_at(path).is_some_and(|known| !known.is_of(now(known.side))) {
            self.archive.set_decayed(path, None);
        }
    }

    /// Remembers that a file has decayed, and logs it, if that is news or `is_told` anyway.
    pub fn note_decayed(&self, path: &RelPath, decayed: Decayed, is_told: bool) {
        let known = self.archive.decayed_at(path);
        let is_known = known.is_some_and(|known| Decayed { found: decayed.found, ..known } == decayed);
        if !is_known {
            self.archive.set_decayed(path, Some(decayed));
        }
        if !is_known || is_told {
            let shown = self.shown_on(decayed.side, path);
            self.log.error(format_args!("Decayed: {shown} in the {}: {}", decayed.side, words(decayed.damage)));
        }
    }

    /// A path on one of the two sides as the person named them, quoted for a message.
    pub fn shown_on(&self, side: Side, path: &RelPath) -> String {
        if side == self.written_side() { self.shown(path) } else { self.shown_source(path) }
    }
}

/// The seal of a file whose contents are known at this moment. None where whole seconds are kept and this one is not over:
/// what is written to it now would not break the seal.
pub fn seal(stat: &Stat) -> Option<Seal> {
    let is_hiding = clock::is_coarse(stat.ctime) && clock::is_racy(stat.ctime);
    (!is_hiding).then(|| Seal::of(stat))
}

/// Whether each write to a file since would show in its times, as far as its age tells.
pub fn is_settled(stat: &Stat) -> bool {
    clock::since(stat.ctime) >= SETTLED
}

/// What a person is told of it.
pub fn words(damage: Damage) -> &'static str {
    match damage {
        Damage::Repairable => {
            "its contents have changed, and nobody has written to it; the other side is good: `driftless scrub --repair` \
             puts it right"
        }
        Damage::Alone => {
            "its contents have changed, and nobody has written to it; the other side does not have them as they were, or cannot \
             be read"
        }
        Damage::Lost => {
            "its contents have changed on both sides, and nobody has written to it: they are lost, unless a version or \
             another backup has them"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::entry::Time;

    #[test]
    fn what_was_made_in_this_second_is_not_sealed_where_whole_seconds_are_kept() {
        let file = tempfile::tempfile().expect("a file");
        let root = crate::fs::root::Root::open(std::path::Path::new("/")).expect("a root");
        let stat = root.stat(std::os::fd::AsFd::as_fd(&file)).expect("its stat");
        let at = |sec, nsec| Stat { ctime: Time { sec, nsec }, ..stat };
        let now = i64::try_from(clock::wall()).expect("now");
        assert_eq!(seal(&at(now, 0)), None);
        for sealed in [at(now - 3, 0), at(now, 1)] {
            assert_eq!(seal(&sealed), Some(Seal::of(&sealed)));
        }
    }
}
