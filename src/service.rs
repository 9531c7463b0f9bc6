//! When it is done: passes, their timing, and what the person sees of it.

pub mod ahead;
pub mod claims;
pub mod clock;
pub mod condition;
pub mod control;
pub mod dispatcher;
pub mod intake;
pub mod lane;
pub mod latency;
pub mod ledger;
pub mod links;
pub mod log;
pub mod look;
pub mod manager;
pub mod metrics;
pub mod news;
pub mod onlooker;
pub mod pair;
pub mod pass;
pub mod places;
pub mod quiet;
pub mod report;
pub mod restless;
pub mod rules;
pub mod status;
pub mod vigil;
