//! The layers, read from the sources: who may name whom, and what stands nowhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may use whom. The person's side (`cli`, `config`, `commands`, `main`) may use all, and nobody here uses it.
const TABLE: [(&str, &[&str]); 4] = [
    ("tree", &["tree"]),
    ("plan", &["tree", "plan"]),
    ("fs", &["tree", "fs"]),
    ("service", &["tree", "plan", "fs", "service"]),
];

fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let all = walkdir::WalkDir::new(&src).into_iter().map(|entry| entry.expect("walk").into_path());
    let rust = all.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let relative = |path: &Path| path.strip_prefix(&src).expect("below src").to_owned();
    let found: Vec<_> = rust.map(|path| (relative(&path), fs::read_to_string(&path).expect("read"))).collect();
    assert!(!found.is_empty());
    found
}

/// `tree/path.rs` and `tree.rs` are both of the layer `tree`.
fn layer_of(file: &Path) -> String {
    let first = file.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map_or(first.clone(), str::to_owned)
}

/// The text without comments and without what strings and characters hold.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len())
        } else if next == '"' {
            quoted(rest)
        } else if let Some(length) = character(rest) {
            length
        } else {
            code.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        rest = &rest[skipped..];
    }
    code
}

/// How many hashes open the raw string that begins here, if one does.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'').or_else(|| rest.strip_prefix("b'"))?;
    let begin = rest.len() - inside.len();
    if inside.starts_with('\\') {
        return inside[2..].find('\'').map(|at| begin + 2 + at + 1);
    }
    let first = inside.chars().next()?.len_utf8();
    inside[first..].starts_with('\'').then_some(begin + first + 1)
}

/// The code without its `#[cfg(test)] mod … { … }`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let (open, end) = (item.find('{').unwrap_or(item.len()), item.find(';').unwrap_or(item.len()));
        rest = if end < open { &item[(end + 1).min(item.len())..] } else { &item[closing(item, open)..] };
    }
    kept + rest
}

/// Where the brace that opens at `open` is closed, and one on.
fn closing(text: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The layers that the code names: `crate::x`, `crate::{x::…, y}`, and `super::` as often as leads to the top.
fn named_layers(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for start in ["crate::", "driftless::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            match rest.strip_prefix('{') {
                Some(group) => named.extend(firsts_of_group(&group[..closing(rest, 0).saturating_sub(2)])),
                None => named.extend([word(rest)]),
            }
        }
    }
    named
}

fn firsts_of_group(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut firsts = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => firsts.push(String::new()),
            _ => firsts.last_mut().expect("one").push(c),
        }
    }
    firsts.iter().map(|first| word(first.trim())).filter(|first| !first.is_empty()).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn layers_name_only_what_the_table_allows() {
    let layers: BTreeSet<String> = sources().iter().map(|(file, _)| layer_of(file)).collect();
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some((layer, allowed)) = TABLE.iter().find(|(layer, _)| *layer == layer_of(&file)) else { continue };
        let named = named_layers(&without_tests(&code_of(&text)));
        for other in named.iter().filter(|name| layers.contains(*name) && !allowed.contains(&name.as_str())) {
            wrong.push(format!("{}: {layer} names {other}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn layers_are_reached_from_the_top_and_not_by_climbing() {
    // `super::super::…` out of a layer would go round the table.
    let mut wrong = Vec::new();
    for (file, text) in
        sources().into_iter().filter(|(file, _)| TABLE.iter().any(|(layer, _)| *layer == layer_of(file)))
    {
        let depth = file.with_extension("").components().count();
        let climbs = format!("super::{}", "super::".repeat(depth - 1));
        if without_tests(&code_of(&text)).contains(&climbs) {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn unsafe_code_is_in_one_file_at_most() {
    let has_unsafe = |text: &str| {
        let code = code_of(text);
        let mut words = code.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.any(|word| word == "unsafe")
    };
    let files: Vec<_> = sources().into_iter().filter(|(_, text)| has_unsafe(text)).map(|(file, _)| file).collect();
    assert!(files.len() <= 1, "{files:?}");
}

#[test]
fn nothing_is_left_undone_and_no_test_is_set_aside() {
    let words = ["#[ignore", "should_panic", "todo!", "unimplemented!"];
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let of_tests = walkdir::WalkDir::new(tests).into_iter().map(|entry| entry.expect("walk").into_path());
    let of_tests =
        of_tests.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read_to_string(path).expect("read")));
    let mut wrong = Vec::new();
    for (file, text) in sources().into_iter().chain(of_tests) {
        let code = code_of(&text);
        wrong.extend(
            words.iter().filter(|word| code.contains(**word)).map(|word| format!("{}: {word}", file.display())),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sources_open_with_what_they_own() {
    let silent: Vec<_> =
        sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(file, _)| file).collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}

#[test]
fn reader_of_sources_sees_edges_and_nothing_else() {
    let code = r##"
        //! crate::comment::x
        use crate::tree::path::RelPath; /* crate::block::y */
        use crate::{plan::{a, b}, fs::Root, service};
        fn f<'a>(text: &'a str) -> char { crate::config::load("crate::string::z", r#"crate::raw::"q""#); '"' }
        #[cfg(test)]
        mod tests { use crate::tested::t; fn g() { { } } }
        use crate::cli;
    "##;
    let named: Vec<_> = named_layers(&without_tests(&code_of(code))).into_iter().collect();
    assert_eq!(named, ["cli", "config", "fs", "plan", "service", "tree"]);
}
