//! Owns the waits for "all that was written before now is in the replica". The proof is a cookie: a file made in a
//! watched folder of the state, which comes back through the same kernel queue after all that happened before it.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Sender;

use super::way::Way;
use crate::fs::watch::Watches;
use crate::service::control::Reply;
use crate::tree::doubt::Moment;

#[derive(Default)]
pub struct Flushes(Vec<Flush>);

struct Flush {
    /// Those whose events are on their way, from each folder that is watched.
    cookies: Vec<String>,
    /// When the last of them was heard: everything read until then has to be dealt with.
    heard: Moment,
    /// All that was heard is dealt with, and what could have changed unheard is looked at.
    is_last: bool,
    reply: Sender<Reply>,
}

impl Flushes {
    /// `held`: why nothing is done now.
    pub fn begin(&mut self, reply: Sender<Reply>, watches: Vec<Option<&Watches>>, held: Option<&str>) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if let Some(reason) = held {
            let _ = reply.send(Reply::Failed(format!("held: {reason}")));
            return;
        }
        let Some(watches) = watches.into_iter().collect::<Option<Vec<_>>>() else {
            let _ = reply.send(Reply::Failed("nothing is watched".into()));
            return;
        };
        let mut cookies = Vec::new();
        for watches in watches {
            let cookie = format!("cookie-{}", NEXT.fetch_add(1, Ordering::Relaxed));
            let path = watches.cookie_folder().join(&cookie);
            if let Err(error) = std::fs::File::create(&path) {
                let _ = reply.send(Reply::Failed(format!("cannot make a cookie in the state folder: {error}")));
                return;
            }
            // Its event is on the way; the file is not needed for that.
            let _ = std::fs::remove_file(&path);
            cookies.push(cookie);
        }
        self.0.push(Flush { cookies, heard: Moment::default(), is_last: false, reply });
    }

    /// Nobody is made to wait for what may never come.
    pub fn refuse(&mut self, reason: &str) {
        for flush in self.0.drain(..) {
            let _ = flush.reply.send(Reply::Failed(format!("held: {reason}")));
        }
    }

    pub fn heard(&mut self, cookie: &str, at: Moment) {
        for flush in self.0.iter_mut().filter(|f| f.cookies.iter().any(|known| known == cookie)) {
            flush.cookies.retain(|known| known != cookie);
            flush.heard = flush.heard.max(at);
        }
    }

    /// Answers those whose time has come: `oldest` is the oldest event that is not dealt with. Returns since when there
    /// are some for which what may have changed unheard has to be looked at now.
    pub fn settle(&mut self, oldest: Option<Moment>, ways: &[Way]) -> Option<Moment> {
        let mut unheard: Option<Moment> = None;
        self.0.retain_mut(|flush| {
            let heard = flush.heard;
            if !flush.cookies.is_empty() || oldest.is_some_and(|oldest| oldest <= heard) {
                return true;
            }
            if !flush.is_last {
                flush.is_last = true;
                unheard = Some(unheard.map_or(heard, |since| since.min(heard)));
                return true;
            }
            let failing: usize = ways.iter().map(|way| way.ledger.len()).sum();
            let first = ways.iter().find_map(|way| Some((way, way.ledger.iter().next()?)));
            let reply = match first {
                None => Reply::Done,
                Some((way, (path, failed))) => Reply::Failed(format!(
                    "{} could not be brought into the replica, first of all {}: {}",
                    if failing == 1 { "1 path".into() } else { format!("{failing} paths") },
                    way.pair.shown(path),
                    failed.reason
                )),
            };
            let _ = flush.reply.send(reply);
            false
        });
        unheard
    }
}
