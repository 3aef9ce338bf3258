//! Patterns over tenant names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `bank_*`: `*` stands for any run of characters, `?` for one; everything else for itself, upper and lower case apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Glob(pub String);

impl Glob {
    /// Whether the whole of `name` fits.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let name: Vec<char> = name.chars().collect();
        let (mut p, mut n) = (0, 0);
        // Where to go back to when what follows the last `*` does not fit.
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            match pattern.get(p) {
                Some('*') => {
                    retry = Some((p, n));
                    p += 1;
                }
                Some(c) if *c == '?' || *c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((star, taken)) = retry else { return false };
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    n = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|c| *c == '*')
    }

    /// Whether every name fits.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn stars_and_question_marks() {
        for (glob, name, fits) in [
            ("bank_*", "bank_a", true),
            ("bank_*", "bank_", true),
            ("bank_*", "a_bank_b", false),
            ("*", "", true),
            ("*a*b", "xxaxxbab", true),
            ("*a*b", "xxaxxba", false),
            ("?", "é", true),
            ("?", "", false),
            ("Acme", "acme", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(Glob(glob.into()).matches(name), fits, "{glob} {name}");
        }
    }
}
