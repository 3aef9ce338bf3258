//! The same words for `psql` and for us: the same server, role, protection and settings, or a refusal by both.
//!
//! Where libpq would connect and we refuse, the table says so: what we cannot honour is refused, never weakened.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;
use crate::harness::postgres::{Certificate, bin, run};

/// What connections have to tell about themselves.
const FACTS: &str = "SELECT current_user, inet_server_port(), host(inet_server_addr()), s.ssl, s.version, s.client_dn,
    current_setting('application_name'), current_setting('work_mem'), current_database()
    FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// Both connect, to the same.
    Connects,
    /// Neither does.
    Refused,
    /// libpq does and we do not, with these words.
    WeRefuse(&'static str),
}
use Expected::{Connects, Refused, WeRefuse};

/// A server that takes all kinds of logins, and the files that go with it.
struct Surroundings {
    cluster: Cluster,
    home: tempfile::TempDir,
    files: PathBuf,
}

const MANY_LOGINS: [&str; 6] = [
    "hostssl all certified 127.0.0.1/32 cert",
    "hostssl all both 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
    "hostnossl all tls_only 127.0.0.1/32 reject",
    "hostssl all clear_only 127.0.0.1/32 reject",
    "host all by_md5 127.0.0.1/32 md5",
    "host all by_clear 127.0.0.1/32 password",
];

impl Surroundings {
    fn new(certificate: Certificate) -> Self {
        let hba = MANY_LOGINS.map(str::to_owned).to_vec();
        let cluster = Cluster::start(&Options { tls: true, certificate, hba, ..Options::default() });
        cluster.sql("postgres", "SET password_encryption = md5; CREATE ROLE by_md5 LOGIN PASSWORD 'p'");
        cluster.sql(
            "postgres",
            "CREATE ROLE by_clear LOGIN PASSWORD 'p'; CREATE ROLE tls_only LOGIN PASSWORD 'p'; CREATE ROLE clear_only LOGIN PASSWORD 'p';
             CREATE ROLE certified LOGIN PASSWORD 'p'; CREATE ROLE \"both\" LOGIN PASSWORD 'p'; CREATE ROLE simple LOGIN PASSWORD 'p:\\'''",
        );
        let files = cluster.tls().ca.parent().unwrap().to_owned();
        let home = tempfile::tempdir().unwrap();
        let this = Self { cluster, home, files };
        this.write_files();
        this
    }

    fn write_files(&self) {
        let openssl = |arguments: &str| run(Command::new("openssl").args(arguments.split(' ')).current_dir(&self.files));
        openssl("pkcs8 -topk8 -in client.key -out locked.key -passout pass:hunter2");
        openssl("x509 -in client.crt -outform DER -out client.der");
        for (file, from, mode) in
            [("open.key", "client.key", 0o644), ("group.key", "client.key", 0o640), ("mine.key", "client.key", 0o600)]
        {
            std::fs::copy(self.files.join(from), self.files.join(file)).unwrap();
            set_mode(&self.files.join(file), mode);
        }
        set_mode(&self.files.join("locked.key"), 0o600);
        std::fs::write(self.files.join("garbage"), "no certificate").unwrap();
        set_mode(&self.files.join("garbage"), 0o600);
        let port = self.cluster.port();
        let home = self.home.path();
        let lines = format!(
            "# comment\n127.0.0.1:{port}:nowhere:*:wrong\n127.0.0.1:{port}:*:simple:p\\:\\\\'\nlocalhost:{port}:postgres:by\\_md5:wrong\nlocalhost:*:*:by_md5:p\n\
             db.example.test:*:*:by_clear:p\n"
        );
        for (file, mode) in [("passwords", 0o600), ("others.read", 0o640), (".pgpass", 0o600)] {
            std::fs::write(home.join(file), &lines).unwrap();
            set_mode(&home.join(file), mode);
        }
        let service = format!(
            "# services\n[plain]\nhost=127.0.0.1\nport={port}\nuser=simple\n\n  [spaced]  \n  host=127.0.0.1  \nport={port}\nuser=by_md5\npassword=p\n\
             [twice]\nhost=127.0.0.1\nhost=/nonexistent\nport={port}\nuser=by_clear\npassword=p\n[nested]\nservice=plain\n[unknown]\nhots=x\n\
             [by_uri]\nhost=127.0.0.1\nport={port}\nuser=simple\noptions=-c work_mem=7MB\napplication_name=by service\n"
        );
        std::fs::write(home.join("services"), &service).unwrap();
        std::fs::write(home.join("pg_service.conf"), &service).unwrap();
        std::fs::write(
            home.join(".pg_service.conf"),
            format!("[plain]\nhost=127.0.0.1\nport={port}\nuser=by_clear\npassword=p\n"),
        )
        .unwrap();
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in [
            ("{port}", self.cluster.port().to_string()),
            ("{socket}", self.cluster.socket_folder().display().to_string()),
            ("{encoded}", self.cluster.socket_folder().display().to_string().replace('/', "%2F")),
            ("{tls}", self.files.display().to_string()),
            ("{home}", self.home.path().display().to_string()),
        ] {
            text = text.replace(name, &value);
        }
        text
    }

