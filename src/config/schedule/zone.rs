//! Time zones by their IANA name.

use chrono_tz::{TZ_VARIANTS, Tz};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `UTC`, `Europe/Berlin`. The rules are compiled in, so that all hosts agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Zone(pub Tz);

/// Text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a time zone: expected {expected}")]
pub struct ZoneError {
    text: String,
    expected: String,
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self).map_err(|_| {
            let expected = match nearest(&text) {
                Some(name) => format!("an IANA name; did you mean `{name}`?"),
                None => "an IANA name, like UTC or Europe/Berlin".to_owned(),
            };
            ZoneError { text, expected }
        })
    }
}

/// The name that is most like it. The city alone, or other capitals, are enough.
fn nearest(text: &str) -> Option<&'static str> {
    let wanted = text.to_lowercase().replace(' ', "_");
    let likeness = |name: &str| {
        let name = name.to_lowercase();
        let city = name.rsplit('/').next().unwrap_or_default();
        strsim::jaro_winkler(&wanted, &name).max(strsim::jaro_winkler(&wanted, city))
    };
    let rated = TZ_VARIANTS.iter().map(|zone| (likeness(zone.name()), zone.name()));
    rated.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.85).map(|(_, name)| name)
}

impl std::fmt::Display for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.0.name())
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.to_string()
    }
}
