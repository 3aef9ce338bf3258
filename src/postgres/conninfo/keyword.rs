//! libpq's parameters, their variables, and which of their values we honour.

use super::ConnInfoError;

/// One parameter.
pub(super) struct Keyword {
    pub name: &'static str,
    /// The `PG*` variable that sets its default.
    pub variable: Option<&'static str>,
    values: Values,
}

enum Values {
    /// Anything; whoever uses it checks it.
    Any,
    /// These; others are known to libpq and refused here.
    Only(&'static [&'static str], &'static str),
    /// One of these, as libpq says.
    OneOf(&'static [&'static str], &'static str),
    /// A whole number.
    Number,
    /// None.
    Refused(&'static str),
}

use Values::{Any, Number, OneOf, Only, Refused};

const NO_GSS: &str = "tenure does not speak GSSAPI or Kerberos; use a password, password_command or a client certificate";
const SWITCH: Values = OneOf(&["0", "1"], "0 or 1");

const fn keyword(name: &'static str, variable: Option<&'static str>, values: Values) -> Keyword {
    Keyword { name, variable, values }
}

pub(super) const ALL: &[Keyword] = &[
    keyword("service", None, Any),
    keyword("servicefile", None, Any),
    keyword("host", Some("PGHOST"), Any),
    keyword("hostaddr", Some("PGHOSTADDR"), Any),
    keyword("port", Some("PGPORT"), Any),
    keyword("dbname", Some("PGDATABASE"), Any),
    keyword("user", Some("PGUSER"), Any),
    keyword("password", Some("PGPASSWORD"), Any),
    keyword("passfile", Some("PGPASSFILE"), Any),
    keyword("require_auth", Some("PGREQUIREAUTH"), Refused("use channel_binding=require, which only SCRAM over TLS can satisfy")),
    keyword("channel_binding", Some("PGCHANNELBINDING"), OneOf(&["disable", "prefer", "require"], "disable, prefer or require")),
    keyword("connect_timeout", Some("PGCONNECT_TIMEOUT"), Number),
    // PGCLIENTENCODING is left alone: it asks for nothing that a reader of UTF-8 would miss.
    keyword(
        "client_encoding",
        None,
        Only(&["UTF8", "UTF-8", "utf8", "utf-8", "auto"], "tenure always reads UTF-8; leave it out"),
    ),
    keyword("options", Some("PGOPTIONS"), Any),
    keyword("application_name", Some("PGAPPNAME"), Any),
    keyword("fallback_application_name", None, Any),
    keyword("keepalives", None, SWITCH),
    keyword("keepalives_idle", None, Number),
    keyword("keepalives_interval", None, Number),
    keyword("keepalives_count", None, Number),
    keyword("tcp_user_timeout", None, Number),
    keyword("replication", None, Only(&["false", "off", "no", "0"], "tenure opens ordinary connections only")),
    keyword("gssencmode", Some("PGGSSENCMODE"), Only(&["disable", "prefer"], NO_GSS)),
    keyword("krbsrvname", Some("PGKRBSRVNAME"), Refused(NO_GSS)),
    keyword("gsslib", Some("PGGSSLIB"), Refused(NO_GSS)),
    keyword("gssdelegation", Some("PGGSSDELEGATION"), Only(&["0"], NO_GSS)),
    keyword(
        "sslmode",
        Some("PGSSLMODE"),
        OneOf(
            &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"],
            "disable, allow, prefer, require, verify-ca or verify-full",
        ),
    ),
    keyword("sslnegotiation", Some("PGSSLNEGOTIATION"), OneOf(&["postgres", "direct"], "postgres or direct")),
    // Gone from every TLS library: libpq ignores it too.
    keyword("sslcompression", Some("PGSSLCOMPRESSION"), SWITCH),
    keyword("sslcert", Some("PGSSLCERT"), Any),
    keyword("sslkey", Some("PGSSLKEY"), Any),
    keyword("sslpassword", None, Any),
    keyword(
        "sslcertmode",
        Some("PGSSLCERTMODE"),
        Only(&["disable", "allow"], "whether the server asked for a certificate is not visible here; use disable or allow"),
    ),
    keyword("sslrootcert", Some("PGSSLROOTCERT"), Any),
    keyword("sslcrl", Some("PGSSLCRL"), Any),
    keyword("sslcrldir", Some("PGSSLCRLDIR"), Any),
    keyword("sslsni", Some("PGSSLSNI"), SWITCH),
    keyword("sslkeylogfile", None, Refused("tenure never writes session keys to a file")),
    keyword(
        "ssl_min_protocol_version",
        Some("PGSSLMINPROTOCOLVERSION"),
        OneOf(&["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"], "TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"),
    ),
    keyword(
        "ssl_max_protocol_version",
        Some("PGSSLMAXPROTOCOLVERSION"),
        Only(&["TLSv1.2", "TLSv1.3"], "tenure speaks TLS 1.2 and 1.3"),
    ),
    keyword("min_protocol_version", Some("PGMINPROTOCOLVERSION"), Only(&["3.0"], "tenure speaks version 3.0 of the protocol")),
    keyword("max_protocol_version", Some("PGMAXPROTOCOLVERSION"), Any),
    keyword("requirepeer", Some("PGREQUIREPEER"), Any),
    keyword(
        "target_session_attrs",
        Some("PGTARGETSESSIONATTRS"),
        OneOf(
            &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"],
            "any, read-write, read-only, primary, standby or prefer-standby",
        ),
    ),
    keyword("load_balance_hosts", Some("PGLOADBALANCEHOSTS"), OneOf(&["disable", "random"], "disable or random")),
    keyword("scram_client_key", None, Refused("give the password, or password_command")),
    keyword("scram_server_key", None, Refused("give the password, or password_command")),
    keyword("oauth_issuer", None, Refused("tenure does not speak OAuth; password_command serves tokens")),
    keyword("oauth_client_id", None, Refused("tenure does not speak OAuth; password_command serves tokens")),
    keyword("oauth_client_secret", None, Refused("tenure does not speak OAuth; password_command serves tokens")),
    keyword("oauth_scope", None, Refused("tenure does not speak OAuth; password_command serves tokens")),
];

/// Whether the value is one that libpq takes and we honour. An empty value is the same as none.
pub(super) fn check(name: &str, value: &str) -> Result<(), ConnInfoError> {
    let Some(keyword) = ALL.iter().find(|keyword| keyword.name == name) else { return Ok(()) };
    let keyword_name = keyword.name;
    let bad = |expected| Err(ConnInfoError::BadValue { keyword: keyword_name, value: value.to_owned(), expected });
    match keyword.values {
        _ if value.is_empty() => Ok(()),
        Any => Ok(()),
        Only(values, why) if !values.contains(&value) => Err(ConnInfoError::Unsupported { keyword: keyword_name, why }),
        OneOf(values, expected) if !values.contains(&value) => bad(expected),
        Number if value.trim().parse::<i32>().is_err() => bad("a whole number"),
        Refused(why) => Err(ConnInfoError::Unsupported { keyword: keyword_name, why }),
        Only(..) | OneOf(..) | Number => Ok(()),
    }
}
