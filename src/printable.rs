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

/// Control characters, and the marks that reorder text on a terminal.
fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::Printable;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(Printable("a\"b é 🦀").to_string(), "a\"b é 🦀");
        assert_eq!(Printable("a\nb\u{1b}[2J\u{202e}").to_string(), "a\\nb\\u{1b}[2J\\u{202e}");
    }
}
