//! What a client program says of its version.

/// `15.20`; a beta or release candidate has minor 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolVersion {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
}

impl std::fmt::Display for ToolVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Security holes that a newer minor version closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownHoles {
    /// The first minor version without them.
    pub fixed_in: ToolVersion,
    /// Their names.
    pub names: &'static [&'static str],
}

/// A superuser of the server that is dumped could run code on the client, or in the restored server.
const HOLES: &[&str] = &["CVE-2025-8714", "CVE-2025-8715", "CVE-2026-18408", "CVE-2026-116314"];

/// The first minor versions without [`HOLES`]: the releases of 2026-11-12. Branches that ended earlier never got them.
const FIXED_IN: &[ToolVersion] = &[
    ToolVersion { major: 14, minor: 25 },
    ToolVersion { major: 15, minor: 20 },
    ToolVersion { major: 16, minor: 16 },
    ToolVersion { major: 17, minor: 12 },
    ToolVersion { major: 18, minor: 7 },
];

impl ToolVersion {
    /// Reads `pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`.
    #[must_use]
    pub fn parse(printed: &str) -> Option<Self> {
        let number = printed.split_once("(PostgreSQL)")?.1.split_whitespace().next()?;
        let mut parts = number.splitn(2, '.');
        let major = parts.next()?;
        let digits = major.find(|c: char| !c.is_ascii_digit()).unwrap_or(major.len());
        let minor = parts.next().map_or(Some(0), |minor| minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())?;
        Some(Self { major: major.get(..digits)?.parse().ok()?, minor })
    }

    /// What is known to be wrong with it.
    #[must_use]
    pub fn known_holes(self) -> Option<KnownHoles> {
        let fixed_in = FIXED_IN.iter().find(|fixed| fixed.major >= self.major)?;
        (self < *fixed_in).then_some(KnownHoles { fixed_in: *fixed_in, names: HOLES })
    }

    /// The version to update to, if this is a `pg_dump` without the releases of 2026-11-12 and a server of `version_num` has them. Such
    /// a server keeps a parameter `pg_attver` with each column, which an older `pg_dump` takes for a setting of the user's, and an
    /// older server refuses (tried: 18.6 on 15.20).
    #[must_use]
    pub fn is_behind(self, version_num: u32) -> Option<Self> {
        let server = Self { major: version_num / 10_000, minor: version_num % 10_000 };
        self.known_holes().filter(|_| server.known_holes().is_none()).map(|holes| holes.fixed_in)
    }
}

impl ToolVersion {
    /// Whether a `pg_restore` of this version begins with `SET transaction_timeout`, which a server of that major version refuses, and
    /// whether a `pg_dump` of it writes archives that only such a `pg_restore` reads. Both came with 17 (tried: 18.6 on 15.20).
    #[must_use]
    pub fn is_too_new_for(self, server_major: u32) -> bool {
        self.major >= 17 && server_major < 17
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (printed, expected) in [
            ("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", Some((15, 20))),
            ("pg_restore (PostgreSQL) 18beta1\n", Some((18, 0))),
            ("pg_restore (PostgreSQL) 17rc1", Some((17, 0))),
            ("pg_dump (EnterpriseDB) 15.2", None),
        ] {
            assert_eq!(ToolVersion::parse(printed).map(|v| (v.major, v.minor)), expected, "{printed}");
        }
    }

    #[test]
    fn old_minors_have_known_holes() {
        let version = |major, minor| ToolVersion { major, minor };
        assert!(version(15, 20).known_holes().is_none());
        assert_eq!(version(15, 19).known_holes().unwrap().fixed_in, version(15, 20));
        assert_eq!(version(13, 23).known_holes().unwrap().fixed_in, version(14, 25));
        assert!(version(18, 6).known_holes().is_some());
        assert!(version(19, 0).known_holes().is_none());
    }

    #[test]
    fn what_sets_a_transaction_timeout_is_too_new_for_servers_without() {
        let too_new = |tool, server| ToolVersion { major: tool, minor: 0 }.is_too_new_for(server);
        assert!(too_new(17, 16) && too_new(18, 15));
        assert!(!too_new(16, 14) && !too_new(18, 17));
    }

    #[test]
    fn an_old_dump_of_a_new_server_is_told() {
        let version = |major, minor| ToolVersion { major, minor };
        assert_eq!(version(18, 6).is_behind(150_020), Some(version(18, 7)));
        assert_eq!(version(18, 7).is_behind(150_020), None);
        assert_eq!(version(18, 6).is_behind(150_019), None);
    }
}
