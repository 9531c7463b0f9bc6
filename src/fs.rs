//! How it is done: system calls. Nothing here decides; every access goes through a folder's descriptor.

pub mod archive;
pub mod compare;
pub mod copy;
pub mod count;
pub mod disk;
pub mod exact;
pub mod guarded;
pub mod history;
pub mod identity;
pub mod inotify;
pub mod located;
pub mod lock;
pub mod metadata;
pub mod mounts;
pub mod patch;
mod pieces;
pub mod pulse;
pub mod remove;
pub mod rename;
pub mod root;
pub mod sandbox;
pub mod scan;
pub mod share;
pub mod stage;
pub mod trust;
pub mod volume;
pub mod watch;
