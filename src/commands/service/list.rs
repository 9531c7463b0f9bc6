//! Owns `service list`: what is configured, whether systemd runs it, and what is wrong with its file.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::Trouble;
use super::layout::{Configured, Layout};
use super::systemctl::{State, Systemctl};
use crate::cli::ServiceListArgs;
use crate::commands::open::shown;

struct Row {
    configured: Configured,
    state: Option<State>,
}

/// Runs `driftless service list`.
///
/// # Errors
/// The configurations cannot be listed.
pub fn run(args: &ServiceListArgs) -> Result<ExitCode, Trouble> {
    let layout = Layout::of(&args.scope)?;
    let systemctl = Systemctl::of(&layout);
    let rows: Vec<_> = layout.configured()?.into_iter().map(|configured| row(configured, &systemctl)).collect();
    let text = if args.json {
        format!("{}\n", Value::from(rows.iter().map(object).collect::<Vec<_>>()))
    } else if rows.is_empty() {
        format!("No services are configured in {}\n", shown(&layout.configurations))
    } else {
        table(&rows)
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has seen enough is no failure.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Trouble::Output(e)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn row(configured: Configured, systemctl: &Systemctl) -> Row {
    // A file's name that is no service's might be anything to systemctl.
    let is_usable = crate::config::parse_name(&configured.name).is_ok();
    let state = is_usable.then(|| systemctl.state(&configured.name)).flatten();
    Row { configured, state }
}

fn object(row: &Row) -> Value {
    let Row { configured: Configured { name, path, settings }, state } = row;
    let settings_of = settings.as_ref().ok();
    json!({
        "name": name,
        "configuration": path.to_string_lossy(),
        "source": settings_of.map(|settings| settings.source.to_string_lossy()),
        "replica": settings_of.map(|settings| settings.replica.to_string_lossy()),
        "enabled": state.as_ref().map(|state| state.enabled.as_str()),
        "active": state.as_ref().map(|state| state.active.as_str()),
        "problem": settings.as_ref().err(),
    })
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![["NAME", "ENABLED", "ACTIVE", "FOLDERS"].map(str::to_owned)];
    let mut problems = String::new();
    for Row { configured: Configured { name, path, settings }, state } in rows {
        let of = |word: fn(&State) -> &str| state.as_ref().map_or("-", word).to_owned();
        let folders = match settings {
            Ok(settings) => format!("{} -> {}", shown(&settings.source), shown(&settings.replica)),
            Err(problem) => {
                // Most problems name the file.
                let place = if problem.contains(&shown(path)) { String::new() } else { format!("{}: ", shown(path)) };
                problems.push_str(&format!("Problem: {place}{problem}\n"));
                "-".into()
            }
        };
        let name = if crate::config::parse_name(name).is_ok() { name.clone() } else { shown(name.as_ref()) };
        lines.push([name, of(|state| &state.enabled), of(|state| &state.active), folders]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let (name, enabled, active) = (width(0), width(1), width(2));
    let mut text = String::new();
    for [a, b, c, folders] in &lines {
        text.push_str(&format!("{a:name$}  {b:enabled$}  {c:active$}  {folders}\n"));
    }
    text + &problems
}
