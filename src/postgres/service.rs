//! Connection service files: `service=NAME` stands for a section of settings.

use super::conninfo::{ConnInfoError, LibpqEnvironment, known};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where libpq builds of the usual distributions look for `pg_service.conf` when `PGSYSCONFDIR` is not set:
/// Debian's, Red Hat's, and a source build's.
const SYSTEM_FOLDERS: &[&str] = &["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"];

/// The settings of the service, in the order of the file; of a keyword given twice the first counts.
///
/// Searched are `servicefile=`, else `PGSERVICEFILE`, else `~/.pg_service.conf`; and if the service is not in there, the system's file.
pub(super) fn read(
    name: &str,
    file: Option<PathBuf>,
    environment: &LibpqEnvironment,
) -> Result<Vec<(&'static str, String)>, ConnInfoError> {
    let named = file.or_else(|| environment.variable("PGSERVICEFILE").map(PathBuf::from));
    let own = match &named {
        Some(file) => Some(file.clone()),
        None => environment.home.as_ref().map(|home| home.join(".pg_service.conf")),
    };
    let mut candidates: Vec<PathBuf> = own.into_iter().collect();
    match environment.variable("PGSYSCONFDIR") {
        Some(folder) => candidates.push(Path::new(folder).join("pg_service.conf")),
        None => candidates.extend(SYSTEM_FOLDERS.iter().map(|folder| Path::new(folder).join("pg_service.conf"))),
    }
    let mut searched = Vec::new();
    for path in candidates {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && named.as_ref() != Some(&path) => {
                searched.push(path);
                continue;
            }
            Err(error) => return Err(ConnInfoError::ServiceFile { path, line: 0, what: error.to_string() }),
        };
        if let Some(settings) = section(&path, &text, name)? {
            return Ok(settings);
        }
        searched.push(path);
    }
    Err(ConnInfoError::NoSuchService { name: name.to_owned(), searched })
}

fn section(path: &Path, text: &str, name: &str) -> Result<Option<Vec<(&'static str, String)>>, ConnInfoError> {
    let wrong =
        |line: usize, what: &str| ConnInfoError::ServiceFile { path: path.to_owned(), line: line + 1, what: what.to_owned() };
    let mut found: Option<Vec<(&'static str, String)>> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if header.strip_suffix(']') == Some(name) {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(settings) = &mut found else { continue };
        if line.starts_with("ldap") {
            return Err(wrong(number, "LDAP lookups are not supported"));
        }
        // The value may be a password, and a password may look like a line of its own: neither is shown.
        let Some((key, value)) = line.split_once('=') else { return Err(wrong(number, "a line without \"=\"")) };
        let Some(keyword) = known(key) else { return Err(wrong(number, "not a connection parameter before the \"=\"")) };
        if keyword == "service" || keyword == "servicefile" {
            return Err(wrong(number, "a service may not name another"));
        }
        if !settings.iter().any(|(earlier, _)| *earlier == keyword) {
            settings.push((keyword, value.to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# fleet\n[eu1]\nhost=db1.example.com\nport=5433\n  user=backup \nhost=db2\npassword=it's a=b\n\n[eu2]\nhost=x\n";

    fn environment(folder: &Path, variables: &[(&str, &str)]) -> LibpqEnvironment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        LibpqEnvironment::new(Some(folder.to_owned()), "me".to_owned(), variables)
    }

    #[test]
    fn values_are_literal_and_the_first_counts() {
        let settings = section(Path::new("f"), FILE, "eu1").unwrap().unwrap();
        assert_eq!(
            settings,
            [
                ("host", "db1.example.com".into()),
                ("port", "5433".into()),
                ("user", "backup".to_owned()),
                ("password", "it's a=b".into())
            ]
        );
        assert_eq!(section(Path::new("f"), FILE, "eu3").unwrap(), None);
    }

    #[test]
    fn the_home_file_comes_before_the_systems() {
        let home = tempfile::tempdir().unwrap();
        let system = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".pg_service.conf"), FILE).unwrap();
        std::fs::write(system.path().join("pg_service.conf"), "[eu1]\nhost=wrong\n[far]\nhost=y\n").unwrap();
        let environment = environment(home.path(), &[("PGSYSCONFDIR", system.path().to_str().unwrap())]);
        assert_eq!(read("eu1", None, &environment).unwrap()[0].1, "db1.example.com");
        assert_eq!(read("far", None, &environment).unwrap()[0].1, "y");
        let error = read("nowhere", None, &environment).unwrap_err();
        assert!(matches!(&error, ConnInfoError::NoSuchService { searched, .. } if searched.len() == 2), "{error}");
    }

    #[test]
    fn a_named_file_must_be_there_and_wrong_lines_are_named_without_their_text() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("services");
        let environment =
            environment(home.path(), &[("PGSERVICEFILE", file.to_str().unwrap()), ("PGSYSCONFDIR", "/nonexistent")]);
        assert!(matches!(read("a", None, &environment), Err(ConnInfoError::ServiceFile { line: 0, .. })));
        for body in ["[a]\nhost=x\nhunter2\n", "[a]\nhost=x\nhunter2=x\n", "[a]\nhost=x\nservice=hunter2\n"] {
            std::fs::write(&file, body).unwrap();
            let error = read("a", None, &environment).unwrap_err();
            assert!(matches!(error, ConnInfoError::ServiceFile { line: 3, .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
