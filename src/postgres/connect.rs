//! From a description to an open connection.

mod transport;

use super::connect_error::{ConnectCause, ConnectError, ServerSaid, cause_of};
use super::session::Session;
use super::target::{Host, Place, Resolved, SessionAttributes, Target};
use super::tls::TlsMode;
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::MakeTlsConnect as _;
use tokio_postgres::{CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use transport::Transport;

/// How a session reached its server, for a second connection to the same place.
#[derive(Clone)]
pub(super) struct Route {
    pub place: ResolvedPlace,
    tls: Option<Tls>,
}

/// Where the bytes go.
#[derive(Clone, Debug)]
pub(super) enum ResolvedPlace {
    Socket(PathBuf),
    Address(SocketAddr),
}

#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    name: String,
}

impl Route {
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }
}

type Failure = (ConnectCause, Option<Box<dyn std::error::Error + Send + Sync>>);

/// Tries the hosts in order. As in libpq, a server that refuses us ends the search, one that is not there or not ready does not.
pub(super) async fn connect(target: &Target, database: &str, application: &str) -> Result<Session, ConnectError> {
    let resolved = &*target.0;
    let asked = match resolved.asked_password().await {
        Ok(asked) => asked,
        Err(cause) => return Err(error(resolved, &target.endpoint(), database, (cause, None), Box::default())),
    };
    let mut hosts = resolved.hosts.clone();
    if resolved.shuffle {
        shuffle(&mut hosts);
    }
    let mut second_choice = None;
    let mut failures: Vec<(String, Failure)> = Vec::new();
    for host in &hosts {
        match connect_host(target, host, database, application, asked.as_ref()).await {
            Ok(session) => match within(resolved.connect_timeout, suits(&session, resolved.attributes)).await {
                Ok(None) => return Ok(session),
                Ok(Some(_)) if resolved.attributes == SessionAttributes::PreferStandby => {
                    second_choice.get_or_insert(session);
                }
                Ok(Some(why)) => failures.push((host.endpoint(), (ConnectCause::Unsatisfied(why), None))),
                Err(failure) => failures.push((host.endpoint(), failure)),
            },
            Err(failure) => {
                let goes_on =
                    matches!(failure.0, ConnectCause::Unreachable | ConnectCause::TimedOut { .. } | ConnectCause::NotReady);
                failures.push((host.endpoint(), failure));
                if !goes_on {
                    break;
                }
            }
        }
    }
    if let Some(session) = second_choice {
        return Ok(session);
    }
    let Some((endpoint, failure)) = failures.pop() else {
        return Err(error(resolved, &target.endpoint(), database, (ConnectCause::Unreachable, None), Box::default()));
    };
    let others = failures.iter().map(|(endpoint, (cause, _))| format!("{endpoint}: {cause}")).collect();
    Err(error(resolved, &endpoint, database, failure, others))
}

fn error(resolved: &Resolved, endpoint: &str, database: &str, (cause, source): Failure, others: Box<[String]>) -> ConnectError {
    ConnectError {
        endpoint: endpoint.to_owned(),
        database: database.into(),
        user: resolved.user.as_str().into(),
        cause,
        others,
        source,
    }
}

/// Every address of one host, each with its own time limit.
async fn connect_host(
    target: &Target,
    host: &Host,
    database: &str,
    application: &str,
    asked: Option<&SecretString>,
) -> Result<Session, Failure> {
    let resolved = &*target.0;
    let mut config = Config::new();
    config
        .user(&resolved.user)
        .dbname(database)
        .application_name(resolved.application_name.as_deref().unwrap_or(application))
        .channel_binding(resolved.tls.channel_binding);
    if let Some(options) = &resolved.options {
        config.options(options);
    }
    if let Some(password) = resolved.password_for(host, database, asked) {
        config.password(password.expose_secret());
    }
    let mut last: Failure = (ConnectCause::Unreachable, None);
    for place in within(resolved.connect_timeout, resolve(host)).await? {
        match connect_place(target, host, &place, &config, database).await {
            Ok(session) => return Ok(session),
            Err(failure) if matches!(failure.0, ConnectCause::Unreachable | ConnectCause::TimedOut { .. }) => last = failure,
            Err(failure) => return Err(failure),
        }
    }
    Err(last)
}

/// One way of protecting a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// TLS if the server has it.
    Negotiated,
    Tls,
}