    /// What `psql` says of its connection, or nothing.
    fn libpq(&self, description: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
        let mut command = Command::new(bin().join("psql"));
        command.env_clear().envs(variables).env("HOME", self.home.path()).args(["-XAtw", "-F|", "-c", FACTS, "-d", description]);
        told(&mut command)
    }

    async fn ours(&self, description: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
        let environment = LibpqEnvironment::new(Some(self.home.path().to_owned()), user(), variables.clone());
        let target = Target::parse(description, &environment).map_err(|error| error.to_string())?;
        let database = target.maintenance_database().to_owned();
        let session = target.connect(&database, "psql").await.map_err(|error| error.to_string())?;
        let messages = session.simple_query(FACTS).await.unwrap();
        let row = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.unwrap();
        let facts = (0..row.len()).map(|column| row.get(column).unwrap_or_default()).collect::<Vec<_>>().join("|");
        // And what we start gets there too, by the environment that it is given.
        let mut command = tokio::process::Command::new(bin().join("psql"));
        target.child_environment(&database).await.map_err(|error| error.to_string())?.apply(&mut command);
        command.args(["-XAtw", "-F|", "-c", FACTS]);
        let child = told(command.as_std_mut()).map_err(|said| format!("the child is refused: {said}"))?;
        let without_name = |facts: &str| {
            facts.split('|').enumerate().filter(|(n, _)| *n != 6).map(|(_, fact)| fact.to_owned()).collect::<Vec<_>>()
        };
        if without_name(&child) != without_name(&facts) {
            return Err(format!("the child connects otherwise: {child} and not {facts}"));
        }
        Ok(facts)
    }

