//! Owns taking the files of an SQLite database together: read in one window, judged by `plan::database`, brought to disk,
//! and published one right after another. A database of which a file is excluded, linked or no file at all is not dealt
//! with here: its files are files like others.

mod both_ways;
mod reading;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs;

use super::files::{Job, Stop, failed};
use super::folders::{Node, complete};
use super::keeping::At;
use super::walk::Worker;
use crate::fs::copy;
use crate::fs::identity;
use crate::fs::root::open_file;
use crate::fs::share::Share;
use crate::fs::stage::Published;
use crate::plan::database::{Act, Fate, HEAD, Look, MAGIC, Part, Publication, Verdict, is_in_log_mode, order};
use crate::plan::mirror::{Case, Contents, Step, decide};
use crate::service::clock;
use crate::service::restless;
use crate::tree::doubt::{Doubt, Moment};
use crate::tree::entry::{Kind, Seen, Stat};
use crate::tree::operation::Operation;
use crate::tree::path::RelPath;
use crate::tree::record::Agreed;
use reading::{Copy, Snapshot};

/// Which files of a database are in doubt, and what was heard of each.
pub type InDoubt = Vec<(Part, Option<Doubt>)>;

/// Reading is tried for so long at once, and not more often than this.
const AT_ONCE: Duration = Duration::from_millis(30);
const TRIES: u32 = 50;
/// And so often with writers kept out.
const LOCKED_TRIES: u32 = 4;
/// A database's file has whole pages, and this is the smallest.
const PAGE: u64 = 512;

/// One file of the database on both sides.
struct Member {
    part: Part,
    name: Box<[u8]>,
    path: RelPath,
    source: Option<Stat>,
    replica: Option<Stat>,
    step: Step,
}

/// The database and the folder that it lies in.
struct Place<'a> {
    node: &'a Arc<Node>,
    base: &'a [u8],
    in_doubt: &'a InDoubt,
}