/// One address, in the ways that `sslmode` allows.
async fn connect_place(
    target: &Target,
    host: &Host,
    place: &ResolvedPlace,
    config: &Config,
    database: &str,
) -> Result<Session, Failure> {
    let resolved = &*target.0;
    let mode = resolved.tls.mode(&host.place);
    if resolved.tls.channel_binding == tokio_postgres::config::ChannelBinding::Require && mode == TlsMode::Disable {
        return Err((ConnectCause::Tls("channel_binding=require needs TLS, which is not used here".to_owned()), None));
    }
    if mode == TlsMode::VerifyFull && matches!(host.place, Place::Tcp { name: None, .. }) {
        // libpq's rule, and so that of the programs that we start.
        let what = "sslmode=verify-full needs a name that the certificate must show: give host= besides hostaddr=";
        return Err((ConnectCause::Tls(what.to_owned()), None));
    }
    let (first, second) = match mode {
        TlsMode::Disable => (Way::Plain, None),
        TlsMode::Allow => (Way::Plain, Some(Way::Tls)),
        TlsMode::Prefer => (Way::Negotiated, Some(Way::Plain)),
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (Way::Tls, None),
    };
    let limit = resolved.connect_timeout;
    let failure = match within(limit, attempt(target, host, place, config, database, first)).await {
        Ok(session) => return Ok(session),
        Err(failure) => failure,
    };
    // libpq's rule: the other way only if the protection may have been what failed.
    let may_be_tls = matches!(failure.0, ConnectCause::Tls(_) | ConnectCause::NotAllowedByHba | ConnectCause::RoleRefused);
    match second {
        Some(way) if may_be_tls => match within(limit, attempt(target, host, place, config, database, way)).await {
            Ok(session) => Ok(session),
            // The server has no TLS at all: what it said first is the reason.
            Err((ConnectCause::Tls(_), _)) => Err(failure),
            Err(second_failure) => Err(second_failure),
        },
        _ => Err(failure),
    }
}

async fn attempt(
    target: &Target,
    host: &Host,
    place: &ResolvedPlace,
    config: &Config,
    database: &str,
    way: Way,
) -> Result<Session, Failure> {
    let resolved = &*target.0;
    let mut stream = Transport::open(place, resolved).await?;
    let encrypt = match way {
        Way::Plain => false,
        Way::Tls if resolved.tls.direct => true,
        Way::Tls | Way::Negotiated => match (stream.ask_for_tls().await?, way) {
            (true, _) => true,
            (false, Way::Negotiated) => false,
            (false, _) => return Err((ConnectCause::Tls("the server does not offer it".to_owned()), None)),
        },
    };
    let pinned = target.pinned_to(pin(host, place));
    let traffic = stream.traffic();
    let mut config = config.clone();
    if !encrypt {
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| failure_of(error, false))?;
        let route = Route { place: place.clone(), tls: None };
        return Ok(Session::start(client, connection, pinned, route, database, traffic));
    }
    // The server has been asked already, so the handshake starts at once.
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    let tls_config = resolved.tls.client_config(resolved.tls.mode(&host.place)).map_err(|cause| (cause, None))?;
    let tls = Tls { config: Arc::new(tls_config), name: certificate_name(&host.place) };
    let Ok(connector) = maker(&tls).make_tls_connect(&tls.name);
    let (client, connection) = config.connect_raw(stream, connector).await.map_err(|error| failure_of(error, true))?;
    let route = Route { place: place.clone(), tls: Some(tls) };
    Ok(Session::start(client, connection, pinned, route, database, traffic))
}

fn maker(
    tls: &Tls,
) -> impl tokio_postgres::tls::MakeTlsConnect<
    Transport,
    Error = std::convert::Infallible,
    TlsConnect: tokio_postgres::tls::TlsConnect<Transport, Stream: Send, Future: Send> + Send,
    Stream: Send + 'static,
> + use<> {
    MakeRustlsConnect::new((*tls.config).clone())
}

/// Sends a cancel request over a connection of its own, protected as the session's is.
pub(super) async fn cancel(target: &Target, route: &Route, token: CancelToken, database: &str) -> Result<(), ConnectError> {
    let resolved = &*target.0;
    let sent = within(resolved.connect_timeout, async {
        let mut stream = Transport::open(&route.place, resolved).await?;
        let Some(tls) = &route.tls else {
            return token.cancel_query_raw(stream, NoTls).await.map_err(|error| failure_of(error, false));
        };
        if !resolved.tls.direct && !stream.ask_for_tls().await? {
            return Err((ConnectCause::Tls("the server does not offer it any more".to_owned()), None));
        }
        let Ok(connector) = maker(tls).make_tls_connect(&tls.name);
        token.cancel_query_raw(stream, connector).await.map_err(|error| failure_of(error, true))
    });
    sent.await.map_err(|failure| error(resolved, &target.endpoint(), database, failure, Box::default()))
}

/// The name that a certificate must show.
fn certificate_name(place: &Place) -> String {
    match place {
        Place::Tcp { name: Some(name), .. } => name.clone(),
        Place::Tcp { address: Some(address), .. } => address.to_string(),
        Place::Tcp { .. } | Place::Socket(_) => String::new(),
    }
}

