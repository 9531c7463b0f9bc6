//! Owns what comes of a file of pairs: the settings of each, once the folders of all were found to be usable together.
//! Where something is wrong, the file and the line say where.

use std::path::{Path, PathBuf};

use super::open::{self, Paths, Refusal, shown};
use crate::cli::{CopyOptions, SyncArgs, WatchArgs};
use crate::config::{self, ConfigError, NamedPair, Settings};
use crate::fs::mounts::{Relation, relation};

/// The settings of each pair that a file names, by the options that are for all of them. Nothing has been made yet.
///
/// # Errors
/// The file, all that is wrong with its folders, or what is wrong with the options.
pub fn settings(
    file: &Path,
    of: impl Fn(&Path, &Path) -> Result<Settings, ConfigError>,
) -> Result<Vec<Settings>, Refusal> {
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    let mut known: Vec<(usize, PathBuf)> = Vec::new();
    for NamedPair { lines, folders: [source, replica] } in config::read_pairs(file)? {
        let settings = of(&source, &replica)?;
        let refused = |line, reason| Refusal::InPairs { path: file.into(), line, reason };
        match open::check(&settings) {
            Ok(Paths { source, replica, .. }) => {
                for (line, path) in [(lines[0], source), (lines[1], replica)] {
                    let overlap = known.iter().find_map(|(other, there)| overlap(&path, there, *other));
                    wrong.extend(overlap.map(|reason| refused(line, reason)));
                    known.push((line, path));
                }
                all.push(settings);
            }
            Err(_) if !there(&source) && !there(&replica) => {
                wrong.push(refused(
                    lines[0],
                    format!("neither {} nor {} is there: one of the two has to be", shown(&source), shown(&replica)),
                ));
            }
            Err(refusal @ Refusal::Source { .. }) => wrong.push(refused(lines[0], refusal.to_string())),
            Err(refusal @ (Refusal::Replica { .. } | Refusal::Nested { .. })) => {
                wrong.push(refused(lines[1], refusal.to_string()));
            }
            Err(other) => return Err(other),
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(Refusal::Several(wrong)) }
}

fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Why a folder cannot be in one file with another one, which belongs to another pair.
fn overlap(path: &Path, other: &Path, line: usize) -> Option<String> {
    let relation = if open::are_same(path, other) { Relation::Same } else { relation(other, path) };
    let how = match relation {
        Relation::Apart => return None,
        Relation::Same => "is".into(),
        Relation::Inside => format!("lies inside {},", shown(other)),
        Relation::Around => format!("holds {},", shown(other)),
    };
    Some(format!("{} {how} a folder of another pair (line {line})", shown(path)))
}

/// The arguments for one pair of a file.
pub fn sync_args(args: &SyncArgs, source: &Path, replica: &Path) -> SyncArgs {
    let copying = both_ways(&args.copying);
    SyncArgs { source: Some(source.into()), replica: Some(replica.into()), copying, ..args.clone() }
}

/// The same for `watch`.
pub fn watch_args(args: &WatchArgs, source: &Path, replica: &Path) -> WatchArgs {
    let copying = both_ways(&args.copying);
    WatchArgs { source: Some(source.into()), replica: Some(replica.into()), copying, one_of: None, ..args.clone() }
}

fn both_ways(options: &CopyOptions) -> CopyOptions {
    CopyOptions { pairs: None, two_way: true, ..options.clone() }
}
