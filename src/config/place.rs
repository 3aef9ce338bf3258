//! Where in the file something stands, so that every refusal can name its line and its key.

use std::{ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// The positions of every key in one file.
pub(super) struct Places<'a> {
    text: &'a str,
    file: &'a Path,
    top: Top,
    table: DeTable<'a>,
}

/// What stands at the top of a file, for saying what is missing there.
#[derive(Clone, Copy)]
pub(super) enum Top {
    /// Tables, as in `tenure.toml`.
    Tables,
    /// Settings, as in a schedule.
    Settings,
}

/// One step of the way to a value.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

impl<'a> Places<'a> {
    pub(super) fn new(text: &'a str, file: &'a Path, top: Top) -> Result<Self, ConfigError> {
        match DeTable::parse(text) {
            Ok(table) => Ok(Self { text, file, top, table: table.into_inner() }),
            Err(error) => Err(Self { text, file, top, table: DeTable::new() }.at(
                error.span(),
                String::new(),
                error.message().to_owned(),
                String::new(),
            )),
        }
    }

    /// Refuses the value at `path`.
    pub(super) fn refuse(&self, path: &[Step<'_>], message: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        let span = self.span_of(path);
        self.at(span, spell(path), message.into(), hint.into())
    }

    /// Refuses the value at `path`, whose feature this version does not have.
    pub(super) fn not_built(&self, path: &[Step<'_>], what: &str, hint: &str) -> ConfigError {
        self.refuse(path, format!("`{}`: {what} is not built yet", spell(path)), hint)
    }

    /// Says in our words what serde found wrong.
    pub(super) fn explain(&self, error: &toml::de::Error) -> ConfigError {
        // What the file as a whole lacks stands on no line of it. The parser says that of its first line.
        let is_lacking = matches!(self.top, Top::Settings) && error.message().starts_with("missing field");
        let span = error.span().filter(|_| !is_lacking);
        let key = span.as_ref().map(|span| self.key_at(span)).unwrap_or_default();
        let (message, hint) = reword(error.message(), &key, self.top);
        self.at(span, key, message, hint)
    }

    fn at(&self, span: Option<Range<usize>>, key: String, message: String, hint: String) -> ConfigError {
        let line = span.map(|span| self.text[..span.start.min(self.text.len())].matches('\n').count() + 1);
        ConfigError { file: self.file.to_owned(), line, key, message, hint, source: None }
    }

    fn span_of(&self, path: &[Step<'_>]) -> Option<Range<usize>> {
        let mut table = Some(&self.table);
        let mut array = None;
        let mut span = None;
        for step in path {
            let value = match step {
                Step::Key(key) => {
                    let Some((name, value)) = table?.iter().find(|(name, _)| name.get_ref() == key) else { return span };
                    span = Some(name.span());
                    value
                }
                Step::Item(item) => {
                    let value: &toml::Spanned<DeValue<'_>> = <[_]>::get(array?, *item)?;
                    span = Some(value.span());
                    value
                }
            };
            table = value.get_ref().as_table();
            array = value.get_ref().as_array().map(|items| &items[..]);
        }
        span
    }

    /// The key whose name or value contains `span`; the deepest one.
    fn key_at(&self, span: &Range<usize>) -> String {
        let mut best = Vec::new();
        search_table(&self.table, span, &mut Vec::new(), &mut best);
        best.join(".")
    }
}

fn search_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>, best: &mut Vec<String>) {
    for (name, value) in table {
        path.push(name.get_ref().to_string());
        if name.span().contains(&span.start) {
            best.clone_from(path);
        }
        search_value(value, span, path, best);
        path.pop();
    }
}

fn search_value(value: &toml::Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut Vec<String>, best: &mut Vec<String>) {
    if value.span().contains(&span.start) && path.len() >= best.len() {
        best.clone_from(path);
    }
    if let Some(table) = value.get_ref().as_table() {
        search_table(table, span, path, best);
    }
    for item in value.get_ref().as_array().into_iter().flatten() {
        search_value(item, span, path, best);
    }
}

fn spell(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Item(item) => text.push_str(&format!("[{item}]")),
        }
    }
    text
}

/// serde says `unknown field `jbos`, expected one of `jobs`, `yield_after``. An operator knows keys, not fields, and wants the nearest.
fn reword(message: &str, key: &str, top: Top) -> (String, String) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") {
        let (unknown, known) = quoted.split_first().map_or(("", &[][..]), |(unknown, known)| (*unknown, known));
        let place = key.rsplit_once('.').map_or(String::new(), |(table, _)| format!(" in [{table}]"));
        let hint = if known.is_empty() { "remove it".to_owned() } else { suggest(unknown, known, "known keys are") };
        (format!("unknown key `{unknown}`{place}"), hint)
    } else if let (true, [unknown, known @ ..]) = (message.starts_with("unknown variant"), &quoted[..]) {
        (format!("`{key}`: there is no `{unknown}`"), suggest(unknown, known, "use one of"))
    } else if message.starts_with("missing field") {
        let missing = quoted.first().copied().unwrap_or_default();
        match top {
            _ if !key.is_empty() => (format!("[{key}] has no `{missing}`"), format!("add `{missing} = …` below [{key}]")),
            Top::Tables => {
                (format!("there is no [{missing}]"), format!("add a [{missing}] table; `tenure init` writes a complete file"))
            }
            Top::Settings => (
                format!("there is no `{missing}`"),
                format!("add `{missing} = …`; `tenure schedules --write` writes complete files"),
            ),
        }
    } else if key.is_empty() {
        (message.to_owned(), String::new())
    } else if let Some((wrong, expected)) = message.split_once(": expected ") {
        (format!("`{key}`: {wrong}"), format!("expected {expected}"))
    } else {
        (format!("`{key}`: {message}"), String::new())
    }
}

/// What is most like it, or all there is.
fn suggest(unknown: &str, known: &[&str], otherwise: &str) -> String {
    let nearest = known.iter().map(|known| (strsim::jaro_winkler(unknown, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, known)) if likeness > 0.8 => format!("did you mean `{known}`?"),
        _ => format!("{otherwise} {}", known.join(", ")),
    }
}
