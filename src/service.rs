//! When it is done: passes, their timing, and what the person sees of it.

pub mod claims;
pub mod clock;
pub mod control;
pub mod links;
pub mod log;
pub mod pair;
pub mod pass;
pub mod report;
pub mod status;
