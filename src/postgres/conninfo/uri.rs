//! `postgresql://user:password@host:port,host2/database?key=value`.

use super::{ConnInfoError, Settings, known};
use percent_encoding::percent_decode_str;

/// Parses what follows `postgresql://`, which is `offset` bytes long.
pub(super) fn parse(rest: &str, offset: usize) -> Result<Settings, ConnInfoError> {
    let mut settings = Settings::default();
    let (authority, path, query) = split(rest);
    let at = |part: &str| Position(offset + position_of(rest, part) + 1);

    let hosts = match authority.split_once('@') {
        None => authority,
        Some((userinfo, hosts)) => {
            let (user, password) = match userinfo.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            set(&mut settings, "user", &decode(user, at(user))?);
            if let Some(password) = password {
                set(&mut settings, "password", &decode(password, at(password))?);
            }
            if hosts.contains('@') {
                // Or the rest of the password would be looked for as a host, and shown.
                return Err(ConnInfoError::Syntax {
                    what: "a second \"@\": write it as %40 in a name or password",
                    position: offset + 1,
                });
            }
            hosts
        }
    };

    let mut names = Vec::new();
    let mut ports = Vec::new();
    for element in hosts.split(',') {
        let (name, port) = host_and_port(element, at(element))?;
        names.push(decode(name, at(element))?);
        ports.push(decode(port, at(element))?);
    }
    if names.iter().any(|name| !name.is_empty()) || names.len() > 1 {
        settings.set("host", names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        settings.set("port", ports.join(","));
    }

    set(&mut settings, "dbname", &decode(path, at(path))?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let position = at(pair);
        let Some((name, value)) = pair.split_once('=') else {
            return Err(ConnInfoError::Syntax { what: "a query parameter without \"=\"", position: position.0 });
        };
        let (name, value) = (decode(name, position)?, decode(value, position)?);
        match known(&name) {
            Some(keyword) => settings.set(keyword, value),
            // JDBC's word, which libpq takes too.
            None if name == "ssl" && value == "true" => settings.set("sslmode", "require".to_owned()),
            None => {
                // With a password in the URI a stray character may have moved part of it here.
                let name = if authority.contains('@') { String::new() } else { name };
                return Err(ConnInfoError::UnknownKeyword { name, position: Some(position.0) });
            }
        }
    }
    Ok(settings)
}

/// A place in the description, counted from 1.
#[derive(Clone, Copy)]
struct Position(usize);

fn position_of(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

fn split(rest: &str) -> (&str, &str, &str) {
    let (before, query) = rest.split_once('?').unwrap_or((rest, &rest[rest.len()..]));
    let (authority, path) = before.split_once('/').unwrap_or((before, &before[before.len()..]));
    (authority, path, query)
}

fn host_and_port(element: &str, position: Position) -> Result<(&str, &str), ConnInfoError> {
    let Some(bracketed) = element.strip_prefix('[') else {
        return Ok(element.split_once(':').unwrap_or((element, "")));
    };
    let Some((address, after)) = bracketed.split_once(']') else {
        return Err(ConnInfoError::Syntax { what: "an IPv6 address without its closing \"]\"", position: position.0 });
    };
    match after.strip_prefix(':') {
        Some(port) => Ok((address, port)),
        None if after.is_empty() => Ok((address, "")),
        None => Err(ConnInfoError::Syntax { what: "something after \"]\" that is not a port", position: position.0 }),
    }
}

fn decode(text: &str, position: Position) -> Result<String, ConnInfoError> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%'
            && !(bytes.next().is_some_and(|b| b.is_ascii_hexdigit()) && bytes.next().is_some_and(|b| b.is_ascii_hexdigit()))
        {
            return Err(ConnInfoError::Syntax { what: "a \"%\" without two hexadecimal digits", position: position.0 });
        }
    }
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| ConnInfoError::Syntax { what: "percent-encoded bytes that are not UTF-8", position: position.0 })?;
    if decoded.contains('\0') {
        return Err(ConnInfoError::Syntax { what: "\"%00\", which no value may hold", position: position.0 });
    }
    Ok(decoded.into_owned())
}

fn set(settings: &mut Settings, keyword: &'static str, value: &str) {
    if !value.is_empty() {
        settings.set(keyword, value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::super::{ConnInfoError, Settings};

    #[test]
    fn uris_are_libpqs() {
        assert_eq!(settings("postgresql://"), []);
        assert_eq!(
            settings(
                "postgresql://o%27brien:a%3Ab%40c@db1:5433,[::1],%2Frun%2Fpostgresql:6000/my%20db?sslmode=verify-ca&connect_timeout=3"
            ),
            [
                ("connect_timeout", "3".into()),
                ("dbname", "my db".into()),
                ("host", "db1,::1,/run/postgresql".into()),
                ("password", "a:b@c".into()),
                ("port", "5433,,6000".into()),
                ("sslmode", "verify-ca".into()),
                ("user", "o'brien".into()),
            ]
        );
        assert_eq!(settings("postgres:///tenants?host=/run/postgresql&ssl=true").len(), 3);
        assert_eq!(settings("postgresql://h?user=u"), [("host", "h".into()), ("user", "u".into())]);
        assert_eq!(settings("postgresql://u@/d"), [("dbname", "d".into()), ("user", "u".into())]);
    }

    #[test]
    fn broken_uris_say_where() {
        for (uri, position) in
            [("postgresql://h%2/d", 14), ("postgresql://[::1/d", 14), ("postgresql://h/d?port", 18), ("postgres://h/%00", 14)]
        {
            let error = Settings::parse(uri).err().unwrap();
            assert!(matches!(error, ConnInfoError::Syntax { position: p, .. } if p == position), "{uri}: {error}");
        }
    }
}
