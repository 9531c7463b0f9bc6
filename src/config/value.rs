//! Owns what a value of the configuration file may be: which kind each key takes, and what is said where it is another. It
//! knows no key.

use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;
use toml::Spanned;
use toml::de::DeValue;

use crate::tree::exclude::Exclude;
use crate::tree::quote::quoted;
use crate::tree::tag::Tag;

/// A value and where it stands.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// What is wrong with a value, and where.
#[derive(Debug)]
pub struct Wrong {
    /// In bytes from the beginning of the file.
    pub at: usize,
    pub reason: String,
}

/// # Errors
/// It is no text.
pub fn text(value: &Value) -> Result<String, Wrong> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        _ => Err(other_kind(value, "a text")),
    }
}

/// A pattern of what is left alone.
///
/// # Errors
/// It is no text, or gitignore's syntax does not allow it.
pub fn pattern(value: &Value) -> Result<String, Wrong> {
    let text = text(value)?;
    match Exclude::new([text.as_str()]) {
        Ok(_) => Ok(text),
        Err(bad) => Err(wrong(value, bad.to_string())),
    }
}

/// # Errors
/// It is neither true nor false.
pub fn flag(value: &Value) -> Result<bool, Wrong> {
    match value.get_ref() {
        DeValue::Boolean(flag) => Ok(*flag),
        _ => Err(other_kind(value, "true or false")),
    }
}

/// A text or a number, read as it would be on the command line.
///
/// # Errors
/// It is neither, or what `parse` says.
pub fn word<T>(value: &Value, form: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Wrong> {
    let word = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => number.to_string(),
        },
        DeValue::Float(number) => number.to_string(),
        _ => return Err(other_kind(value, form)),
    };
    parse(&word).map_err(|reason| wrong(value, reason))
}

/// # Errors
/// It is no list, or what `each` says of the first that is wrong in it.
pub fn list<T>(value: &Value, form: &str, each: impl Fn(&Value) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    match value.get_ref() {
        DeValue::Array(values) => values.iter().map(each).collect(),
        _ => Err(other_kind(value, form)),
    }
}

/// One of the words that an option of the command line takes.
///
/// # Errors
/// It is none of them, which are named.
pub fn one_of<T: ValueEnum>(value: &Value) -> Result<T, Wrong> {
    let names = T::value_variants().iter().filter_map(T::to_possible_value);
    let names: Vec<String> = names.map(|name| format!("\"{}\"", name.get_name())).collect();
    let form = names.join(" or ");
    match value.get_ref() {
        DeValue::String(word) => T::from_str(word, false).map_err(|_| wrong(value, format!("must be {form}"))),
        _ => Err(other_kind(value, &form)),
    }
}

/// A small number.
///
/// # Errors
/// What is wrong with it, for the person.
pub fn small(text: &str) -> Result<u8, String> {
    text.trim().parse().map_err(|_| "must be a number from 0 to 255".into())
}

/// A whole path. A service has no folder and no home of the person's that a path could be relative to, and nobody expands
/// anything in it.
///
/// # Errors
/// What has to be written instead.
pub fn path(value: &Value) -> Result<PathBuf, Wrong> {
    let DeValue::String(text) = value.get_ref() else {
        return Err(other_kind(value, "a path, as in \"/home/user/photos\""));
    };
    let path = PathBuf::from(text.to_string());
    let reason = if text.is_empty() {
        "is empty; write the whole path, from / on".to_string()
    } else if text.starts_with('~') {
        "`~` is not expanded here; write the whole path, as in \"/home/user/photos\"".to_string()
    } else if let Some(variable) = unexpanded(&path) {
        format!("`{variable}` is not expanded here; write out what it stands for")
    } else if text.contains('\0') {
        "has a NUL character, which no path can have".to_string()
    } else if path.is_relative() {
        format!("{} is not an absolute path; write it from / on", quoted(text.as_bytes()))
    } else {
        return Ok(path);
    };
    Err(wrong(value, reason))
}

/// A folder: by its whole path, or by its filesystem (see `tree::tag`).
///
/// # Errors
/// What has to be written instead.
pub fn folder(value: &Value) -> Result<PathBuf, Wrong> {
    let DeValue::String(text) = value.get_ref() else { return path(value) };
    match Tag::parse(Path::new(text.as_ref())) {
        None => path(value),
        Some(Ok(tag)) => Ok(tag.to_path()),
        Some(Err(reason)) => Err(wrong(value, reason)),
    }
}

pub fn is_table(value: &Value) -> bool {
    match value.get_ref() {
        DeValue::Table(_) => true,
        DeValue::Array(values) => values.iter().any(|value| matches!(value.get_ref(), DeValue::Table(_))),
        _ => false,
    }
}

/// The first part of a path that a shell or systemd would put something else for: a name that is nothing but a variable
/// (`$HOME`), anything with `${…}` in it, and a specifier of unit files (`%h`).
pub fn unexpanded(path: &Path) -> Option<&str> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let mut names = names.filter(|name| {
        let is_variable = name.strip_prefix('$').is_some_and(is_name);
        let has_braces = name.split_once("${").is_some_and(|(_, rest)| rest.contains('}'));
        let is_specifier = name.strip_prefix('%').is_some_and(|rest| rest.len() == 1 && is_name(rest));
        is_variable || has_braces || is_specifier
    });
    names.next()
}

fn other_kind(value: &Value, form: &str) -> Wrong {
    let kind = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    };
    wrong(value, format!("takes {form}, and not {kind}"))
}

fn wrong(value: &Value, reason: String) -> Wrong {
    Wrong { at: value.span().start, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_expands_is_refused_in_paths() {
        let read = |text: &str| path(&Spanned::new(0..0, DeValue::String(text.into()))).map_err(|wrong| wrong.reason);
        let table = [
            ("~/photos", "`~` is not expanded here"),
            ("~user/photos", "`~` is not expanded here"),
            ("$HOME/photos", "`$HOME` is not expanded here"),
            ("/home/$USER/photos", "`$USER` is not expanded here"),
            ("/home/${USER}/photos", "`${USER}` is not expanded here"),
            ("/srv/a-${X}-b", "`a-${X}-b` is not expanded here"),
            ("%h/photos", "`%h` is not expanded here"),
            ("/srv/%i", "`%i` is not expanded here"),
            ("", "is empty"),
            ("photos", "'photos' is not an absolute path"),
            ("./photos", "'./photos' is not an absolute path"),
            ("/a\0b", "has a NUL character"),
        ];
        for (text, message) in table {
            let reason = read(text).expect_err(text);
            assert!(reason.starts_with(message), "{text}: {reason}");
        }
        for text in ["/a", "/srv/$RECYCLE.BIN", "/srv/100%", "/srv/%20", "/srv/a~", "/srv/$", "/srv/$5", "/é"] {
            assert_eq!(read(text), Ok(text.into()));
        }
    }
}
