//! `key=value key = 'quoted \'value\''`.

use super::{ConnInfoError, Settings, known};

pub(super) fn parse(description: &str) -> Result<Settings, ConnInfoError> {
    let mut settings = Settings::default();
    let mut secretive = false;
    let mut reader = Reader { text: description.chars().collect(), at: 0 };
    loop {
        reader.skip_space();
        if reader.peek().is_none() {
            return Ok(settings);
        }
        let start = reader.at + 1;
        let name = reader.name();
        reader.skip_space();
        if reader.peek() != Some('=') {
            return Err(ConnInfoError::Syntax { what: "a word without \"=\"", position: start });
        }
        reader.at += 1;
        reader.skip_space();
        let Some(keyword) = known(&name) else {
            // A password with an unquoted space ends up here.
            let name = if secretive { String::new() } else { name };
            return Err(ConnInfoError::UnknownKeyword { name, position: Some(start) });
        };
        secretive |= keyword.contains("password");
        let value = reader.value()?;
        settings.set(keyword, value);
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn name(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|c| c != '=' && !c.is_ascii_whitespace()) {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default().iter().collect()
    }

    fn value(&mut self) -> Result<String, ConnInfoError> {
        let opened = self.at + 1;
        let quoted = self.peek() == Some('\'');
        if quoted {
            self.at += 1;
        }
        let mut value = String::new();
        loop {
            match self.peek() {
                None if quoted => {
                    return Err(ConnInfoError::Syntax { what: "a quoted value without its closing quote", position: opened });
                }
                None => return Ok(value),
                Some('\'') if quoted => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(c) if !quoted && c.is_ascii_whitespace() => return Ok(value),
                Some('\\') => {
                    self.at += 1;
                    // A backslash at the very end stands for nothing, as in libpq.
                    value.extend(self.peek());
                }
                Some(c) => value.push(c),
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_libpqs() {
        assert_eq!(
            settings(r"host = here  user='o\'brien \\ x' password=a\ b\'c dbname='' port=1"),
            [
                ("dbname", String::new()),
                ("host", "here".into()),
                ("password", "a b'c".into()),
                ("port", "1".into()),
                ("user", r"o'brien \ x".into())
            ]
        );
        assert_eq!(settings(""), []);
        assert_eq!(settings(" dbname='host=x' "), [("dbname", "host=x".into())]);
        assert_eq!(settings("user=a user=b"), [("user", "b".into())]);
    }

    #[test]
    fn broken_words_say_where() {
        for (description, position) in [("host", 1), ("host=a junk", 8), ("user='a", 6)] {
            let error = parse(description).err().unwrap();
            assert!(matches!(error, ConnInfoError::Syntax { position: p, .. } if p == position), "{description}: {error}");
        }
    }
}
