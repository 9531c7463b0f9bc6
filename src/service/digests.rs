//! Owns the way of passes and scrubs to what is known of contents, whichever side they take for their source: recording a
//! digest, and keeping what has decayed from being copied over what has not.

use std::os::fd::BorrowedFd;

use super::clock;
use super::pair::Pair;
use crate::fs::compare;
use crate::fs::copy::Fault;
use crate::fs::digest::is_in_memory;
use crate::fs::pulse::Pulse;
use crate::plan::decay::{Read, Spread, spread};
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
        let digest =
            Digest { md5, size: source.size, source: Some(Seal::of(source)), replica: replica.map(Seal::of), checked };
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
        {
            self.set_digest(known.md5, source, Some(replica));
        }
    }

    /// Decides whether a file whose contents differ on both sides is copied to where this pair's passes write. What has
    /// decayed is reported and remembered.
    ///
    /// # Errors
    /// That `pulse` said stop.
    pub fn may_spread(
        &self,
        path: &RelPath,
        (from, source): (BorrowedFd, &Stat),
        replica: &Stat,
        pulse: &Pulse,
    ) -> Result<bool, Fault> {
        let Some(known) = self.digest(source, Some(replica)).filter(|known| known.size == source.size) else {
            return Ok(true);
        };
        let (state, other) = (known.state(Side::Source, source), known.state(Side::Replica, replica));
        // Nothing there proves anything.
        if is_in_memory(from) || (state != SealState::Whole && other != SealState::Whole) {
            return Ok(true);
        }
        let read = match compare::md5(from, pulse) {
            Ok(md5) if md5 == known.md5 => Read::Equal,
            Ok(_) => Read::Differs,
            Err(Fault::Cancelled) => return Err(Fault::Cancelled),
            Err(_) => Read::Failed,
        };
        match spread(state, other, Some(read)) {
            Spread::Copy => Ok(true),
            Spread::Repair => {
                let side = self.written_side();
                let shown = self.shown(path);
                self.log.warn(format_args!(
                    "Decayed: {shown} in the {side}: its contents had changed, and nobody had written to it; it is replaced by \
                     the good ones"
                ));
                Ok(true)
            }
            Spread::Refuse => {
                let decayed = Decayed {
                    side: self.written_side().other(),
                    damage: if other == SealState::Whole { Damage::Repairable } else { Damage::Alone },
                    found: clock::wall(),
                    seal: Seal::of(source),
                    size: source.size,
                };
                self.note_decayed(path, decayed, false);
                Ok(false)
            }
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
            "its contents have changed, and nobody has written to it; the other side does not have them as they were"
        }
        Damage::Lost => {
            "its contents have changed on both sides, and nobody has written to it: they are lost, unless a version or \
             another backup has them"
        }
        Damage::Undecided => {
            "both sides were the same, nobody has written to either, and they differ: one has decayed, and nothing was \
             recorded that tells which"
        }
    }
}
