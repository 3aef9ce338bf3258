//! One cluster, as a libpq description names it.

use super::child::ChildEnvironment;
use super::connect_error::ConnectError;
use super::conninfo::{ConnInfoError, LibpqEnvironment, Settings};
use super::password::Password;
use super::session::Session;
use super::silence::Patience;
pub use super::tls::TlsMode;
use super::tls::TlsSettings;
use secrecy::SecretString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// libpq waits for ever; a night must not.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything needed to connect to a server, except the database. Cheap to clone; shows no password.
#[derive(Clone)]
pub struct Target(pub(super) Arc<Resolved>);

#[derive(Clone)]
pub(super) struct Resolved {
    pub hosts: Vec<Host>,
    pub user: String,
    pub password: Password,
    pub database: Option<String>,
    pub tls: TlsSettings,
    pub options: Option<String>,
    pub application_name: Option<String>,
    /// Per address; `None` waits for ever, as `connect_timeout=0` asks.
    pub connect_timeout: Option<Duration>,
    pub keepalives: Option<Keepalives>,
    pub user_timeout_ms: Option<u32>,
    pub required_peer: Option<String>,
    pub attributes: SessionAttributes,
    pub shuffle: bool,
    /// `None`: nobody watches.
    pub patience: Option<Patience>,
    pub home: Option<PathBuf>,
}

/// One entry of a host list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub place: Place,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The folder of a Unix socket.
    Socket(PathBuf),
    /// A name to resolve, unless the address is given; the name is what a certificate must show.
    Tcp { name: Option<String>, address: Option<IpAddr> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keepalives {
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
}

/// `target_session_attrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionAttributes {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// How the connection to one host is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// The host, as [`Target::endpoint`] has it.
    pub endpoint: String,
    /// `sslmode`, given or by default.
    pub mode: TlsMode,
    /// Whether what is sent stays on this machine.
    pub is_local: bool,
}

impl Target {
    /// Resolves a description in libpq's `key=value` or URI form, with its service, and the `PG*` variables for what it leaves open.
    ///
    /// Over TCP to another host `sslmode` is `verify-full` unless it is given; libpq's default would be `prefer`.
    ///
    /// # Errors
    /// If libpq would not understand it, or if it asks for what we cannot honour.
    pub fn parse(description: &str, environment: &LibpqEnvironment) -> Result<Self, ConnInfoError> {
        let settings = Settings::resolve(description, environment)?;
        let hosts = hosts(&settings)?;
        let tls = TlsSettings::read(&settings, environment, &hosts)?;
        let user = settings.get("user").unwrap_or(&environment.user).to_owned();
        if user.is_empty() {
            return Err(ConnInfoError::BadValue {
                keyword: "user",
                value: user,
                expected: "a role: none is given, and who we are is not known",
            });
        }
        let resolved = Resolved {
            hosts,
            user,
            password: Password::read(&settings, environment),
            database: settings.get("dbname").map(str::to_owned),
            tls,
            options: settings.get("options").map(str::to_owned),
            application_name: settings.get("application_name").map(str::to_owned),
            connect_timeout: match number(&settings, "connect_timeout") {
                None => Some(DEFAULT_CONNECT_TIMEOUT),
                Some(seconds) if seconds <= 0 => None,
                // As in libpq, whose clock may be a second coarse.
                Some(seconds) => Some(Duration::from_secs(u64::from(seconds.unsigned_abs()).max(2))),
            },
            keepalives: (settings.get("keepalives") != Some("0")).then(|| Keepalives {
                idle: seconds(&settings, "keepalives_idle", 60),
                interval: seconds(&settings, "keepalives_interval", 10),
                count: number(&settings, "keepalives_count").filter(|count| *count > 0).map_or(6, i32::unsigned_abs),
            }),
            user_timeout_ms: number(&settings, "tcp_user_timeout").filter(|ms| *ms > 0).map(i32::unsigned_abs),
            required_peer: settings.get("requirepeer").map(str::to_owned),
            attributes: match settings.get("target_session_attrs") {
                Some("read-write") => SessionAttributes::ReadWrite,
                Some("read-only") => SessionAttributes::ReadOnly,
                Some("primary") => SessionAttributes::Primary,
                Some("standby") => SessionAttributes::Standby,
                Some("prefer-standby") => SessionAttributes::PreferStandby,
                _ => SessionAttributes::Any,
            },
            shuffle: settings.get("load_balance_hosts") == Some("random"),
            patience: Some(Patience::default()),
            home: environment.home.clone(),
        };
        Ok(Self(Arc::new(resolved)))
    }

    /// The password comes from the first line that this program prints, asked for at each connect. It is run without a shell.
    /// Replaces any other source of a password.
    #[must_use]
    pub fn with_password_command(self, argv: Vec<String>) -> Self {
        self.with(|resolved| resolved.password = Password::Command(argv.into()))
    }

