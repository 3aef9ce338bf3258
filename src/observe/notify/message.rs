//! What is sent: one document, as JSON for programs and as text for people.

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    operation::alarm::{Alarm, Severity},
    printable::Printable,
};

/// Alarms in one message; the gravest come first, and how many more there are is said.
const MOST_ALARMS: usize = 200;

/// The document that a webhook gets.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Message {
    /// 1.
    pub format: u32,
    /// Id of the installation, from the vault's root; null where it is not known.
    pub installation: Option<String>,
    /// What it is about.
    pub event: Event,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The alarms, the gravest first; at most 200. Empty in a test.
    pub alarms: Vec<Told>,
    /// Alarms beyond those.
    pub omitted: u64,
    #[serde(skip)]
    critical: usize,
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// These alarms began, or became graver.
    Firing,
    /// These were told before, and go on.
    Repeat,
    /// These are over.
    Resolved,
    /// Nothing: somebody tries whether messages get through.
    Test,
}

/// One alarm.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Told {
    /// What it says, or said last.
    #[serde(flatten)]
    pub alarm: Alarm,
    /// Since when this worker knows it.
    pub since: DateTime<Utc>,
}

impl Event {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Repeat => "repeat",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

impl Message {
    /// A message about these alarms.
    #[must_use]
    pub fn new(installation: Option<&str>, event: Event, alarms: &[Told], at: DateTime<Utc>) -> Self {
        let shown = &alarms[..alarms.len().min(MOST_ALARMS)];
        Self {
            format: 1,
            installation: installation.map(str::to_owned),
            event,
            at,
            alarms: shown.to_vec(),
            omitted: (alarms.len() - shown.len()) as u64,
            critical: alarms.iter().filter(|told| told.alarm.severity == Severity::Critical).count(),
        }
    }

    /// Alarms, with those that it does not show.
    fn count(&self) -> u64 {
        self.alarms.len() as u64 + self.omitted
    }

    /// One line, for a subject.
    #[must_use]
    pub fn subject(&self) -> String {
        let what = match self.event {
            Event::Firing => "",
            Event::Repeat => "still ",
            Event::Resolved => "resolved: ",
            Event::Test => return "[tenure] a test".to_owned(),
        };
        let mut subject = match &self.alarms[..] {
            [Told { alarm, .. }] => {
                format!("[tenure] {what}{} {}: {}", alarm.severity.as_str(), alarm.kind.as_str(), Printable(&alarm.object))
            }
            _ => format!("[tenure] {what}{} alarms, {} of them critical", self.count(), self.critical),
        };
        // Names of objects may be long.
        if let Some((end, _)) = subject.char_indices().nth(150) {
            subject.truncate(end);
            subject.push('…');
        }
        subject
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let at = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut text = match self.event {
            Event::Firing => format!("What began, as of {}:\n", at(self.at)),
            Event::Repeat => format!("What goes on, as of {}:\n", at(self.at)),
            Event::Resolved => format!("What is over, as of {}:\n", at(self.at)),
            Event::Test => "This is a test: messages of this installation's worker get here. Nothing is wrong.\n".to_owned(),
        };
        for Told { alarm, since } in &self.alarms {
            let (severity, kind) = (alarm.severity.as_str(), alarm.kind.as_str());
            text.push_str(&format!("\n{severity} {kind}: {}\n", Printable(&alarm.object)));
            text.push_str(&format!("  {}\n", Printable(&alarm.message)));
            if !alarm.hint.is_empty() && self.event != Event::Resolved {
                text.push_str(&format!("  hint: {}\n", Printable(&alarm.hint)));
            }
            text.push_str(&format!("  since {}\n", at(*since)));
        }
        if self.omitted > 0 {
            text.push_str(&format!("\nand {} more\n", self.omitted));
        }
        if self.event != Event::Test {
            text.push_str("\n`tenure status` shows all that is wrong now.\n");
        }
        if let Some(installation) = &self.installation {
            text.push_str(&format!("\nInstallation {installation}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::alarm::AlarmKind;

    fn told(object: &str) -> Told {
        let alarm = Alarm::new(AlarmKind::TenantLate, object, "its newest backup is 30 hours old").hint("Look at it.");
        Told { alarm, since: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn a_message_is_the_same_to_people_and_programs() {
        let message = Message::new(Some("0123"), Event::Firing, &[told("acme")], DateTime::UNIX_EPOCH);
        assert_eq!(message.subject(), "[tenure] critical tenant-late: acme");
        assert_eq!(
            message.text(),
            "What began, as of 1970-01-01T00:00:00Z:\n\ncritical tenant-late: acme\n  its newest backup is 30 hours old\n  hint: Look at it.\n  \
             since 1970-01-01T00:00:00Z\n\n`tenure status` shows all that is wrong now.\n\nInstallation 0123\n"
        );
        let json = serde_json::to_value(&message).unwrap();
        assert_eq!(json["alarms"][0]["kind"], "tenant-late");
        assert_eq!(json["alarms"][0]["since"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn names_forge_no_lines_and_many_alarms_are_cut_short() {
        let forged = Message::new(None, Event::Firing, &[told("a\r\nBcc: all@example.org")], DateTime::UNIX_EPOCH);
        assert!(!forged.subject().contains(['\r', '\n']), "{}", forged.subject());
        assert!(!forged.text().contains("\nBcc"), "{}", forged.text());
        let many: Vec<Told> = (0..1000).map(|n| told(&format!("t{n}"))).collect();
        let message = Message::new(None, Event::Resolved, &many, DateTime::UNIX_EPOCH);
        assert_eq!(message.subject(), "[tenure] resolved: 1000 alarms, 1000 of them critical");
        assert_eq!((message.alarms.len(), message.omitted), (200, 800));
        assert!(message.text().contains("and 800 more"));
    }
}
