//! `sslmode` and certificates.

use super::{refusal, target, text};
use crate::harness::postgres::{Certificate, Cluster, Options, PASSWORD, run};
use std::process::Command;
use tenure::postgres::{ConnectCause, Target};

fn cluster(certificate: Certificate) -> Cluster {
    let hba = ["hostssl all certified 127.0.0.1/32 cert", "hostnossl all tls_only 127.0.0.1/32 reject"];
    let options = Options { tls: true, certificate, hba: hba.map(str::to_owned).to_vec(), ..Options::default() };
    let cluster = Cluster::start(&options);
    cluster.sql("postgres", "CREATE ROLE certified LOGIN; CREATE ROLE tls_only LOGIN PASSWORD 'p'");
    cluster
}

fn at(cluster: &Cluster, host: &str, rest: &str) -> Target {
    let password = PASSWORD.replace('\\', "\\\\").replace('\'', "\\'");
    target(&format!("host={host} port={} user=postgres password='{password}' {rest}", cluster.port()))
}

fn is_tls(cause: &ConnectCause, words: &str) -> bool {
    matches!(cause, ConnectCause::Tls(text) if text.contains(words))
}

#[tokio::test]
async fn every_mode_accepts_and_refuses_what_libpq_does() {
    let cluster = cluster(Certificate::Modern);
    let ca = cluster.tls().ca.display();
    let other = cluster.tls().other_ca.display();
    for (host, rest, encrypted) in [
        ("localhost", "sslmode=disable".to_owned(), false),
        ("localhost", "sslmode=allow".to_owned(), false),
        ("localhost", String::new(), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", format!("sslmode=verify-ca sslrootcert={ca}"), true),
        ("localhost", format!("sslmode=verify-full sslrootcert={ca}"), true),
        ("localhost", format!("sslmode=verify-full sslrootcert={ca} channel_binding=require"), true),
        ("localhost", format!("sslmode=verify-full sslrootcert={ca} ssl_max_protocol_version=TLSv1.2"), true),
        ("localhost", format!("hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={ca}"), true),
        // As in libpq: what is not trusted is not used, and prefer goes on in clear.
        ("localhost", format!("sslmode=prefer sslrootcert={other}"), false),
    ] {
        let session =
            at(&cluster, host, &rest).connect("postgres", "tenure test").await.unwrap_or_else(|e| panic!("{rest}: {e}"));
        assert_eq!(session.is_encrypted(), encrypted, "{rest}");
        let seen = text(&session, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await;
        assert_eq!(seen, encrypted.to_string(), "{rest}");
    }
    for (host, rest, words) in [
        ("127.0.0.1", format!("sslmode=verify-full sslrootcert={ca}"), "another host"),
        ("localhost", format!("sslmode=verify-full sslrootcert={other}"), "not signed by"),
        ("localhost", format!("sslmode=verify-ca sslrootcert={other}"), "not signed by"),
        // With a root certificate, require means verify-ca.
        ("localhost", format!("sslmode=require sslrootcert={other}"), "not signed by"),
        ("localhost", "sslmode=verify-full".to_owned(), "needs a root certificate"),
        ("localhost", "sslmode=verify-ca sslrootcert=/nonexistent".to_owned(), "sslrootcert /nonexistent"),
        ("localhost", "sslmode=disable channel_binding=require".to_owned(), "channel_binding"),
    ] {
        let cause = refusal(&at(&cluster, host, &rest), "postgres").await;
        assert!(is_tls(&cause, words), "{host} {rest}: {cause}");
    }
}

#[tokio::test]
async fn tls_may_begin_without_asking_for_it_first() {
    let cluster = cluster(Certificate::Modern);
    let rest = format!("sslnegotiation=direct sslmode=verify-full sslrootcert={}", cluster.tls().ca.display());
    let connected = at(&cluster, "localhost", &rest).connect("postgres", "tenure test").await;
    // Servers know it since 17; an older one takes the greeting for garbage and hangs up.
    if crate::harness::postgres::major() >= 17 {
        assert!(connected.unwrap().is_encrypted());
    } else {
        let cause = connected.err().unwrap().cause;
        assert!(matches!(cause, ConnectCause::Tls(_) | ConnectCause::BrokenOff), "{cause}");
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_its_key_must_be_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let cluster = cluster(Certificate::Modern);
    let (certificate, key) = &cluster.tls().client;
    let files = format!("sslcert={} sslkey={}", certificate.display(), key.display());
    let description = format!("host=127.0.0.1 port={} user=certified sslmode=require {files}", cluster.port());
    let session = target(&description).connect("postgres", "tenure test").await.unwrap();
    assert_eq!(text(&session, "SELECT current_user::text").await, "certified");

    let without = target(&format!("host=127.0.0.1 port={} user=certified sslmode=require", cluster.port()));
    assert_eq!(refusal(&without, "postgres").await, ConnectCause::NotAllowedByHba);
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let cause = refusal(&target(&description), "postgres").await;
    assert!(is_tls(&cause, "can be read by others"), "{cause}");
}

#[tokio::test]
async fn prefer_and_allow_find_the_way_that_the_server_takes() {
    let cluster = cluster(Certificate::Modern);
    for mode in ["allow", "prefer"] {
        let description = format!("host=127.0.0.1 port={} user=tls_only password=p sslmode={mode}", cluster.port());
        let session = target(&description).connect("postgres", "tenure test").await.unwrap();
        assert!(session.is_encrypted());
    }
    let description = format!("host=127.0.0.1 port={} user=tls_only password=p sslmode=disable", cluster.port());
    assert_eq!(refusal(&target(&description), "postgres").await, ConnectCause::NotAllowedByHba);
}

/// A revocation list of the cluster's CA, on which the server's certificate stands or does not.
pub(super) fn revocations(cluster: &Cluster, name: &str, revoke: bool, options: &str) -> std::path::PathBuf {
    let folder = cluster.tls().ca.parent().unwrap();
    let text = "[ca]\ndefault_ca = c\n[c]\ndatabase = NAME.txt\ncrlnumber = NAME.number\ndefault_md = sha256\ndefault_crl_days = 5\n\
                certificate = ca.crt\nprivate_key = ca.key\n";
    std::fs::write(folder.join(format!("{name}.cnf")), text.replace("NAME", name)).unwrap();
    std::fs::write(folder.join(format!("{name}.txt")), "").unwrap();
    std::fs::write(folder.join(format!("{name}.number")), "01\n").unwrap();
    let openssl = |arguments: &str| run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
    if revoke {
        openssl(&format!("ca -config {name}.cnf -revoke server.crt"));
    }
    openssl(&format!("ca -config {name}.cnf -gencrl -out {name}.crl{options}"));
    folder.join(format!("{name}.crl"))
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let cluster = cluster(Certificate::Modern);
    let ca = cluster.tls().ca.display();
    let (none, this) = (revocations(&cluster, "none", false, ""), revocations(&cluster, "this", true, ""));
    let rest = |list: &std::path::Path| format!("sslmode=verify-full sslrootcert={ca} sslcrl={}", list.display());
    assert!(at(&cluster, "localhost", &rest(&none)).connect("postgres", "t").await.unwrap().is_encrypted());
    let cause = refusal(&at(&cluster, "localhost", &rest(&this)), "postgres").await;
    assert!(is_tls(&cause, "revoked") || is_tls(&cause, "Revoked"), "{cause}");
    let folder = this.parent().unwrap().join("lists");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&this, folder.join("this.crl")).unwrap();
    let cause = refusal(&at(&cluster, "localhost", &rest(&folder).replace("sslcrl=", "sslcrldir=")), "postgres").await;
    assert!(is_tls(&cause, "evoked"), "{cause}");
    let cause = refusal(&at(&cluster, "localhost", &rest(&folder.join("missing"))), "postgres").await;
    assert!(is_tls(&cause, "sslcrl"), "{cause}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_the_modes_that_need_it() {
    let cluster = crate::harness::postgres::shared();
    let cause = refusal(&at(cluster, "localhost", "sslmode=require"), "postgres").await;
    assert!(is_tls(&cause, "does not offer it"), "{cause}");
    assert!(!at(cluster, "localhost", "sslmode=prefer").connect("postgres", "t").await.unwrap().is_encrypted());
}

#[tokio::test]
async fn certificates_as_postgresqls_documentation_makes_them_work() {
    for kind in [Certificate::Version1, Certificate::SelfSigned] {
        let cluster = cluster(kind);
        let ca = cluster.tls().ca.display();
        let other = cluster.tls().other_ca.display();
        for (host, rest) in [
            ("127.0.0.1", "sslmode=require".to_owned()),
            ("127.0.0.1", format!("sslmode=verify-ca sslrootcert={ca}")),
            ("localhost", format!("sslmode=verify-full sslrootcert={ca}")),
        ] {
            let session = at(&cluster, host, &rest).connect("postgres", "tenure test").await;
            assert!(session.unwrap_or_else(|error| panic!("{rest}: {error}")).is_encrypted());
        }
        for (host, rest, words) in [
            ("127.0.0.1", format!("sslmode=verify-full sslrootcert={ca}"), "another host"),
            ("localhost", format!("sslmode=verify-ca sslrootcert={other}"), "not signed by"),
        ] {
            let cause = refusal(&at(&cluster, host, &rest), "postgres").await;
            assert!(is_tls(&cause, words), "{host} {rest}: {cause}");
        }
    }
}

#[tokio::test]
async fn a_child_is_protected_as_we_are() {
    let cluster = cluster(Certificate::Modern);
    let (certificate, key) = &cluster.tls().client;
    let description = format!(
        "host=localhost port={} user=certified sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
        cluster.port(),
        cluster.tls().ca.display(),
        certificate.display(),
        key.display()
    );
    let environment = target(&description).child_environment("postgres").await.unwrap();
    super::names::dump(&environment).await.unwrap();
    let wrong = description.replace("sslrootcert=", "sslrootcert=/nonexistent/");
    let environment = target(&wrong).child_environment("postgres").await.unwrap();
    let error = super::names::dump(&environment).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}
