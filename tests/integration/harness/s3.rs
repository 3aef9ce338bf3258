//! Real S3 servers: SeaweedFS and Ceph's radosgw on free loopback ports, one of each for all tests of a run, each with buckets of its
//! own. Each has what the other lacks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use tenure::store::s3::{Credentials, S3Settings};

use super::postgres::run;
use super::watchdog::Watchdog;

/// May do everything. Also the name of its profile in [`Seaweed::credentials_file`].
pub const OWNER: &str = "owner";
/// May do nothing but what a bucket's policy grants.
pub const WRITER: &str = "writer";
/// As [`WRITER`]: the users of the other roles.
pub const OTHER_ROLES: [&str; 4] = ["restorer", "operator", "janitor", "eraser"];

/// A running server.
pub struct Seaweed {
    /// `http://127.0.0.1:…`
    pub endpoint: String,
    /// `https://localhost:…`, with a certificate that only `ca` vouches for.
    pub tls_endpoint: String,
    /// The CA's certificate.
    pub ca: PathBuf,
    /// For `AWS_SHARED_CREDENTIALS_FILE`: a profile for each user, by its name, and `wrong` with a wrong secret.
    pub credentials_file: PathBuf,
    _watchdog: Watchdog,
}

/// The server that all tests share. Started by the first who asks, gone with the test process.
pub fn shared() -> &'static Seaweed {
    static SERVER: OnceLock<Seaweed> = OnceLock::new();
    SERVER.get_or_init(Seaweed::start)
}

/// A server, as far as both are alike.
pub trait S3Server {
    /// `http://127.0.0.1:…`
    fn endpoint(&self) -> &str;

    /// How to reach a bucket as its owner.
    fn settings(&self, bucket: &str) -> S3Settings {
        S3Settings {
            endpoint: Some(self.endpoint().to_owned()),
            credentials: Credentials::Given(credentials(OWNER)),
            ..S3Settings::new(bucket)
        }
    }

    /// The owner's own client, for what a store does not do.
    fn client(&self) -> aws_sdk_s3::Client {
        self.client_of(OWNER)
    }

    /// A user's client.
    fn client_of(&self, user: &str) -> aws_sdk_s3::Client {
        let tls = TlsContext::builder().with_trust_store(TrustStore::empty()).build().unwrap();
        let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls);
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(self.endpoint())
            .force_path_style(true)
            .credentials_provider(credentials(user))
            .http_client(http.build_https());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// A new bucket, whose name no other test has.
    fn bucket(&self, purpose: &str) -> impl Future<Output = String> {
        create_bucket(self.client(), purpose, false)
    }

    /// A new bucket with object lock.
    fn bucket_with_locks(&self, purpose: &str) -> impl Future<Output = String> {
        create_bucket(self.client(), purpose, true)
    }
}

async fn create_bucket(client: aws_sdk_s3::Client, purpose: &str, object_lock: bool) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let bucket = format!("{purpose}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(object_lock).send().await.unwrap();
    bucket
}

impl S3Server for Seaweed {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// Credentials of one of the server's users.
pub fn credentials(user: &str) -> SharedCredentialsProvider {
    let (key, secret) = (format!("{}KEY", user.to_uppercase()), format!("{user}secret"));
    SharedCredentialsProvider::new(aws_sdk_s3::config::Credentials::new(key, secret, None, None, "tests"))
}

impl Seaweed {
    fn start() -> Self {
        let program = program();
        let folder = tempfile::Builder::new().prefix("tenure-s3-").tempdir().unwrap().keep();
        std::fs::create_dir(folder.join("data")).unwrap();
        std::fs::write(folder.join("s3.json"), users()).unwrap();
        let credentials_file = folder.join("credentials");
        let users = [OWNER, WRITER].into_iter().chain(OTHER_ROLES);
        let profiles: String = users.map(|user| profile(user, user, &format!("{user}secret"))).collect();
        std::fs::write(&credentials_file, profiles + &profile("wrong", OWNER, "anothersecret")).unwrap();
        let ca = make_certificate(&folder);

        // The ports may be taken between choosing and using them, by another test process; then others are chosen.
        for _ in 0..5 {
            if let Some((ports, watchdog)) = try_start(&program, &folder) {
                return Self {
                    endpoint: format!("http://127.0.0.1:{}", ports.s3),
                    tls_endpoint: format!("https://localhost:{}", ports.https),
                    ca,
                    credentials_file,
                    _watchdog: watchdog,
                };
            }
        }
        panic!("SeaweedFS does not start: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
    }
}

/// Where `scripts/lib/seaweedfs` puts it.
fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = target.join("tools/seaweedfs-4.48/bin/weed");
    assert!(program.is_file(), "there is no {}: scripts/test installs it, or scripts/lib/seaweedfs alone", program.display());
    program
}

fn users() -> String {
    let user = |name: &str, actions: serde_json::Value| {
        serde_json::json!({
            "name": name,
            "credentials": [{"accessKey": format!("{}KEY", name.to_uppercase()), "secretKey": format!("{name}secret")}],
            "actions": actions,
        })
    };
    let all = serde_json::json!(["Admin", "Read", "Write", "List", "Tagging"]);
    let roles = std::iter::once(WRITER).chain(OTHER_ROLES).map(|role| user(role, serde_json::json!([])));
    let identities: Vec<_> = std::iter::once(user(OWNER, all)).chain(roles).collect();
    serde_json::json!({ "identities": identities }).to_string()
}

fn profile(name: &str, user: &str, secret: &str) -> String {
    format!("[{name}]\naws_access_key_id = {}KEY\naws_secret_access_key = {secret}\n", user.to_uppercase())
}

/// A new CA: its certificate, with the key beside it.
pub fn make_ca(folder: &Path) -> PathBuf {
    openssl(folder, &format!("req -x509 {NEW_KEY} -days 30 -subj /CN=tenure-test-s3 -keyout ca.key -out ca.crt"));
    folder.join("ca.crt")
}

/// A CA, and a certificate of its for `localhost` in `server.crt` and `server.key`.
fn make_certificate(folder: &Path) -> PathBuf {
    let ca = make_ca(folder);
    openssl(folder, &format!("req {NEW_KEY} -subj /CN=localhost -keyout server.key -out server.csr"));
    std::fs::write(folder.join("server.ext"), "subjectAltName=DNS:localhost").unwrap();
    let sign = "x509 -req -days 30 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile server.ext -out server.crt";
    openssl(folder, sign);
    ca
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

fn openssl(folder: &Path, arguments: &str) {
    run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
}

/// Lets a user do `actions` in a bucket and on its objects, and nothing else.
pub async fn grant(client: &aws_sdk_s3::Client, bucket: &str, user: &str, actions: &[&str]) {
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": {"AWS": [format!("arn:aws:iam::000000000000:user/{user}")]},
        "Action": actions,
        "Resource": [format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*")],
    }]});
    client.put_bucket_policy().bucket(bucket).policy(policy.to_string()).send().await.unwrap();
}

