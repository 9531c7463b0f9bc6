//! Owns what is generated from the command line's own definition: shell completions and the manual page. It describes
//! nothing in words of its own; what the definition has no place for is in `cli::help`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::{Cli, help};

/// What the commands have in common.
const DESCRIPTION: &str = "driftless makes one pass over both folders, then follows the kernel's events and carries each \
    change over. At an interval it sweeps the whole tree again, because events can be lost and some changes raise none. \
    What is removed from the source is removed from the replica: it is a mirror, and keeps no versions.";

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
    Roff::new().control("SH", ["DESCRIPTION"]).text([roman(DESCRIPTION)]).to_writer(&mut page)?;
    for (name, part) in parts(&command) {
        Roff::new().control("SH", [name.to_uppercase().as_str()]).to_writer(&mut page)?;
        if let Some(about) = part.get_about() {
            Roff::new().text([roman(format!("{about}."))]).to_writer(&mut page)?;
        }
        let mut sections = Vec::new();
        let man = Man::new(part.clone());
        man.render_synopsis_section(&mut sections)?;
        man.render_options_section(&mut sections)?;
        blocks(part, &mut sections)?;
        // Below the command's own heading they are subsections.
        page.extend_from_slice(String::from_utf8_lossy(&sections).replace("\n.SH ", "\n.SS ").as_bytes());
    }
    for (title, terms) in help::MANUAL {
        let mut section = Roff::new();
        section.control("SH", [title]);
        for (term, text) in terms {
            section.control("TP", []).text([bold(*term)]).text([roman(*text)]);
        }
        section.to_writer(&mut page)?;
    }
    blocks(&command, &mut page)?;
    Roff::new().control("SH", ["SEE ALSO"]).text([roman(help::SEE_ALSO)]).to_writer(&mut page)?;
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

/// What stands below the options: its blocks as sections of the names that manual pages have, line for line.
fn blocks(command: &clap::Command, page: &mut Vec<u8>) -> io::Result<()> {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for block in text.split("\n\n") {
        let Some((title, lines)) = block.split_once(":\n") else { continue };
        let title = match title {
            "Exit codes" => "EXIT STATUS".into(),
            "Example" => "EXAMPLES".into(),
            title => title.to_uppercase(),
        };
        let mut section = Roff::new();
        section.control("SH", [title.as_str()]).control("nf", []);
        lines.lines().for_each(|line| {
            section.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        });
        section.control("fi", []).to_writer(page)?;
    }
    Ok(())
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
        let sections = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "FILES",
            "ENVIRONMENT",
            "EXAMPLES",
            "EXIT STATUS",
            "SEE ALSO",
            "VERSION",
        ];
        for section in sections {
            assert!(
                page.contains(&format!("\n.SH {section}\n")) || page.contains(&format!("\n.SH \"{section}\"\n")),
                "{section}"
            );
        }
    }
}
