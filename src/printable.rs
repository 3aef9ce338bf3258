//! Names from elsewhere, made safe to print.

/// Shows text with control characters escaped, so that a name from a database can neither forge a line nor drive a terminal.
pub struct Printable<'a>(pub &'a str);

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        if !self.0.chars().any(needs_escape) {
            return f.pad(self.0);
        }
        for c in self.0.chars() {
            if needs_escape(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Text of several lines, made safe to print, whatever names are in it: what drives a terminal is escaped, lines stay lines.
#[must_use]
pub fn lines(text: &str) -> String {
    text.split('\n').map(|line| Printable(line).to_string()).collect::<Vec<_>>().join("\n")
}

/// JSON whose strings hold no character that drives a terminal either: JSON itself escapes only those before the space.
#[must_use]
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        // Between the strings there are spaces and line ends only.
        if needs_escape(c) && c != '\n' {
            let mut units = [0; 2];
            safe.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A name as a word of a command that somebody may copy into a shell.
pub struct Word<'a>(pub &'a str);

impl std::fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dashes = if self.0.starts_with('-') { "-- " } else { "" };
        write!(f, "{dashes}{}", quoted(self.0))
    }
}

fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':' | '+' | '/');
    let name = Printable(name).to_string();
    if !name.is_empty() && name.chars().all(plain) {
        return name;
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

/// The command that does something to a tenant, and names it once more: `tenure drop acme --clear slots --confirm acme`. `options` begin with a
/// space, or are empty.
#[must_use]
pub fn confirmed(verb: &str, tenant: &str, options: &str) -> String {
    let name = quoted(tenant);
    match tenant.starts_with('-') {
        true => format!("tenure {verb}{options} --confirm={name} -- {name}"),
        false => format!("tenure {verb} {name}{options} --confirm {name}"),
    }
}

/// Control characters, and the marks that reorder text on a terminal.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{Printable, Word, confirmed};

    #[test]
    fn a_command_names_its_tenant_twice() {
        assert_eq!(confirmed("drop", "a b", " --clear slots"), "tenure drop 'a b' --clear slots --confirm 'a b'");
        assert_eq!(confirmed("drop", "-f", " --clear slots"), "tenure drop --clear slots --confirm=-f -- -f");
    }

    #[test]
    fn names_are_one_word_of_a_command() {
        for (name, word) in [("acme", "acme"), ("a b", "'a b'"), ("$(id)", "'$(id)'"), ("-f", "-- -f"), ("it's", r"'it'\''s'")] {
            assert_eq!(Word(name).to_string(), word);
        }
    }

    #[test]
    fn json_stays_the_same_document() {
        let name = "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\n🦀";
        let text = serde_json::to_string_pretty(&[name]).unwrap();
        let safe = super::json(&text);
        assert_eq!(serde_json::from_str::<[String; 1]>(&safe).unwrap(), [name]);
        assert!(text.contains('\u{9b}') && !safe.contains(|c: char| super::needs_escape(c) && c != '\n'), "{safe:?}");
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(Printable("a\"b é 🦀").to_string(), "a\"b é 🦀");
        assert_eq!(Printable("a\nb\u{1b}[2J\u{202e}").to_string(), "a\\nb\\u{1b}[2J\\u{202e}");
    }
}
