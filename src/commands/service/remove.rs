//! Owns `service remove`: what goes, in which order, and what is said of what stays.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::layout::{self, Layout};
use super::systemctl::Systemctl;
use super::{Trouble, configuration, say};
use crate::cli::ServiceRemoveArgs;
use crate::commands::open::shown;

/// Runs `driftless service remove`.
///
/// # Errors
/// There is no such service, it is in use, its configuration was changed by hand, or a file cannot be removed.
pub fn run(args: &ServiceRemoveArgs) -> Result<ExitCode, Trouble> {
    let layout = Layout::of(&args.scope)?;
    let systemctl = Systemctl::of(&layout);
    let (name, path, drop_in) = (&args.name, layout.configuration(&args.name), layout.drop_in(&args.name));
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    if !is_there(&path) && !is_there(&drop_in) {
        return Err(Trouble::NoService { name: name.clone(), path });
    }
    let replica = layout::read(&path).ok().map(|settings| settings.replica);
    if !args.force && is_there(&path) && !is_as_written(name, &path) {
        return Err(Trouble::Edited { path });
    }
    let unit = Systemctl::unit(name);
    let disable = ["disable", "--now", &unit];
    match systemctl.state(name).filter(|state| state.is_in_use()) {
        Some(_) if args.disable => {
            systemctl.run(name, &disable)?;
        }
        Some(state) => {
            let state = if state.is_active() { state.active } else { state.enabled };
            return Err(Trouble::InUse { unit: unit.clone(), state, line: systemctl.line(&disable) });
        }
        None => {}
    }
    let mut gone = Vec::new();
    for path in [&drop_in, &path] {
        remove(path, &mut gone)?;
    }
    let own_unit = layout.unit().filter(|unit| unit.is_ours() && unit.path == layout.own_unit());
    if let Some(unit) = own_unit.filter(|_| layout.configured().is_ok_and(|others| others.is_empty())) {
        remove(&unit.path, &mut gone)?;
    }
    // With drop-ins of the person's own in it, the folder stays.
    let has_others = drop_in.parent().is_some_and(|folder| fs::remove_dir(folder).is_err() && folder.is_dir());
    gone.iter().for_each(|path| say(format_args!("Removed {path}")));
    if has_others && let Some(folder) = drop_in.parent() {
        say(format_args!("Not removed, for it has drop-ins of others: {}", shown(folder)));
    }
    if args.disable {
        systemctl.run(name, &["daemon-reload"])?;
    } else if !layout.is_elsewhere {
        say(format_args!("To let systemd know: {}", systemctl.line(&["daemon-reload"])));
    }
    if let Some(replica) = replica {
        say(format_args!("The replica {} stays as it is", shown(&replica)));
    }
    let state = layout.state(name);
    if state.is_dir() {
        say(format_args!(
            "What was remembered of it, and its log, stay in {}; whoever needs neither can remove that",
            shown(&state)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn is_as_written(name: &str, path: &Path) -> bool {
    let Ok(settings) = layout::read(path) else { return false };
    let (Some(source), Some(replica)) = (settings.source.to_str(), settings.replica.to_str()) else { return false };
    fs::read_to_string(path).is_ok_and(|text| text == configuration::text(name, source, replica))
}

fn remove(path: &Path, gone: &mut Vec<String>) -> Result<(), Trouble> {
    match fs::remove_file(path) {
        Ok(()) => gone.push(shown(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(Trouble::NotRemoved { path: path.into(), source }),
    }
    Ok(())
}
