//! `tenure notify`: a test message through every channel that is configured.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    edge::{Edge, Ended},
    installation::open_vault,
};
use crate::{
    config::store::Role,
    observe::notify::Channels,
    operation::failure::{Failure, FailureClass},
    printable::Printable,
};

/// What became of the tests.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NotifyReport {
    /// Each channel.
    pub channels: Vec<ChannelTest>,
}

/// One channel.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChannelTest {
    /// `webhook`, `email` or `ping`.
    pub channel: &'static str,
    /// Where it leads: host and port; the rest of a URL is secret.
    pub to: String,
    /// What became of it.
    pub outcome: TestOutcome,
    /// Why it failed, or was not tried.
    pub reason: Option<String>,
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TestOutcome {
    /// The message was taken.
    Sent,
    /// It was not.
    Failed,
    /// A ping would say that a night was good.
    NotTried,
}

pub(super) async fn run(edge: &Edge) -> Result<Ended, Failure> {
    let config = edge.config()?;
    let (channels, failures) = Channels::open(&config);
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    if channels.is_empty() {
        return Err(Failure::new(
            FailureClass::Usage,
            "configuration",
            "notify",
            "no channel is configured: nobody is told anything",
        )
        .hint("write [notify.webhook], [notify.email] or [notify.ping]: docs/configuration.md"));
    }
    // A channel can be tried when the vault is away; then the message does not say whose it is.
    let installation = open_vault(edge, Role::Restorer).await.ok().map(|(_, vault, ..)| vault.root().installation.to_string());
    let tried = channels.test(installation.as_deref()).await;
    let tests = channels.shown().into_iter().map(|(channel, to)| {
        let (outcome, reason) = match tried.iter().find(|(name, _)| *name == channel) {
            Some((_, Ok(()))) => (TestOutcome::Sent, None),
            Some((_, Err(why))) => (TestOutcome::Failed, Some(why.clone())),
            None => (TestOutcome::NotTried, Some("it would say that a night was good".to_owned())),
        };
        ChannelTest { channel, to, outcome, reason }
    });
    let report = NotifyReport { channels: tests.collect() };
    edge.output.report("notify", &report, text)?;
    let failed = report.channels.iter().filter(|test| test.outcome == TestOutcome::Failed).map(|_| FailureClass::Failed);
    let some_are_sent = report.channels.iter().any(|test| test.outcome == TestOutcome::Sent);
    Ok(Ended { worst: FailureClass::worst_of_many(failed, some_are_sent) })
}

fn text(report: &NotifyReport) -> String {
    let line = |test: &ChannelTest| {
        let outcome = match test.outcome {
            TestOutcome::Sent => "sent",
            TestOutcome::Failed => "failed",
            TestOutcome::NotTried => "not tried",
        };
        let reason = test.reason.as_deref().map(|reason| format!(": {}", Printable(reason))).unwrap_or_default();
        format!("{} to {}: {outcome}{reason}\n", test.channel, Printable(&test.to))
    };
    report.channels.iter().map(line).collect()
}
