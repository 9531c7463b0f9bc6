//! What the Debian package carries of the command line: a copy each, for the package is built without running anything.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_manual_page_and_the_completions_of_the_package_are_those_of_the_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".debian/generated");
    let table: [(&str, &[&str]); 4] = [
        ("driftless.1", &["manpage"]),
        ("driftless.bash", &["completions", "bash"]),
        ("_driftless", &["completions", "zsh"]),
        ("driftless.fish", &["completions", "fish"]),
    ];
    for (name, words) in table {
        let made = Command::new(env!("CARGO_BIN_EXE_driftless")).args(words).output().expect("ran").stdout;
        let kept = fs::read(folder.join(name)).expect("there");
        assert!(made == kept, ".debian/generated/{name} is of another command line: run .debian/refresh");
    }
}
