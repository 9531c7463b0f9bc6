//! Owns the parts of an entry's name, for names that are made from it: bytes, cut where a person would cut them.

/// The longest name that Linux's filesystems take, in bytes.
pub const LONGEST: usize = 255;
/// What is longer after the last dot is no extension.
const LONGEST_EXTENSION: usize = 16;

/// A name without its extension, and the extension with its dot.
pub fn split_extension(name: &[u8]) -> (&[u8], &[u8]) {
    let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0);
    match dot {
        Some(dot) if name.len() - dot <= LONGEST_EXTENSION && dot + 1 < name.len() => name.split_at(dot),
        _ => (name, &[]),
    }
}

/// As much of the beginning of a name as leaves room for `tail`, not cut within a character where it is UTF-8; then `tail`.
pub fn with_tail(name: &[u8], tail: &[u8]) -> Vec<u8> {
    let most = LONGEST.saturating_sub(tail.len());
    [shortened(name, most), tail].concat()
}

fn shortened(name: &[u8], most: usize) -> &[u8] {
    if name.len() <= most {
        return name;
    }
    let is_inside = |at: &usize| name[*at] & 0b1100_0000 == 0b1000_0000;
    // No character has more than four bytes.
    let end = (most.saturating_sub(3)..=most).rev().find(|at| !is_inside(at)).unwrap_or(most);
    &name[..end]
}