    async fn compare(&self, cases: &[(&str, &str, Expected)]) {
        let mut wrong = Vec::new();
        for (variables, description, expected) in cases {
            let (description, filled) = (self.fill(description), self.fill(variables));
            let variables: BTreeMap<String, String> = filled
                .split_whitespace()
                .filter_map(|word| word.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let (theirs, ours) = (self.libpq(&description, &variables), self.ours(&description, &variables).await);
            let as_expected = match expected {
                Connects => theirs.is_ok() && ours == theirs,
                Refused => theirs.is_err() && ours.as_ref().is_err_and(|said| !said.starts_with("the child")),
                WeRefuse(words) => theirs.is_ok() && ours.as_ref().is_err_and(|said| said.contains(words)),
            };
            if !as_expected {
                wrong.push(format!(
                    "{variables:?} {description}: {expected:?} was expected\n  libpq: {theirs:?}\n  tenure: {ours:?}"
                ));
            }
            if let Err(said) = &ours {
                assert!(!said.contains("hunter2"), "{said}");
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

fn told(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Who libpq takes us for.
fn user() -> String {
    String::from_utf8(run(Command::new("id").arg("-un")).stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn places_and_logins_mean_what_they_mean_to_libpq() {
    let at = Surroundings::new(Certificate::Modern);
    at.compare(&[
        // Where.
        ("", "host={socket} port={port} user=postgres dbname=postgres", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres sslmode=verify-full", Connects),
        ("", "host={socket} port={port} user=postgres dbname=template1", Connects),
        ("", "host={socket} port={port} user=nobody_here dbname=postgres", Refused),
        ("", "host={socket} port={port} user=postgres dbname=nowhere", Refused),
        ("", "host=/nonexistent,{socket} port=1,{port} user=postgres dbname=postgres", Connects),
        ("", "host=/nonexistent,{socket} port={port} user=postgres dbname=postgres", Connects),
        ("", "host=127.0.0.1,{socket} port={port} user=simple password=wrong dbname=postgres", Refused),
        ("", "host=a,b,c port=1,2 user=postgres dbname=postgres", Refused),
        ("", "host=a,b hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres", Refused),
        ("", "hostaddr=127.0.0.1 port={port} user=by_clear password=p dbname=postgres", Connects),
        ("", "host=whatever.invalid hostaddr=127.0.0.1 port={port} user=by_clear password=p dbname=postgres sslmode=prefer", Connects),
        ("", "hostaddr=localhost port={port} user=by_clear password=p dbname=postgres", Refused),
        ("", "host=nowhere.invalid port={port} user=by_clear password=p dbname=postgres", Refused),
        ("", "host=127.0.0.1 port=0 user=by_clear password=p dbname=postgres", Refused),
        ("", "host=127.0.0.1 port=65536 user=by_clear password=p dbname=postgres", Refused),
        ("", "host=127.0.0.1 port={port}x user=by_clear password=p dbname=postgres", Refused),
        // As whom.
        ("", "host=127.0.0.1 port={port} user=simple password='p:\\\\\\'' dbname=postgres", Connects),
        ("", "host=127.0.0.1 port={port} user=by_md5 password=p dbname=postgres", Connects),
        ("", "host=127.0.0.1 port={port} user=by_md5 password=wrong dbname=postgres", Refused),
        ("", "host=127.0.0.1 port={port} user=by_clear password=p dbname=postgres", Connects),
        ("", "host = 127.0.0.1  port = {port} user = 'by_clear' password='p' dbname=postgres", Connects),
        ("", "host=127.0.0.1 port={port} user=nobody user=by_clear password=p dbname=postgres", Connects),
        ("PGPASSWORD=p", "host=127.0.0.1 port={port} user=by_clear dbname=postgres", Connects),
        ("PGHOST=127.0.0.1 PGPORT={port} PGUSER=by_clear PGPASSWORD=p PGDATABASE=postgres", "", Connects),
        ("PGHOST=/nonexistent PGHOSTADDR=127.0.0.1 PGPORT={port} PGUSER=by_clear PGPASSWORD=p PGDATABASE=postgres", "", Connects),
        ("PGPASSWORD=wrong", "host=127.0.0.1 port={port} user=by_clear password=p dbname=postgres", Connects),
        // The password file: `.pgpass` in the home directory, or another.
        ("", "host=127.0.0.1 port={port} user=simple dbname=postgres", Connects),
        ("", "host=localhost port={port} user=by_md5 dbname=postgres", Refused),
        ("", "host=localhost port={port} user=by_md5 dbname=template1", Connects),
        ("", "host=127.0.0.1 port={port} user=by_md5 dbname=postgres", Refused),
        ("", "host=db.example.test hostaddr=127.0.0.1 port={port} user=by_clear dbname=postgres sslmode=prefer", Connects),
        ("", "host=127.0.0.1 port={port} user=simple dbname=postgres passfile={home}/passwords", Connects),
        ("", "host=127.0.0.1 port={port} user=simple dbname=postgres passfile={home}/others.read", Refused),
        ("", "host=127.0.0.1 port={port} user=simple dbname=postgres passfile=/nonexistent", Refused),
        ("PGPASSFILE=/dev/null", "host=127.0.0.1 port={port} user=simple dbname=postgres", Refused),
        ("PGPASSFILE={home}/passwords", "host=127.0.0.1 port={port} user=simple dbname=postgres", Connects),
        // Services.
        ("", "service=plain dbname=postgres", Connects),
        ("PGSERVICE=plain PGDATABASE=postgres", "", Connects),
        ("PGSERVICEFILE={home}/services", "service=plain dbname=postgres", Connects),
        ("PGSERVICEFILE={home}/services", "service=twice dbname=postgres", Connects),
        ("PGSERVICEFILE={home}/services", "service=by_uri dbname=postgres", Connects),
        ("PGSERVICEFILE={home}/services PGUSER=by_md5", "service=plain dbname=postgres", Connects),
        ("PGSERVICEFILE={home}/services", "service=plain dbname=postgres user=by_clear password=p", Connects),
        ("PGSERVICEFILE={home}/services", "service=nested dbname=postgres", Refused),
        ("PGSERVICEFILE={home}/services", "service=unknown dbname=postgres", Refused),
        ("PGSERVICEFILE={home}/services", "service=nowhere dbname=postgres", Refused),
        ("PGSERVICEFILE={home}/services", "service=spaced dbname=postgres", Connects),
        ("PGSYSCONFDIR={home}", "service=by_uri dbname=postgres", Connects),
        ("PGSERVICEFILE=/nonexistent", "service=plain dbname=postgres", Refused),
        // URIs.
        ("", "postgresql://by_clear:p@127.0.0.1:{port}/postgres", Connects),
        ("", "postgres://simple:p%3A%5C%27@127.0.0.1:{port}/postgres?application_name=by%20uri", Connects),
        ("", "postgresql://postgres@{encoded}:{port}/postgres", Connects),
        ("", "postgresql:///postgres?host={socket}&port={port}&user=postgres", Connects),
        ("", "postgresql://postgres@nowhere.invalid:1,{encoded}:{port}/postgres", Connects),
        ("", "postgresql://by_clear:p@127.0.0.1:{port}/postgres?ssl=true", Connects),
        ("", "postgresql://by_clear:p@127.0.0.1:{port}/postgres?hots=x", Refused),
        ("", "postgresql://by_clear:p@[127.0.0.1:{port}/postgres", Refused),
        ("", "postgresql://by_clear:p%zz@127.0.0.1:{port}/postgres", Refused),
        // Sessions.
        ("", "host={socket} port={port} user=postgres dbname=postgres options='-c work_mem=5MB' application_name=mine", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres options=-cwork_mem=5MB", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres options='-c nothing=x=y z'", Refused),
        ("PGOPTIONS=-cwork_mem=6MB PGAPPNAME=by_variable", "host={socket} port={port} user=postgres dbname=postgres", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres fallback_application_name=back", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres target_session_attrs=read-write", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres target_session_attrs=primary", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres target_session_attrs=standby", Refused),
        ("", "host={socket} port={port} user=postgres dbname=postgres target_session_attrs=read-only", Refused),
        ("", "host={socket} port={port} user=postgres dbname=postgres target_session_attrs=prefer-standby", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres target_session_attrs=master", Refused),
        ("PGTARGETSESSIONATTRS=standby", "host={socket} port={port} user=postgres dbname=postgres", Refused),
        ("", "host={socket} port={port} user=postgres dbname=postgres requirepeer=daemon", Refused),
        ("PGREQUIREPEER=daemon", "host={socket} port={port} user=postgres dbname=postgres", Refused),
        ("", "host={socket} port={port} user=postgres dbname=postgres connect_timeout=3", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres connect_timeout=soon", Refused),
        ("PGCONNECT_TIMEOUT=7", "host={socket} port={port} user=postgres dbname=postgres", Connects),
        ("", "host=127.0.0.1 port={port} user=by_clear password=p dbname=postgres keepalives=0", Connects),
        ("", "host=127.0.0.1 port={port} user=by_clear password=p dbname=postgres keepalives_idle=5 keepalives_interval=5 keepalives_count=2 tcp_user_timeout=9000", Connects),
        ("", "host=127.0.0.1 port={port} user=by_clear password=p dbname=postgres keepalives_idle=long", Refused),
        ("", "host={socket} port={port} user=postgres dbname=postgres client_encoding=auto", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres client_encoding=LATIN1", WeRefuse("client_encoding")),
        ("PGCLIENTENCODING=LATIN1", "host={socket} port={port} user=postgres dbname=postgres", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres gssencmode=disable", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres gssencmode=prefer", Connects),
        ("", "host=127.0.0.1 port={port} user=by_clear password=p dbname=postgres gssencmode=require", Refused),
        ("PGGSSENCMODE=require", "host=127.0.0.1 port={port} user=by_clear password=p dbname=postgres", Refused),
        ("", "host={socket} port={port} user=postgres dbname=postgres krbsrvname=pg", WeRefuse("krbsrvname")),
        ("", "host={socket} port={port} user=postgres dbname=postgres replication=off", Connects),
        ("", "host={socket} port={port} user=postgres dbname=postgres replication=database", WeRefuse("replication")),
        ("", "host={socket} port={port} user=postgres dbname=postgres nonsense=1", Refused),
        ("", "host={socket} port={port} user=postgres dbname", Refused),
        ("", "host={socket} port={port} user='postgres dbname=postgres", Refused),
    ])
    .await;
}

#[tokio::test]
async fn protection_means_what_it_means_to_libpq() {
    let at = Surroundings::new(Certificate::Modern);
    let base = "host=localhost port={port} user=by_clear password=p dbname=postgres ";
    let certified = "host=127.0.0.1 port={port} user=certified dbname=postgres sslmode=require ";
    let both = "host=127.0.0.1 port={port} user=both password=p dbname=postgres sslmode=require ";
    let mut cases: Vec<(&str, String, Expected)> = Vec::new();
    for (words, expected) in [
        ("", Connects),
        ("sslmode=disable", Connects),
        ("sslmode=allow", Connects),
        ("sslmode=prefer", Connects),
        ("sslmode=require", Connects),
        ("sslmode=sometimes", Refused),
        ("sslmode=verify-ca", Refused),
        ("sslmode=verify-full", Refused),
        ("sslmode=verify-ca sslrootcert={tls}/ca.crt", Connects),
        ("sslmode=verify-full sslrootcert={tls}/ca.crt", Connects),
        ("sslmode=verify-full sslrootcert={tls}/ca.crt hostaddr=127.0.0.1", Connects),
        ("sslmode=verify-ca sslrootcert={tls}/other.crt", Refused),
        ("sslmode=require sslrootcert={tls}/other.crt", Refused),
        ("sslmode=prefer sslrootcert={tls}/other.crt", Connects),
        ("sslmode=verify-full sslrootcert=/nonexistent", Refused),
        ("sslmode=verify-full sslrootcert={tls}/garbage", Refused),
        // A file that is to vouch for the server and is not there: libpq goes on without.
        ("sslmode=require sslrootcert=/nonexistent", WeRefuse("sslrootcert /nonexistent")),
        ("sslmode=require sslcompression=1", Connects),
        ("sslmode=require sslsni=0", Connects),
        ("sslmode=require ssl_min_protocol_version=TLSv1.3", Connects),
        ("sslmode=require ssl_max_protocol_version=TLSv1.2", Connects),
        ("sslmode=require ssl_min_protocol_version=TLSv1.2 ssl_max_protocol_version=TLSv1.2", Connects),
        ("sslmode=require ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2", Refused),
        ("sslmode=require ssl_min_protocol_version=TLSv9", Refused),
        ("sslmode=require ssl_max_protocol_version=TLSv1.1", Refused),
        ("sslmode=disable channel_binding=require", Refused),
        ("sslmode=require channel_binding=require", Refused),
        ("sslmode=require channel_binding=sometimes", Refused),
        ("user=simple password='p:\\\\\\'' sslmode=require channel_binding=require", Connects),
        ("user=simple password='p:\\\\\\'' sslmode=require channel_binding=disable", Connects),
        ("user=tls_only sslmode=disable", Refused),
        ("user=tls_only sslmode=allow", Connects),
        ("user=tls_only sslmode=prefer", Connects),
        ("user=clear_only sslmode=prefer", Connects),
        ("user=clear_only sslmode=require", Refused),
        ("sslmode=verify-full sslrootcert={tls}/ca.crt sslcrl={tls}/none.crl", Connects),
        ("sslmode=verify-full sslrootcert={tls}/ca.crt sslcrl={tls}/this.crl", Refused),
        ("sslmode=verify-full sslrootcert={tls}/ca.crt sslcrl={tls}/stale.crl", Refused),
        ("sslmode=verify-full sslrootcert={tls}/ca.crt sslcrldir={tls}/lists", Refused),
        ("sslmode=verify-full sslrootcert={tls}/ca.crt sslcrl=/nonexistent", WeRefuse("sslcrl /nonexistent")),
    ] {
        cases.push(("", format!("{base}{words}"), expected));
    }
    for (words, expected) in [
        ("", Refused),
        ("sslcert={tls}/client.crt sslkey={tls}/client.key", Connects),
        ("sslcert={tls}/client.crt sslkey={tls}/mine.key", Connects),
        ("sslcert={tls}/client.crt sslkey={tls}/group.key", if user() == "root" { Connects } else { Refused }),
        ("sslcert={tls}/client.crt sslkey={tls}/open.key", Refused),
        ("sslcert={tls}/client.crt sslkey=/nonexistent", Refused),
        ("sslcert={tls}/client.crt", Refused),
        ("sslcert={tls}/client.crt sslkey={tls}/garbage", Refused),
        ("sslcert={tls}/client.crt sslkey={tls}/other.key", Refused),
        ("sslcert={tls}/garbage sslkey={tls}/client.key", Refused),
        ("sslcert=/nonexistent sslkey={tls}/client.key", Refused),
        ("sslcert={tls}/client.crt sslkey={tls}/locked.key", Refused),
        ("sslcert={tls}/client.crt sslkey={tls}/locked.key sslpassword=wrong", Refused),
        (
            "sslcert={tls}/client.crt sslkey={tls}/locked.key sslpassword=hunter2",
            WeRefuse("is encrypted, which is not supported"),
        ),
        ("sslcert={tls}/client.crt sslkey={tls}/client.key channel_binding=require", Refused),
    ] {
        cases.push(("", format!("{certified}{words}"), expected));
    }
    cases.push(("PGSSLCERT={tls}/client.crt PGSSLKEY={tls}/client.key", certified.to_owned(), Connects));
    cases.push(("", format!("{both}sslcert={{tls}}/client.crt sslkey={{tls}}/client.key"), Refused));
    cases.push(("", both.to_owned(), Refused));
    cases.push(("", format!("{base}sslmode=require sslcert=/nonexistent"), Connects));
    cases.push(("PGSSLMODE=verify-full PGSSLROOTCERT={tls}/ca.crt", base.to_owned(), Connects));
    cases.push(("PGSSLMODE=verify-full PGSSLROOTCERT={tls}/other.crt", base.to_owned(), Refused));
    cases.push(("PGSSLMODE=verify-full PGSSLROOTCERT={tls}/ca.crt PGSSLCRL={tls}/this.crl", base.to_owned(), Refused));
    cases.push(("PGSSLMODE=require PGSSLMAXPROTOCOLVERSION=TLSv1.2", base.to_owned(), Connects));
    cases.push(("PGSSLMODE=require PGSSLMINPROTOCOLVERSION=TLSv1.3", base.to_owned(), Connects));
    cases.push(("PGCHANNELBINDING=require", format!("{base}sslmode=require"), Refused));
    let past = " -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z";
    for (name, revoke, options) in [("none", false, ""), ("this", true, ""), ("stale", false, past)] {
        super::tls::revocations(&at.cluster, name, revoke, options);
    }
    // OpenSSL finds a list in a folder by the hash of its issuer.
    let lists = at.files.join("lists");
    std::fs::create_dir(&lists).unwrap();
    let hash = run(Command::new("openssl").args(["crl", "-hash", "-noout", "-in"]).arg(at.files.join("this.crl"))).stdout;
    let name = format!("{}.r0", String::from_utf8(hash).unwrap().trim());
    std::fs::copy(at.files.join("this.crl"), lists.join(name)).unwrap();
    let cases: Vec<_> = cases.iter().map(|(variables, words, expected)| (*variables, words.as_str(), *expected)).collect();
    at.compare(&cases).await;
}

#[tokio::test]
async fn names_in_certificates_mean_what_they_mean_to_libpq() {
    let at = Surroundings::new(Certificate::Wildcard);
    let rest = "port={port} user=by_clear password=p dbname=postgres sslmode=verify-full sslrootcert={tls}/ca.crt";
    let cases = [
        ("host=127.0.0.1", Connects),
        ("host=localhost", Refused),
        ("host=db.example.test hostaddr=127.0.0.1", Connects),
        ("host=DB.Example.TEST hostaddr=127.0.0.1", Connects),
        ("host=a.b.example.test hostaddr=127.0.0.1", Refused),
        ("host=example.test hostaddr=127.0.0.1", Refused),
        ("host=localhost hostaddr=127.0.0.1", Refused),
        ("hostaddr=127.0.0.1", Refused),
    ];
    let cases: Vec<_> = cases.iter().map(|(host, expected)| (format!("{host} {rest}"), *expected)).collect();
    let cases: Vec<_> = cases.iter().map(|(words, expected)| ("", words.as_str(), *expected)).collect();
    at.compare(&cases).await;
}
