//! The name of one backup.

use chrono::{DateTime, NaiveDateTime, SubsecRound as _, Utc};

/// `20261121T030000Z-3f9a51c07be2d418`: the host's time when the snapshot was taken, and 64 random bits.
///
/// The time in it is for people. Nothing is ordered or expired by it: retention uses the time that the manifest records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId {
    taken_at: DateTime<Utc>,
    random: [u8; 8],
}

const TIME: &str = "%Y%m%dT%H%M%SZ";

impl BackupId {
    /// A new id for a backup taken at `taken_at`.
    ///
    /// # Panics
    /// If the kernel has no randomness to give.
    #[must_use]
    pub fn new(taken_at: DateTime<Utc>) -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the kernel's random generator answers");
        Self { taken_at: taken_at.trunc_subsecs(0), random }
    }

    /// The time in the name, to the second.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        self.taken_at
    }
}

/// Text that is not a backup id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a backup id: expected the form 20261121T030000Z-3f9a51c07be2d418")]
pub struct BackupIdError;

impl std::fmt::Display for BackupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}-{}", self.taken_at.format(TIME), hex::encode(self.random)))
    }
}

impl std::fmt::Debug for BackupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for BackupId {
    type Err = BackupIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (time, random) = text.split_once('-').ok_or(BackupIdError)?;
        let taken_at = NaiveDateTime::parse_from_str(time, TIME).map_err(|_| BackupIdError)?.and_utc();
        let mut bytes = [0; 8];
        hex::decode_to_slice(random, &mut bytes).map_err(|_| BackupIdError)?;
        let id = Self { taken_at, random: bytes };
        // One spelling only: what it says must be what was read.
        if id.to_string() == text { Ok(id) } else { Err(BackupIdError) }
    }
}

impl serde::Serialize for BackupId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BackupId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::BackupId;

    #[test]
    fn one_spelling_only() {
        let text = "20261121T030000Z-3f9a51c07be2d418";
        assert_eq!(text.parse::<BackupId>().unwrap().to_string(), text);
        for bad in [
            "",
            "20261121T030000Z",
            "20261121T030000Z-3F9a51c07be2d418",
            "20261321T030000Z-3f9a51c07be2d418",
            "2026112T0300000Z-3f9a51c07be2d418",
            "20261121T030000Z-3f9a51c07be2d41",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }
}
