//! Owns what is generated from the command line's own definition: shell completions and the manual page. It describes
//! nothing in words of its own.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::Cli;

/// Prints a completion script.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "driftless", &mut script);
    print(&script)
}

/// Prints the manual page, all commands in one.
pub fn manpage() -> ExitCode {
    match page() {
        Ok(page) => print(&page),
        Err(e) => {
            eprintln!("driftless: cannot make the manual page: {e}");
            ExitCode::FAILURE
        }
    }
}

fn page() -> io::Result<Vec<u8>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let whole = Man::new(command.clone());
    let mut page = Vec::new();
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    for (name, part) in parts(&command) {
        Roff::new().control("SH", [name.to_uppercase().as_str()]).to_writer(&mut page)?;
        if let Some(about) = part.get_about() {
            Roff::new().text([roman(about.to_string())]).to_writer(&mut page)?;
        }
        let part = Man::new(part.clone());
        let mut sections = Vec::new();
        part.render_synopsis_section(&mut sections)?;
        part.render_options_section(&mut sections)?;
        part.render_extra_section(&mut sections)?;
        // Below the command's own heading they are subsections.
        page.extend_from_slice(String::from_utf8_lossy(&sections).replace("\n.SH ", "\n.SS ").as_bytes());
    }
    whole.render_extra_section(&mut page)?;
    whole.render_version_section(&mut page)?;
    Ok(page)
}

/// The commands with their whole names, `driftless service add` among them.
fn parts(command: &clap::Command) -> Vec<(String, &clap::Command)> {
    let mut parts = Vec::new();
    for part in command.get_subcommands() {
        let name = format!("driftless {}", part.get_name());
        let inner = part.get_subcommands().filter(|inner| inner.get_name() != "help");
        let inner: Vec<_> = inner.map(|inner| (format!("{name} {}", inner.get_name()), inner)).collect();
        // A command of commands says nothing that they do not say.
        if inner.is_empty() { parts.push((name, part)) } else { parts.extend(inner) }
    }
    parts
}

/// A reader that has seen enough is no failure.
fn print(text: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("driftless: cannot print: {e}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_page_has_every_command_and_option() {
        let page = String::from_utf8(page().expect("made in memory")).expect("text").replace('\\', "");
        for (name, part) in parts(&Cli::command()) {
            assert!(page.contains(&name.to_uppercase()), "{name}");
            for option in part.get_opts().filter(|option| !option.is_hide_set()).filter_map(clap::Arg::get_long) {
                assert!(page.contains(&format!("--{option}")), "{option}");
            }
        }
        assert!(page.contains("Exit codes"));
    }
}
