//! Owns what follows from settings that were read again: what is put in force at once, and what is looked at for it. What
//! the settings are and where they stand it is told.

use std::sync::atomic::Ordering;

use super::Dispatcher;
use crate::service::clock;
use crate::service::rules::{Reload, Reread, Rules};

impl Dispatcher {
    /// Reads its settings with this from now on, when a signal says so.
    pub fn reload_with(self, reload: Reload) -> Self {
        Self { reload: Some(reload), ..self }
    }

    /// Reads the settings again. Where they cannot be used, all that run stay.
    pub(super) fn reload(&mut self) {
        let Some(reload) = &mut self.reload else { return };
        match reload() {
            Ok(reread) => self.apply(reread),
            Err(reasons) => {
                for reason in reasons {
                    let end = if reason.ends_with('?') { "" } else { "." };
                    self.pair().log.error(format_args!("Not reloaded: {reason}{end} The running settings stay"));
                }
            }
        }
    }

    fn apply(&mut self, reread: Reread) {
        self.pair().log.set_verbosity(reread.verbosity);
        for warning in &reread.warnings {
            self.pair().log.warn(warning);
        }
        let words = match (reread.changed.as_slice(), reread.for_a_restart.as_slice()) {
            ([], []) => "nothing has changed".into(),
            ([], _) => "nothing of what has changed can be applied at once".into(),
            (changed, _) => changed.join("; "),
        };
        self.pair().log.info(format_args!("Configuration read again: {words}"));
        if !reread.for_a_restart.is_empty() {
            let keys = reread.for_a_restart.join(", ");
            self.pair().log.warn(format_args!("The configuration has changed where it needs a restart: {keys}"));
        }
        self.sweeps.set_interval(reread.interval);
        for way in &self.ways {
            way.intake.set_delays(reread.debounce, reread.max_delay);
            way.pair.restless.set_max_delay(reread.max_delay);
        }
        self.replace_rules(reread.rules);
    }

    fn replace_rules(&mut self, rules: Rules) {
        let (is_other_exclude, is_looser) = {
            let before = self.pair().rules();
            if *before == rules {
                return;
            }
            (rules.exclude != before.exclude, rules.max_delete > before.max_delete)
        };
        self.pair().in_force.replace(rules);
        // The pass that runs may hold something yet.
        for way in self.ways.iter_mut().filter(|_| is_looser) {
            if !way.hold.is_empty() || way.bulk.running.is_some() {
                way.hold.judge_anew(&way.pair);
                self.sweeps.ask();
            }
        }
        if is_other_exclude {
            // What happened at paths that were excluded until now was not heard.
            let now = clock::now();
            for way in &mut self.ways {
                way.pair.lost.store(now.0, Ordering::SeqCst);
                way.pair.archive.distrust();
                way.bulk.waiting.since(now);
            }
            self.sweeps.ask();
        }
    }

    /// A pass that began by former rules may have taken on trust from events what the events of paths that are excluded
    /// by now would have contradicted.
    pub(super) fn settle_rules(&self) {
        if self.pair().in_force.take_former() {
            self.pair().archive.distrust();
        }
    }
}