/// Puts one of the policies in `docs/policies/` on a bucket.
pub async fn put_policy(client: &aws_sdk_s3::Client, bucket: &str, policy: &str) {
    let file = format!("{}/docs/policies/{policy}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).unwrap();
    let example = if policy == "keyring" { "acme-tenure-keys" } else { "acme-tenure" };
    let text = text.replace(&format!("arn:aws:s3:::{example}"), &format!("arn:aws:s3:::{bucket}"));
    let text = text.replace("arn:aws:iam::111122223333:user/tenure-", "arn:aws:iam::000000000000:user/");
    client.put_bucket_policy().bucket(bucket).policy(text).send().await.unwrap();
}

/// A lifecycle rule for current objects.
pub async fn expire_after_days(client: &aws_sdk_s3::Client, bucket: &str, prefix: &str, days: i32) {
    use aws_sdk_s3::types::{
        BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    };
    let rule = LifecycleRule::builder()
        .id(format!("{days} days"))
        .expiration(LifecycleExpiration::builder().days(days).build())
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .status(ExpirationStatus::Enabled);
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
    client.put_bucket_lifecycle_configuration().bucket(bucket).lifecycle_configuration(rules).send().await.unwrap();
}

/// Turns versioning on.
pub async fn keep_versions(client: &aws_sdk_s3::Client, bucket: &str) {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(bucket).versioning_configuration(on).send().await.unwrap();
}

struct Ports {
    s3: u16,
    https: u16,
}

#[allow(clippy::zombie_processes, reason = "the server lives as long as this process; the watchdog ends it")]
fn try_start(program: &Path, folder: &Path) -> Option<(Ports, Watchdog)> {
    // All at once, so that they differ.
    let free: Vec<_> = (0..9).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = free.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    drop(free);
    let [s3, https, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] = ports[..] else { unreachable!() };
    let path = |name: &str| folder.join(name).display().to_string();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut server = Command::new(program)
        .args(["-logtostderr=true", "-v=0", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"])
        .args(["-master.volumeSizeLimitMB=64", "-volume.max=0", "-volume.preStopSeconds=0"])
        .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
        .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
        .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")])
        .args([format!("-filer.localSocket={}", path("filer.sock")), format!("-dir={}", path("data"))])
        .args(["-s3", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
        .args([format!("-s3.port={s3}"), format!("-s3.port.grpc={s3_grpc}"), format!("-s3.port.https={https}")])
        .args([format!("-s3.config={}", path("s3.json"))])
        .args([format!("-s3.cert.file={}", path("server.crt")), format!("-s3.key.file={}", path("server.key"))])
        .current_dir(folder)
        .env("HOME", folder)
        // Each bucket takes as many volumes at once, seven if nothing is said, and a small disk has no room for so many.
        .env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    // Only if it is still this server: its arguments name the folder.
    let script =
        r#"grep -qF "$2" "/proc/$1/cmdline" && kill -9 "$1"; for i in 1 2 3 4 5; do rm -rf "$2" && break; sleep 0.2; done"#;
    let watchdog = Watchdog::start(script, &[&server.id().to_string(), &folder.display().to_string()]);

    let begin = Instant::now();
    // A volume must be registered with the master too, or the first reads answer 500.
    let ready =
        || http_get(s3, "/healthz").is_some() && http_get(master, "/dir/assign").is_some_and(|answer| answer.contains("\"fid\""));
    while !ready() {
        if server.try_wait().unwrap().is_some() {
            // Its ports were taken. The folder is needed for the next try.
            std::mem::forget(watchdog);
            return None;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "SeaweedFS is not ready: see {}", path("log"));
        std::thread::sleep(Duration::from_millis(50));
    }
    Some((Ports { s3, https }, watchdog))
}

/// The answer's body, if it is 200.
fn http_get(port: u16, path: &str) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}
