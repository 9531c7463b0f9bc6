//! Owns what is told to whoever looks on while a sweep runs: that one has begun and that it has ended. How it is shown
//! is not known here.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::fs::pulse::Pulse;

/// A turn of the service that can be looked at.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A sweep begins. How far it comes can be read from the pulse, which has counted before.
    Began {
        pulse: Arc<Pulse>,
        /// How many entries there were last time.
        entries: Option<u64>,
    },
    Ended,
}

/// Where it is told.
#[derive(Clone, Debug, Default)]
pub struct Onlooker(Option<Sender<Turn>>);

impl Onlooker {
    pub fn new(tell: Sender<Turn>) -> Self {
        Self(Some(tell))
    }

    pub fn began(&self, pulse: &Arc<Pulse>, entries: Option<u64>) {
        self.tell(Turn::Began { pulse: Arc::clone(pulse), entries });
    }

    pub fn ended(&self) {
        self.tell(Turn::Ended);
    }

    fn tell(&self, turn: Turn) {
        if let Some(tell) = &self.0 {
            // Nobody may be looking any more.
            let _ = tell.send(turn);
        }
    }
}