    /// How long a server may say nothing.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        self.with(|resolved| resolved.patience = Some(patience))
    }

    /// The same server for connections that nobody watches.
    pub(super) fn unwatched(self) -> Self {
        self.with(|resolved| resolved.patience = None)
    }

    pub(super) fn patience(&self) -> Option<Patience> {
        self.0.patience
    }

    /// The same server with another role and its password.
    #[must_use]
    pub fn with_login(&self, user: &str, password: SecretString) -> Self {
        self.clone().with(|resolved| {
            user.clone_into(&mut resolved.user);
            resolved.password = Password::Given(password);
        })
    }

    /// The same server's port on the loopback address, over TCP: for a login that `pg_hba.conf` lets in there only.
    #[must_use]
    pub fn on_loopback(&self) -> Self {
        self.clone().with(|resolved| {
            let address = Some(IpAddr::from([127, 0, 0, 1]));
            for host in &mut resolved.hosts {
                host.place = Place::Tcp { name: None, address };
            }
        })
    }

    /// Only this server of the list, under the address that answered.
    pub(super) fn pinned_to(&self, host: Host) -> Self {
        self.clone().with(|resolved| {
            resolved.hosts = vec![host];
            resolved.attributes = SessionAttributes::Any;
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Resolved)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// `db1:5432` or `/run/postgresql:5432`, for messages; several by commas.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.0.hosts.iter().map(Host::endpoint).collect::<Vec<_>>().join(",")
    }

    /// Every place that it names: names, addresses and folders of sockets, each with its port.
    #[must_use]
    pub fn places(&self) -> Vec<(String, u16)> {
        let places = self.0.hosts.iter().flat_map(|host| {
            let names = match &host.place {
                Place::Socket(folder) => vec![folder.display().to_string()],
                Place::Tcp { name, address } => name.iter().cloned().chain(address.map(|address| address.to_string())).collect(),
            };
            names.into_iter().map(|name| (name, host.port))
        });
        places.collect()
    }

    /// The role.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// `dbname=` of the description, else `postgres`.
    #[must_use]
    pub fn maintenance_database(&self) -> &str {
        self.0.database.as_deref().unwrap_or("postgres")
    }

    /// How the connection to each host of the list is protected, for `tenure check`.
    #[must_use]
    pub fn protection(&self) -> Vec<Protection> {
        let of = |host: &Host| Protection {
            endpoint: host.endpoint(),
            mode: self.0.tls.mode(&host.place),
            is_local: host.place.is_local(),
        };
        self.0.hosts.iter().map(of).collect()
    }

    /// Connects. Hosts of a list are tried in order, as libpq does; each address has its own time limit (`connect_timeout`, 10 s).
    /// `application` is what `pg_stat_activity` shows, unless the description has an `application_name`.
    ///
    /// # Errors
    /// Says where, as whom and why.
    pub async fn connect(&self, database: &str, application: &str) -> Result<Session, ConnectError> {
        super::connect::connect(self, database, application).await
    }

    /// The environment in which `pg_dump` and `pg_restore` reach this very database as we do. Of a host list it names the one
    /// that answers now; [`Session::child_environment`] names the one that a session uses.
    ///
    /// # Errors
    /// If no host answers, or the password cannot be found.
    pub async fn child_environment(&self, database: &str) -> Result<ChildEnvironment, ConnectError> {
        if self.0.hosts.len() > 1 || self.0.attributes != SessionAttributes::Any {
            let session = self.connect(database, "tenure").await?;
            return session.child_environment(database).await;
        }
        super::child::environment(self, database).await
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint()).field("user", &self.0.user).finish_non_exhaustive()
    }
}

impl Host {
    pub fn endpoint(&self) -> String {
        match &self.place {
            Place::Socket(folder) => format!("{}:{}", folder.display(), self.port),
            Place::Tcp { name: Some(name), .. } if name.contains(':') => format!("[{name}]:{}", self.port),
            Place::Tcp { name: Some(name), .. } => format!("{name}:{}", self.port),
            Place::Tcp { address: Some(IpAddr::V6(address)), .. } => format!("[{address}]:{}", self.port),
            Place::Tcp { address: Some(address), .. } => format!("{address}:{}", self.port),
            Place::Tcp { .. } => format!("?:{}", self.port),
        }
    }
}

impl Place {
    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::Tcp { address: Some(address), .. } => address.is_loopback(),
            Self::Tcp { name: Some(name), .. } => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Self::Tcp { .. } => false,
        }
    }

    /// What `.pgpass` calls it.
    pub fn passfile_name(&self) -> String {
        match self {
            Self::Socket(folder) if folder == default_socket_folder() => "localhost".to_owned(),
            Self::Socket(folder) => folder.display().to_string(),
            Self::Tcp { name: Some(name), .. } => name.clone(),
            Self::Tcp { address, .. } => address.map(|address| address.to_string()).unwrap_or_default(),
        }
    }
}

/// libpq's compiled default: `/var/run/postgresql` in the distributions, `/tmp` in a source build.
fn default_socket_folder() -> &'static Path {
    let usual = Path::new("/var/run/postgresql");
    if usual.is_dir() { usual } else { Path::new("/tmp") }
}

fn number(settings: &Settings, keyword: &str) -> Option<i32> {
    settings.get(keyword).and_then(|value| value.trim().parse().ok())
}

