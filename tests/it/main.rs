//! The integration tests: the program driven from outside, by its command line alone.

mod attributes;
mod compare;
mod console;
mod control;
mod deletions;
mod disk;
mod excludes;
mod fixture;
mod idle;
mod kinds;
mod layers;
mod limits;
mod links;
mod log;
mod names;
mod random;
mod random_ops;
mod random_work;
mod refusals;
mod renames;
mod roots;
mod stopping;
mod sync;
mod tree;
mod verify;
mod watch;
