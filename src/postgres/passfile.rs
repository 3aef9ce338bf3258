//! `.pgpass`: lines of `host:port:database:user:password`, the first that matches counts.

use secrecy::SecretString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What a line must match.
pub(super) struct Wanted<'a> {
    /// The host name, else its address, else the socket's folder; `localhost` for the default folder.
    pub host: &'a str,
    pub port: u16,
    pub database: &'a str,
    pub user: &'a str,
}

/// The password for it, if the file has one. A file that others may read is ignored with a warning, as libpq does.
pub(super) fn look_up(path: &Path, wanted: &Wanted<'_>) -> Option<SecretString> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(file.path = %path.display(), error = %error, "password file {} cannot be read", path.display());
            return None;
        }
    };
    if !metadata.is_file() {
        // PGPASSFILE=/dev/null is a way to say "none".
        if path != Path::new("/dev/null") {
            tracing::warn!(file.path = %path.display(), "password file {} is not a plain file: ignored", path.display());
        }
        return None;
    }
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!(
            file.path = %path.display(),
            "password file {} can be read by others: ignored until its permissions are 0600 or less", path.display()
        );
        return None;
    }
    match std::fs::read_to_string(path) {
        Ok(text) => find(&zeroize::Zeroizing::new(text), wanted),
        Err(error) => {
            tracing::warn!(file.path = %path.display(), error = %error, "password file {} cannot be read", path.display());
            None
        }
    }
}

fn find(text: &str, wanted: &Wanted<'_>) -> Option<SecretString> {
    let port = wanted.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for expected in [wanted.host, &port, wanted.database, wanted.user] {
            let (field, after) = field(rest)?;
            if field.text != expected && !field.is_star {
                return None;
            }
            rest = after;
        }
        let (password, _) = field_to_end(rest);
        Some(SecretString::from(password))
    })
}

struct Field {
    text: String,
    /// A lone, unescaped `*`.
    is_star: bool,
}

/// The field before the next unescaped colon, and what follows it.
fn field(line: &str) -> Option<(Field, &str)> {
    let (text, length) = field_to_end(line);
    let after = line.get(length..)?.strip_prefix(':')?;
    Some((Field { is_star: line.get(..length) == Some("*"), text }, after))
}

/// Unescapes up to the next unescaped colon or the end; gives the length taken.
fn field_to_end(line: &str) -> (String, usize) {
    let mut text = String::new();
    let mut characters = line.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            ':' => return (text, at),
            '\\' => text.extend(characters.next().map(|(_, c)| c)),
            c => text.push(c),
        }
    }
    (text, line.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;
    use std::os::unix::fs::PermissionsExt as _;

    const FILE: &str =
        "# comment\ndb1:5432:app:me:first\n*:5432:app:me:star\n/run/pg:*:*:m\\:e:a\\:b\\\\c:x\n\\*:*:*:*:literal\n";

    fn found(host: &str, database: &str, user: &str) -> Option<String> {
        find(FILE, &Wanted { host, port: 5432, database, user }).map(|password| password.expose_secret().to_owned())
    }

    #[test]
    fn the_first_matching_line_counts() {
        assert_eq!(found("db1", "app", "me").as_deref(), Some("first"));
        assert_eq!(found("db2", "app", "me").as_deref(), Some("star"));
        assert_eq!(found("db2", "other", "me"), None);
        assert_eq!(found("/run/pg", "x", "m:e").as_deref(), Some("a:b\\c"));
        assert_eq!(found("*", "x", "y").as_deref(), Some("literal"));
    }

    #[test]
    fn a_file_that_others_can_read_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, FILE).unwrap();
        let wanted = Wanted { host: "db1", port: 5432, database: "app", user: "me" };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(look_up(&path, &wanted).is_none());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(look_up(&path, &wanted).is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_password_comes_back_and_nothing_panics(fields in proptest::collection::vec("[^\n\r\0]{0,12}", 5), noise in "\\PC*") {
            let [host, database, user, password, other] = <[String; 5]>::try_from(fields).unwrap();
            let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:").replace('*', "\\*");
            // A line that begins with `#` is a comment, whatever follows.
            let line = format!("x{}:7:{}:{}:{}", escape(&host), escape(&database), escape(&user), escape(&password));
            let host = format!("x{host}");
            let wanted = Wanted { host: &host, port: 7, database: &database, user: &user };
            let found = find(&format!("# {noise}\n{line}\n{noise}\n"), &wanted).map(|found| found.expose_secret().to_owned());
            proptest::prop_assert_eq!(found, Some(password));
            drop(find(&noise, &Wanted { host: &other, ..wanted }));
        }
    }
}