fn seconds(settings: &Settings, keyword: &str, default: u64) -> Duration {
    let given = number(settings, keyword).filter(|seconds| *seconds > 0).map(|seconds| u64::from(seconds.unsigned_abs()));
    Duration::from_secs(given.unwrap_or(default))
}

fn hosts(settings: &Settings) -> Result<Vec<Host>, ConnInfoError> {
    let elements = |keyword| settings.get(keyword).map(|value| value.split(',').map(str::trim).collect::<Vec<_>>());
    let names = elements("host");
    let addresses = elements("hostaddr");
    let ports = elements("port").unwrap_or_else(|| vec![""]);
    let count = addresses.as_ref().or(names.as_ref()).map_or(1, Vec::len);
    if names.as_ref().is_some_and(|names| names.len() != count) {
        return Err(ConnInfoError::Contradiction(format!("host and hostaddr differ in length: hostaddr has {count} entries")));
    }
    if ports.len() != 1 && ports.len() != count {
        return Err(ConnInfoError::Contradiction(format!("port has {} entries for {count} hosts", ports.len())));
    }
    let at = |list: &Option<Vec<&str>>, index: usize| {
        list.as_ref().and_then(|list| list.get(index).copied()).filter(|element| !element.is_empty()).map(str::to_owned)
    };
    (0..count)
        .map(|index| {
            let text = ports.get(index).or(ports.first()).copied().unwrap_or_default();
            let port = match text {
                "" => 5432,
                text => text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| ConnInfoError::BadValue {
                    keyword: "port",
                    // `postgresql://user:password/database`, without a host, has the password here.
                    value: if text.bytes().all(|byte| byte.is_ascii_digit()) { text.to_owned() } else { String::new() },
                    expected: "a port from 1 to 65535",
                })?,
            };
            let address = at(&addresses, index)
                .map(|value| {
                    value.parse::<IpAddr>().map_err(|_| ConnInfoError::BadValue {
                        keyword: "hostaddr",
                        value,
                        expected: "an IP address",
                    })
                })
                .transpose()?;
            let place = match (at(&names, index), address) {
                (None, None) => Place::Socket(default_socket_folder().to_owned()),
                (Some(name), None) if name.starts_with('@') => {
                    return Err(ConnInfoError::Unsupported {
                        keyword: "host",
                        why: "abstract Unix sockets are not; give the folder of a socket",
                    });
                }
                (Some(name), None) if name.starts_with('/') => Place::Socket(PathBuf::from(name)),
                // With an address the folder of a socket counts for nothing, in libpq too.
                (name, address) => Place::Tcp { name: name.filter(|name| !name.starts_with('/')), address },
            };
            Ok(Host { place, port })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(description: &str) -> Result<Target, ConnInfoError> {
        let environment = LibpqEnvironment { user: "me".to_owned(), ..LibpqEnvironment::default() };
        Target::parse(description, &environment)
    }

    #[test]
    fn over_the_network_certificates_are_verified_unless_said_otherwise() {
        for (description, mode) in [
            ("host=db1", TlsMode::VerifyFull),
            ("host=192.0.2.7", TlsMode::VerifyFull),
            ("host=localhost hostaddr=192.0.2.7", TlsMode::VerifyFull),
            ("hostaddr=2001:db8::1", TlsMode::VerifyFull),
            ("host=db1 sslmode=prefer", TlsMode::Prefer),
            ("host=localhost", TlsMode::Prefer),
            ("host=127.0.0.1", TlsMode::Prefer),
            ("host=::1", TlsMode::Prefer),
            ("host=localhost sslmode=verify-ca", TlsMode::VerifyCa),
            ("host=/run/postgresql", TlsMode::Disable),
            ("host=/run/postgresql sslmode=verify-full", TlsMode::Disable),
        ] {
            assert_eq!(parse(description).unwrap().protection()[0].mode, mode, "{description}");
        }
    }

    #[test]
    fn host_lists_keep_their_order_and_ports() {
        let target = parse("host=db1,/run/pg,::1 port=1,,3 user=u dbname=m").unwrap();
        assert_eq!(target.endpoint(), "db1:1,/run/pg:5432,[::1]:3");
        assert_eq!(target.maintenance_database(), "m");
        assert_eq!(parse("host=a,b port=7").unwrap().endpoint(), "a:7,b:7");
        assert_eq!(parse("host=a hostaddr=192.0.2.1").unwrap().endpoint(), "a:5432");
        for wrong in ["host=a,b port=1,2,3", "host=a,b hostaddr=192.0.2.1", "port=0", "port=x", "hostaddr=db1", "host=@abstract"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_shown() {
        for uri in ["postgresql://u:hunter2/d", "postgresql://u:hun@ter2@h/d", "postgresql://u:hun/ter2@h/d"] {
            if let Err(error) = parse(uri) {
                assert!(!error.to_string().contains("hun") && !error.to_string().contains("ter2"), "{error}");
            }
        }
    }

    #[test]
    fn nothing_shows_a_password() {
        let target = parse("host=db1 user=u password=hunter2 sslpassword=hunter2").unwrap();
        assert!(!format!("{target:?}").contains("hunter2"));
    }
}
