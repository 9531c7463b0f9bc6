//! Owns the text of a new configuration: the example's, with the pair's own values in it. It reads none; that is
//! `config`'s.

const EXAMPLE: &str = include_str!("../../../systemd/example.toml");

/// A configuration with every key explained, of which only these three are set.
pub fn text(name: &str, source: &str, replica: &str) -> String {
    let mut text = String::with_capacity(EXAMPLE.len() + source.len() + replica.len());
    for line in EXAMPLE.lines() {
        let value = |key: &str| line.trim_start_matches('#').starts_with(&format!("{key} = "));
        match [("source", source), ("replica", replica), ("name", name)].into_iter().find(|(key, _)| value(key)) {
            Some((key, value)) => text.push_str(&format!("{key} = {}", toml::Value::from(value))),
            None if line.starts_with("# driftless: one pair of folders.") => {
                text.push_str(
                    "# driftless: one pair of folders. Written by `driftless service add`; change it as you like.",
                );
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_in_the_text_and_nothing_else_is_set() {
        let source = "/home/a \"b\"\\c/'ä'#%";
        let read: toml::Table = text("photos", source, "/r").parse().expect("TOML");
        let set: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default())).collect();
        assert_eq!(set, [("name", "photos"), ("replica", "/r"), ("source", source)]);
    }
}