fn pin(host: &Host, place: &ResolvedPlace) -> Host {
    let place = match (&host.place, place) {
        (Place::Tcp { name, .. }, ResolvedPlace::Address(address)) => {
            Place::Tcp { name: name.clone(), address: Some(address.ip()) }
        }
        (place, _) => place.clone(),
    };
    Host { place, port: host.port }
}

async fn resolve(host: &Host) -> Result<Vec<ResolvedPlace>, Failure> {
    match &host.place {
        Place::Socket(folder) => Ok(vec![ResolvedPlace::Socket(folder.join(format!(".s.PGSQL.{}", host.port)))]),
        Place::Tcp { address: Some(address), .. } => Ok(vec![ResolvedPlace::Address(SocketAddr::new(*address, host.port))]),
        Place::Tcp { name, .. } => {
            let name = name.as_deref().unwrap_or_default();
            if let Ok(address) = name.parse::<IpAddr>() {
                return Ok(vec![ResolvedPlace::Address(SocketAddr::new(address, host.port))]);
            }
            let found = tokio::net::lookup_host((name, host.port)).await;
            let found = found.map_err(|error| (ConnectCause::Unreachable, Some(error.into())))?;
            Ok(found.map(ResolvedPlace::Address).collect())
        }
    }
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err((ConnectCause::TimedOut { seconds: limit.as_secs() }, None)),
        },
    }
}

fn failure_of(error: tokio_postgres::Error, encrypted: bool) -> Failure {
    if let Some(refusal) = error.as_db_error() {
        return (cause_of(refusal), Some(Box::new(ServerSaid::from(refusal))));
    }
    if let Some(problem) = find_in_chain::<rustls::Error>(&error) {
        return (ConnectCause::Tls(explain(problem)), None);
    }
    let source_text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    // What tokio-postgres and its TLS say has no type of its own.
    let cause = match source_text.as_str() {
        "password missing" => ConnectCause::NoPassword,
        "server did not use channel binding" => {
            ConnectCause::Tls("channel_binding=require, and the server does not bind the password to the TLS channel".to_owned())
        }
        "unsupported authentication method" | "unsupported SASL mechanism" => ConnectCause::Unsatisfied(
            "the server asks for a way of logging in that tenure does not speak: it speaks SCRAM, md5, password, certificates, peer".to_owned(),
        ),
        _ if encrypted && error.to_string() == "error performing TLS handshake" => ConnectCause::Tls(source_text),
        _ => ConnectCause::BrokenOff,
    };
    match cause {
        // The cause says all that is known.
        ConnectCause::NoPassword | ConnectCause::Tls(_) | ConnectCause::Unsatisfied(_) => (cause, None),
        cause => (cause, Some(error.into())),
    }
}

/// Looks through an error's sources, and into `io::Error`, which hides what it wraps from `source`.
fn find_in_chain<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn explain(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the server's certificate is not signed by a trusted root certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(bad @ (Bad::NotValidForName | Bad::NotValidForNameContext { .. })) => {
            format!("the server's certificate is for another host: {bad}")
        }
        rustls::Error::AlertReceived(alert) => format!("the server refused the handshake ({alert:?})"),
        other => other.to_string(),
    }
}

/// Why the session is not what `target_session_attrs` asks for; `None` if it is.
async fn suits(session: &Session, wanted: SessionAttributes) -> Result<Option<String>, Failure> {
    if wanted == SessionAttributes::Any {
        return Ok(None);
    }
    let broken = |error: tokio_postgres::Error| failure_of(error, false);
    let row = session
        .query_one(
            "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only') = 'on'",
            &[],
        )
        .await
        .map_err(broken)?;
    let standby: bool = row.try_get(0).map_err(broken)?;
    let read_only = standby || row.try_get(1).map_err(broken)?;
    let (fits, word) = match wanted {
        SessionAttributes::Any => (true, "any"),
        SessionAttributes::ReadWrite => (!read_only, "read-write"),
        SessionAttributes::ReadOnly => (read_only, "read-only"),
        SessionAttributes::Primary => (!standby, "primary"),
        SessionAttributes::Standby => (standby, "standby"),
        SessionAttributes::PreferStandby => (standby, "prefer-standby"),
    };
    let what = if standby {
        "a standby"
    } else if read_only {
        "read-only"
    } else {
        "a primary that takes writes"
    };
    Ok((!fits).then(|| format!("the server is {what}, and target_session_attrs={word}")))
}

fn shuffle(hosts: &mut [Host]) {
    for last in (1..hosts.len()).rev() {
        let mut random = [0; 8];
        if getrandom::fill(&mut random).is_err() {
            return;
        }
        let bound = last as u64 + 1;
        if let Ok(other) = usize::try_from(u64::from_le_bytes(random) % bound) {
            hosts.swap(last, other);
        }
    }
}