impl Worker<'_> {
    /// The database that a name belongs to whose files are to be taken together.
    pub(super) fn database_of(
        &self,
        node: &Node,
        name: &[u8],
        step: Step,
        (source, replica): (Seen, Seen),
    ) -> Option<(Box<[u8]>, Part)> {
        let pair = self.pass.pair;
        let is_work = matches!(step, Step::Create | Step::Update | Step::Remove | Step::Examine(Contents::Compare));
        let plain = |seen: Seen| seen.stat().is_none_or(|s| s.kind == Kind::File && !s.is_linked());
        if !is_work || pair.options.dry_run || !plain(source) || !plain(replica) {
            return None;
        }
        let (base, part) = Part::of(name);
        let is_base = |stat: &Stat| {
            stat.kind == Kind::File && !stat.is_linked() && stat.size >= PAGE && stat.size.is_multiple_of(PAGE)
        };
        if part == Part::Database && !source.stat().is_some_and(is_base) {
            return None;
        }
        for other in Part::ALL {
            let name = other.name(base);
            let seen = pair.source.look(node.source.as_fd(), &name).ok()?;
            let there = pair.replica.look(node.replica.as_ref()?.as_fd(), &name).ok()?;
            let is_fit = if other == Part::Database { seen.stat().is_some_and(is_base) } else { plain(seen) };
            let is_excluded = self.pass.skips(&node.path.join(&name), false);
            if !is_fit || !plain(there) || (is_excluded && other != Part::Index) {
                return None;
            }
        }
        let file = open_file(node.source.as_fd(), base).ok()?;
        copy::head(file.as_fd(), MAGIC.len()).is_ok_and(|head| head == MAGIC).then(|| (base.into(), part))
    }

    /// Takes one database, or puts its files back into doubt.
    pub(super) fn database(&mut self, node: Arc<Node>, base: &[u8], in_doubt: InDoubt) {
        if !self.pass.is_cancelled() {
            let place = Place { node: &node, base, in_doubt: &in_doubt };
            let paths: Vec<RelPath> = Part::ALL.iter().map(|part| node.path.join(&part.name(base))).collect();
            let claimed = paths.iter().take_while(|path| self.pass.claim(path)).count();
            let seen = self.pass.pair.source.look(node.source.as_fd(), base);
            let size = seen.ok().and_then(|seen| seen.stat().map(|s| s.size)).unwrap_or(0);
            let is_free = claimed == paths.len() && !self.pass.is_put_off(size);
            let result = if is_free && node.is_in_place(self.pass) { self.take(&place) } else { Err(Stop::Changed) };
            for path in &paths[..claimed] {
                self.pass.release(path);
            }
            match result {
                Ok(()) => {}
                Err(Stop::Changed) => {
                    for (part, doubt) in &in_doubt {
                        let path = node.path.join(&part.name(base));
                        self.pass.again(&path, doubt.unwrap_or(Doubt::contents(clock::now())));
                    }
                }
                Err(Stop::Failed(what, error)) => self.pass.failed_at(&node.path.join(base), what, error, size),
                Err(stop) => self.stopped(&node.path.join(base), stop),
            }
            self.index(&place);
        }
        complete(self.pass, node, &mut self.totals);
    }

    /// The shared memory's file needs nothing but to be there, and to be gone when it is.
    fn index(&mut self, place: &Place) {
        let Some((_, doubt)) = place.in_doubt.iter().find(|(part, _)| *part == Part::Index) else { return };
        let Ok(member) = self.member(place, Part::Index, *doubt) else { return };
        match (member.step, member.source) {
            (Step::Remove, _) if self.pass.claim(&member.path) => {
                let removed = self.remove_member(place.node, &member);
                self.pass.release(&member.path);
                if let Err(stop) = removed {
                    self.stopped(&member.path, stop);
                }
            }
            (Step::Create | Step::Update | Step::Examine(_), Some(source)) => {
                let Member { name, step, replica, .. } = member;
                self.job(place.node, Job::new(&name, step, &source, replica));
            }
            _ => {}
        }
    }

    fn member(&self, place: &Place, part: Part, doubt: Option<Doubt>) -> Result<Member, Stop> {
        let (pair, node) = (self.pass.pair, place.node);
        let name = part.name(place.base);
        let unread = failed("cannot be looked at");
        let source = pair.source.look(node.source.as_fd(), &name).map_err(&unread)?;
        let folder = node.replica().map_err(&unread)?;
        let replica = pair.replica.look(folder, &name).map_err(&unread)?;
        let agreed = pair.agreed(node.ids, &name);
        let (compare, lost) = (self.pass.rules.compare, pair.lost());
        let step = decide(&Case { source, replica, agreed: agreed.as_ref(), doubt, compare, lost });
        let is_plain = |seen: &Seen| seen.stat().is_none_or(|s| s.kind == Kind::File && !s.is_linked());
        // What is kept of a conflict has given it another name.
        let is_plain_there = pair.two_way.is_some() || is_plain(&replica);
        if !is_plain(&source) || !is_plain_there {
            return Err(Stop::Changed);
        }
        let (source, replica) = (source.stat().copied(), replica.stat().copied());
        Ok(Member { part, path: node.path.join(&name), name, source, replica, step })
    }

    fn take(&mut self, place: &Place) -> Result<(), Stop> {
        let start = Instant::now();
        for tries in 1.. {
            let members = self.members(place)?;
            if members.iter().all(|m| matches!(m.step, Step::Nothing | Step::Forget)) {
                members.iter().for_each(|m| self.pass.looked(&m.path, restless::Look::Rests));
                return Ok(());
            }
            if let Some(snapshot) = self.read(place, &members, None)? {
                // A transaction in work is coherent too, but names are switched more safely when there is none.
                if snapshot.verdict != Verdict::Torn && !snapshot.is_in_transaction() {
                    return self.publish_all(place, &members, snapshot, None);
                }
                self.discard(snapshot.copies);
            }
            if tries >= TRIES || start.elapsed() > AT_ONCE {
                let moved: Vec<&Member> = members.iter().filter(|m| m.source.is_some()).collect();
                if moved.iter().any(|m| self.pass.pair.restless.is_overdue(&m.path, clock::now())) {
                    return self.take_locked(place);
                }
                moved.iter().for_each(|m| self.pass.looked(&m.path, restless::Look::Waits));
                return Ok(());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// As every reader does it: what is being written is waited for, and writers wait for this. It can make a program
    /// see its database locked for a moment, and so it comes last.
    fn take_locked(&mut self, place: &Place) -> Result<(), Stop> {
        for _ in 0..LOCKED_TRIES {
            let members = self.members(place)?;
            let Some(share) = self.share(place)? else { break };
            let snapshot = self.read(place, &members, Some(&share))?;
            drop(share);
            if let Some(snapshot) = snapshot {
                if snapshot.verdict != Verdict::Torn {
                    return self.publish_all(place, &members, snapshot, None);
                }
                self.discard(snapshot.copies);
            }
        }
        let members = self.members(place)?;
        let Some(database) = members.iter().find(|m| m.part == Part::Database) else { return Ok(()) };
        if !self.pass.pair.restless.is_long_overdue(&database.path, clock::now()) {
            self.pass.looked(&database.path, restless::Look::Waits);
            return Ok(());
        }
        // Better than none at all; but it replaces nothing that is whole.
        if database.replica.is_none()
            && let Some(snapshot) = self.read(place, &members, None)?
        {
            return self.publish_all(place, &members, snapshot, Some(restless::Look::Uncertain));
        }
        self.pass.looked(&database.path, restless::Look::Behind);
        Ok(())
    }

    fn share(&self, place: &Place) -> Result<Option<Share>, Stop> {
        let open = |part: Part| open_file(place.node.source.as_fd(), &part.name(place.base));
        let database = open(Part::Database).map_err(failed("cannot open the source file"))?;
        let head = copy::head(database.as_fd(), HEAD).map_err(failed("cannot read the source"))?;
        if is_in_log_mode(&head) {
            return Ok(open(Part::Index).ok().and_then(Share::of_index));
        }
        Ok(Share::of_database(database))
    }

    /// All files but the index. What turns out to be equal though nothing proves it needs no step.
    fn members(&mut self, place: &Place) -> Result<Vec<Member>, Stop> {
        let is_kept = self.make_way(place)?;
        let mut members = Vec::new();
        for part in [Part::Database, Part::Log, Part::Journal] {
            let heard = place.in_doubt.iter().find(|(p, _)| *p == part).and_then(|(_, doubt)| *doubt);
            let mut member = self.member(place, part, heard)?;
            if part == Part::Database && member.source.is_none() {
                return Err(Stop::Changed);
            }
            if let (Step::Examine(contents), Some(source)) = (member.step, member.source) {
                let (name, step, replica) = (member.name.clone(), member.step, member.replica);
                let job = Job::new(&name, step, &source, replica);
                let differs = self.compare(place.node, &member.path, &job, contents)?;
                member.step = if differs.is_some() { Step::Update } else { Step::Nothing };
            }
            // What is kept must not go on being the same file.
            if is_kept && member.step == Step::Nothing && member.source.is_some() && member.replica.is_some() {
                member.step = Step::Update;
            }
            members.push(member);
        }
        Ok(members)
    }

    /// Brings all copies to disk, and publishes them one right after another.
    fn publish_all(
        &mut self,
        place: &Place,
        members: &[Member],
        snapshot: Snapshot,
        look: Option<restless::Look>,
    ) -> Result<(), Stop> {
        let pair = self.pass.pair;
        let Snapshot { looked, before, after, verdict, mut copies } = snapshot;
        let is_left_out = |part: Part| {
            part == Part::Journal && verdict == (Verdict::Coherent { with_journal: false }) || before.of(part).is_none()
        };
        let fate = |part: Part| {
            let has = members.iter().any(|m| m.part == part && m.replica.is_some());
            match (is_left_out(part), copies.iter().any(|c| c.part == part)) {
                (true, _) if has => Fate::Removed,
                (false, true) => Fate::Published,
                _ => Fate::Stays,
            }
        };
        let acts = order(&Publication {
            database: fate(Part::Database),
            log: fate(Part::Log),
            journal: fate(Part::Journal),
            had_database: members.iter().any(|m| m.part == Part::Database && m.replica.is_some()),
            had_log: members.iter().any(|m| m.part == Part::Log && m.replica.is_some()),
            same_log: self.is_same_log(place, &before),
        });
        let ready = copies.iter().try_for_each(|copy| {
            let (lost, _) = self.dress(copy.from.as_fd(), &copy.file, &copy.stat)?;
            pair.report_lost(lost, &place.node.path.join(&copy.part.name(place.base)));
            if pair.options.durable {
                fs::fsync(copy.file.fd()).map_err(failed("cannot bring the copy to disk"))
            } else {
                Ok(())
            }
        });
        let mut result = ready;
        let mut removed = Vec::new();
        for act in acts {
            let (Act::Publish(part) | Act::Remove(part)) = act;
            let Some(member) = members.iter().find(|m| m.part == part) else { continue };
            if result.is_err() {
                break;
            }
            let at = copies.iter().position(|c| c.part == part);
            result = match (act, at) {
                (Act::Remove(_), _) => {
                    removed.push(part);
                    self.remove_member(place.node, member)
                }
                (Act::Publish(_), Some(at)) => {
                    let copy = copies.swap_remove(at);
                    let is_certain = look.is_none() && after.of(part).is_some_and(|s| s.stamp == copy.stat.stamp());
                    let expected = member.replica.filter(|_| !removed.contains(&part));
                    self.publish_member(place.node, member, copy, expected, is_certain.then_some(looked))
                }
                (Act::Publish(_), None) => Ok(()),
            };
        }
        self.discard(copies);
        result?;
        for member in members.iter().filter(|m| m.source.is_some() || before.of(m.part).is_some()) {
            let rests = before.of(member.part) == after.of(member.part) && !is_left_out(member.part);
            let found = if rests { restless::Look::Rests } else { restless::Look::Taken };
            self.pass.looked(&member.path, look.filter(|_| member.part == Part::Database).unwrap_or(found));
        }
        Ok(())
    }

    /// Whether the replica has the same log, less far.
    fn is_same_log(&self, place: &Place, before: &Look) -> bool {
        let (Some(log), Ok(folder)) = (&before.log, place.node.replica()) else { return false };
        open_file(folder, &Part::Log.name(place.base))
            .and_then(|file| copy::head(file.as_fd(), HEAD))
            .is_ok_and(|head| log.same_log(&head))
    }

    fn publish_member(
        &mut self,
        node: &Node,
        member: &Member,
        copy: Copy,
        expected: Option<Stat>,
        certain: Option<Moment>,
    ) -> Result<(), Stop> {
        let pair = self.pass.pair;
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        let racy = clock::is_racy(copy.stat.ctime);
        let source = copy.stat.stamp();
        let as_copied = |replica: &Stat, looked: Moment| {
            let replica = replica.stamp();
            Agreed { source, replica, racy, looked, provisional: false, made: None, base: None }
        };
        if let (Some(_), Some(looked), Ok(staged)) = (&pair.two_way, certain, pair.replica.stat(copy.file.fd())) {
            self.pass.intend(node, &member.name, identity::born(copy.file.fd()), as_copied(&staged, looked));
        }
        let at = At::new(folder, &member.path);
        let said = self.pass.say_arrival(at, Kind::File, expected.as_ref());
        let said =
            said.and_then(|said| self.pass.put_said().map(|()| said)).map_err(failed("cannot write the journal"))?;
        let keep = || self.pass.keep(&said, folder, &member.name);
        let (file, expected) = (copy.file, (expected.as_ref(), &keep as _));
        let published = pair.stage.publish_file(&pair.replica, file, folder, &member.name, expected);
        if !matches!(published, Ok((Published::Yes, _))) {
            self.pass.unsay(said);
            self.pass.withdraw(node.ids, &member.name);
        }
        let (published, fd) = published.map_err(failed("cannot publish the copy"))?;
        if published == Published::Changed {
            return Err(Stop::Changed);
        }
        node.touch(self.pass);
        let operation = if member.replica.is_some() { Operation::FileUpdated } else { Operation::FileCopied };
        self.pass.report(operation, &member.path);
        self.count_file(operation, copy.stat.size);
        if let Some(looked) = certain {
            let replica = pair.replica.stat(fd.as_fd()).map_err(failed("cannot read the attributes"))?;
            node.change(&member.name, Some(as_copied(&replica, looked)));
        }
        Ok(())
    }

    /// Removes a file that the database has no more. The brake is not asked: the database stays, and what is left beside
    /// it that does not belong to it would spoil it.
    fn remove_member(&mut self, node: &Node, member: &Member) -> Result<(), Stop> {
        let pair = self.pass.pair;
        let folder = node.replica().map_err(failed("cannot open the folder"))?;
        let now = pair.replica.look(folder, &member.name).map_err(failed("cannot be looked at"))?;
        let now = match (now.stat(), member.replica) {
            (None, _) => return Ok(()),
            (Some(now), Some(before)) if now.stamp() == before.stamp() => now,
            _ => return Err(Stop::Changed),
        };
        self.pass.remove_kept(At::new(folder, &member.path), now).map_err(failed("cannot be removed"))?;
        node.touch(self.pass);
        node.change(&member.name, None);
        self.pass.report_removal(Operation::FileRemoved, &member.path, self.pass.asked(&member.path));
        self.totals.removed += 1;
        Ok(())
    }

    fn discard(&self, copies: Vec<Copy>) {
        copies.into_iter().for_each(|copy| copy.file.discard(&self.pass.pair.replica));
    }
}
