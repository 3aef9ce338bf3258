//! Alarms by webhook and mail, and pings, against real servers: good ones, slow ones, and such that fail.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::Utc;
use serde_json::Value;
use tempfile::TempDir;
use tenure::{
    config::Config,
    observe::{
        board::Board,
        metrics,
        notify::{Channels, Look, Notifier},
    },
    operation::alarm::{Alarm, AlarmKind},
};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    http::{Action, Proxy},
    program::command_in,
    smtp::{Manner, Smtp},
};

const SECRET: &str = "/hooks/T0PSECRET?token=hunter2";

/// A configuration that has stores which nobody asks, and these channels.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new(channels: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("tenure-notify-").tempdir().unwrap();
        let text = format!(
            "[vault]\nurl = \"file:///nowhere/vault\"\n[keyring]\nurl = \"file:///nowhere/keyring\"\n\
             recipients = [\"age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z\"]\n{channels}"
        );
        std::fs::write(folder.path().join("tenure.toml"), text).unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn channels(&self) -> Channels {
        Channels::open(&Config::read(&self.path("tenure.toml")).unwrap()).0
    }

    fn refusal(&self) -> String {
        let error = Channels::open(&Config::read(&self.path("tenure.toml")).unwrap()).1.pop().expect("it is refused");
        format!("{}: {} | {}", error.object, error.one_line(), error.hint.to_lowercase())
    }

    /// `tenure notify`, with every log that there is: code, output, log.
    fn notify(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = command_in(self.folder.path(), &["notify"]);
        let output = command.args(arguments).env("TENURE_LOG", "trace").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn webhook(url: &str) -> Site {
    let site = Site::new("[notify.webhook]\nurl_file = \"webhook\"\n");
    site.write("webhook", &format!("{url}{SECRET}\n"));
    site
}

fn email(smtp: &Smtp, more: &str) -> String {
    let (port, ca) = (smtp.port, smtp.certificate.display());
    format!(
        "[notify.email]\nserver = \"localhost\"\nport = {port}\nca_file = \"{ca}\"\nfrom = \"Tenure <tenure@example.org>\"\n\
         to = [\"ops@example.org\", \"boss@example.org\"]\n{more}"
    )
}

fn late(tenant: &str) -> Alarm {
    Alarm::new(AlarmKind::TenantLate, tenant, "its newest backup is 30 hours old").hint("Look at it.")
}

fn look(alarms: Vec<Alarm>, speaks: bool) -> Look {
    Look { installation: Some("0123".into()), alarms, speaks }
}

fn documents(server: &Proxy) -> Vec<Value> {
    server.requests().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

/// Waits until it is so; a test that waits in vain fails.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

fn start(site: &Site, board: &Board) -> (Notifier, tokio_util::sync::DropGuard) {
    let stop = CancellationToken::new();
    (Notifier::start(site.channels(), board.clone(), stop.clone()), stop.drop_guard())
}

fn as_its_schema_says(document: &Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json/webhook.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    jsonschema::validate(&schema, document).unwrap_or_else(|error| panic!("{error}\n{document:#}"));
}

#[tokio::test]
async fn an_alarm_gets_through_once_and_as_documented() {
    let server = Proxy::start(None, |_, _| Action::Answer(204, "", Vec::new())).await;
    let (site, board) = (webhook(&server.endpoint), Board::new(Utc::now()));
    let (notifier, _stop) = start(&site, &board);
    for _ in 0..3 {
        notifier.look(look(vec![late("acme")], true));
    }
    until("the alarm", || !server.requests().is_empty()).await;
    notifier.look(look(vec![late("acme"), late("b")], true));
    until("the next one", || server.requests().len() > 1).await;
    let requests = server.requests();
    assert_eq!(requests[0].path, SECRET);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    let documents = documents(&server);
    documents.iter().for_each(as_its_schema_says);
    let named = |document: &Value| -> Vec<String> {
        document["alarms"].as_array().unwrap().iter().map(|alarm| alarm["object"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((named(&documents[0]), named(&documents[1])), (vec!["acme".to_owned()], vec!["b".to_owned()]));
    assert_eq!((&documents[0]["event"], &documents[0]["installation"]), (&"firing".into(), &"0123".into()));
    until("the count", || {
        metrics::exposition(&board, true, Utc::now()).unwrap().contains("channel=\"webhook\",outcome=\"sent\"} 2")
    })
    .await;
}

#[tokio::test]
async fn of_several_workers_only_the_one_that_speaks_sends() {
    let server = Proxy::start(None, |_, _| Action::Answer(200, "", Vec::new())).await;
    let site = webhook(&server.endpoint);
    let (silent, _stop) = start(&site, &Board::new(Utc::now()));
    silent.look(look(vec![late("acme")], false));
    let (speaker, _stop) = start(&site, &Board::new(Utc::now()));
    speaker.look(look(vec![late("acme")], true));
    until("the alarm", || !server.requests().is_empty()).await;
    silent.look(look(vec![late("acme"), late("b")], false));
    speaker.look(look(vec![late("acme"), late("b")], true));
    until("the next one", || server.requests().len() > 1).await;
    assert_eq!(server.requests().len(), 2);
}

/// The webhook fails; mail gets through meanwhile, and tells that the webhook fails.
#[tokio::test]
async fn a_channel_that_fails_holds_up_no_other_and_is_told_there() {
    let server = Proxy::start(None, |_, _| Action::Answer(500, "", b"T0PSECRET".to_vec())).await;
    let smtp = Smtp::start(Manner::Good);
    let site = Site::new(&format!(
        "[notify.webhook]\nurl_file = \"webhook\"\n{}",
        email(&smtp, "user = \"tenure\"\npassword_file = \"password\"\n")
    ));
    site.write("webhook", &format!("{}{SECRET}\n", server.endpoint));
    site.write("password", "swordfish\n");
    let board = Board::new(Utc::now());
    let (notifier, _stop) = start(&site, &board);
    notifier.look(look(vec![late("acme")], true));
    until("the mail", || !smtp.mails().is_empty()).await;
    let mail = &smtp.mails()[0];
    assert!(mail.encrypted && mail.commands.iter().any(|command| command.starts_with("AUTH")), "{mail:?}");
    assert!(mail.text.contains("Subject: [tenure] critical tenant-late: acme\r\n"), "{}", mail.text);
    assert!(mail.text.contains("Auto-Submitted: auto-generated\r\n"), "{}", mail.text);
    for to in ["ops", "boss"] {
        assert!(mail.commands.iter().any(|command| command.starts_with(&format!("RCPT TO:<{to}@example.org>"))), "{mail:?}");
    }
    until("three tries", || !board.failing_channels().is_empty()).await;
    assert_eq!(server.requests().len(), 3);
    let (name, why) = board.failing_channels().remove(0);
    assert_eq!((name, why), ("webhook", format!("{} answered 500 (tried 3 times)", server.endpoint)));
    notifier.look(look(vec![late("acme")], true));
    until("the mail about it", || smtp.mails().len() > 1).await;
    let text = smtp.mails()[1].text.clone();
    assert!(text.contains("warning channel-failed: webhook") && !text.contains("T0PSECRET"), "{text}");
    assert!(
        metrics::exposition(&board, true, Utc::now()).unwrap().contains("tenure_notification_failing{channel=\"webhook\"} 1.0")
    );
}

#[tokio::test]
async fn a_channel_that_cannot_be_read_is_told_by_the_others() {
    let server = Proxy::start(None, |_, _| Action::Answer(200, "", Vec::new())).await;
    let smtp = Smtp::start(Manner::Good);
    let email = email(&smtp, "user = \"tenure\"\npassword_file = \"away\"\n");
    let site = Site::new(&format!("[notify.webhook]\nurl_file = \"webhook\"\n{email}"));
    site.write("webhook", &format!("{}{SECRET}", server.endpoint));
    let (notifier, _stop) = start(&site, &Board::new(Utc::now()));
    notifier.look(look(Vec::new(), true));
    until("the webhook", || !server.requests().is_empty()).await;
    let alarm = documents(&server)[0]["alarms"][0].clone();
    assert_eq!((&alarm["kind"], &alarm["object"]), (&"channel-failed".into(), &"email".into()), "{alarm:#}");
    assert!(alarm["message"].as_str().unwrap().contains("cannot read "), "{alarm:#}");
    assert!(smtp.mails().is_empty());
}

#[tokio::test]
async fn a_ping_goes_out_after_a_good_night_and_after_no_other() {
    let server =
        Proxy::start(None, |request, _| Action::Answer(if request.path.contains("ping") { 200 } else { 400 }, "", Vec::new()))
            .await;
    let site = Site::new("[notify.ping]\nurl_file = \"ping\"\n[notify.webhook]\nurl_file = \"webhook\"\n");
    site.write("ping", &format!("{}/ping", server.endpoint));
    site.write("webhook", &format!("{}/webhook", server.endpoint));
    let pings = || server.requests().iter().filter(|request| request.path == "/ping" && request.method == "GET").count();
    let board = Board::new(Utc::now());
    let (notifier, _stop) = start(&site, &board);
    notifier.look(look(Vec::new(), true));
    notifier.night(false);
    notifier.night(true);
    until("the ping", || pings() == 1).await;

    notifier.look(look(vec![late("acme")], true));
    notifier.night(true);
    until("the webhook's failure", || !board.failing_channels().is_empty()).await;
    notifier.look(look(Vec::new(), true));
    notifier.night(true);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pings(), 1, "not with a critical alarm, and not when nobody could be told one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_message_says_what_came_of_each_channel_and_no_secret() {
    let server = Proxy::start(None, |_, _| Action::Answer(200, "", Vec::new())).await;
    let smtp = Smtp::start(Manner::NoLogin);
    let channels = format!(
        "[notify.webhook]\nurl_file = \"webhook\"\n[notify.ping]\nurl_env = \"PING\"\n{}",
        email(&smtp, "user = \"tenure\"\npassword_file = \"password\"\n")
    );
    let site = Site::new(&channels);
    site.write("webhook", &format!("{}{SECRET}", server.endpoint));
    site.write("password", "swordfish");
    let (code, _, log) = site.notify(&[]);
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("the environment has no PING, which `notify.ping.url_env` names"), "{log}");

    site.write(
        "tenure.toml",
        &std::fs::read_to_string(site.path("tenure.toml")).unwrap().replace("url_env = \"PING\"", "url_file = \"ping\""),
    );
    site.write("ping", &format!("{}{SECRET}", server.endpoint));
    let (code, said, log) = site.notify(&[]);
    assert_eq!(code, 3, "{said}{log}");
    assert!(said.contains(&format!("webhook to {}: sent\n", server.endpoint)), "{said}");
    assert!(said.contains(&format!("email to localhost:{}: failed: ", smtp.port)) && said.contains("535"), "{said}");
    assert!(said.contains("not tried: it would say that a night was good"), "{said}");
    assert_eq!(documents(&server)[0]["event"], "test");
    let (_, document, more) = site.notify(&["--json"]);
    crate::harness::program::check(&serde_json::from_str(&document).unwrap());
    for secret in ["T0PSECRET", "hunter2", "swordfish", "c3dvcmRmaXNo"] {
        assert!(
            ![&said, &log, &document, &more].into_iter().any(|text| text.contains(secret)),
            "{secret} in {said}{log}{document}{more}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_given_up_and_named_without_its_secret() {
    // Taken, and nobody is behind it any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = webhook(&format!("http://{gone}"));
    let (code, said, log) = site.notify(&[]);
    assert_eq!(code, 1, "{said}{log}");
    assert!(said.contains(&format!("cannot reach http://{gone}")) && said.contains("refused"), "{said}");
    assert!(!said.contains("T0PSECRET") && !log.contains("T0PSECRET"), "{said}{log}");

    let redirects =
        Proxy::start(None, |_, _| Action::Answer(302, "Location: http://127.0.0.1:1/T0PSECRET\r\n", Vec::new())).await;
    let (code, said, log) = webhook(&redirects.endpoint).notify(&[]);
    assert_eq!((code, redirects.requests().len()), (1, 1), "{said}");
    assert!(
        said.contains("redirects are not followed") && !said.contains("T0PSECRET") && !log.contains("T0PSECRET"),
        "{said}{log}"
    );

    let hangs = Smtp::start(Manner::Silent);
    let (code, said, _) = Site::new(&email(&hangs, "")).notify(&[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no answer within 30 s"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_never_sent_in_clear_nor_to_whom_nobody_vouches_for() {
    let plain = Smtp::start(Manner::Plain);
    for login in ["", "user = \"tenure\"\npassword_file = \"password\"\n"] {
        let site = Site::new(&email(&plain, login));
        site.write("password", "swordfish");
        let (code, said, _) = site.notify(&[]);
        assert_eq!(code, 1, "{said}");
    }
    let mails = plain.mails();
    assert!(
        mails.iter().all(|mail| mail.text.is_empty() && !mail.commands.iter().any(|command| command.starts_with("AUTH"))),
        "{mails:?}"
    );

    let (good, other) = (Smtp::start(Manner::Good), Smtp::start(Manner::Good));
    let elsewhere = email(&good, "").replace(&good.certificate.display().to_string(), &other.certificate.display().to_string());
    let (code, said, _) = Site::new(&elsewhere).notify(&[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("certificate"), "{said}");

    let busy = Smtp::start(Manner::Busy);
    let (code, said, _) = Site::new(&email(&busy, "")).notify(&[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("451"), "{said}");
    let (code, said, _) = Site::new(&email(&good, "")).notify(&[]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let site = webhook("http://example.org");
    assert!(site.refusal().contains("use https; http is for a server on this host only"), "{}", site.refusal());
    for (url, expected) in [
        ("https://user:pass@example.org/x", "a name and password before the host are not sent"),
        ("example.org/x", "it looks like https://host/path"),
        ("", "names what is empty"),
        ("https://example.org/\nhttps://example.org/x", "more than one line"),
    ] {
        site.write("webhook", url);
        assert!(site.refusal().contains(expected), "{url}: {}", site.refusal());
        assert!(!site.refusal().contains("pass@"), "{}", site.refusal());
    }
    std::fs::remove_file(site.path("webhook")).unwrap();
    assert!(site.refusal().contains("cannot read "), "{}", site.refusal());
}
