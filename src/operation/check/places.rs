//! Whether vault, keyring and mirrors are apart from each other.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Report, Request, StoreToCheck};
use crate::store::{Location, s3::Credentials};

/// Where a store is, as far as two can be compared.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Directory(PathBuf),
    /// A prefix in a bucket is no separation: credentials and lifecycle rules are the bucket's.
    Bucket {
        /// `None` is Amazon's.
        endpoint: Option<String>,
        bucket: String,
        /// Whose credentials, where a profile names them.
        profile: Option<String>,
    },
}

impl Place {
    fn of(location: &Location) -> Self {
        match location {
            Location::Directory(path) => Self::Directory(path.clone()),
            Location::S3(settings) => Self::Bucket {
                endpoint: settings.endpoint.as_ref().map(|endpoint| endpoint.trim_end_matches('/').to_ascii_lowercase()),
                bucket: settings.bucket.clone(),
                profile: match &settings.credentials {
                    Credentials::Profile(profile) => Some(profile.clone()),
                    Credentials::Usual | Credentials::Given(_) => None,
                },
            },
        }
    }
}

const APART: &str =
    "Who reads both reads everything, and who loses one loses both: give them places and credentials of their own.";

pub(super) fn check(request: &Request) -> Report {
    let mut report = Report::default();
    let mut stores: Vec<(String, &StoreToCheck)> =
        vec![("vault".to_owned(), &request.vault), ("keyring".to_owned(), &request.keyring)];
    stores.extend(request.mirrors.iter().enumerate().map(|(number, mirror)| (format!("mirror {}", number + 1), mirror)));
    let mut apart = true;
    for (index, (name, store)) in stores.iter().enumerate() {
        for (other_name, other) in stores.iter().take(index) {
            apart &= compare(
                &format!("{other_name} and {name}"),
                &Place::of(&other.location),
                &Place::of(&store.location),
                &mut report,
            );
        }
    }
    if apart {
        report.ok("stores", "vault, keyring and mirrors are apart from each other");
    }
    if request.mirrors.is_empty() {
        if request.accept_single_keyring {
            report.ok("keyring", "one copy, as accept_single_keyring says");
        } else {
            report.warning(
                "keyring",
                "there is one copy of the keys: if it is lost, so is every backup",
                "Add [keyring] mirrors under other credentials, or set accept_single_keyring = true.",
            );
        }
    }
    report
}

/// Whether two stores are apart.
fn compare(names: &str, one: &Place, other: &Place, report: &mut Report) -> bool {
    match (one, other) {
        (Place::Directory(one), Place::Directory(other)) => directories(names, one, other, report),
        (
            Place::Bucket { endpoint, bucket, profile },
            Place::Bucket { endpoint: other_endpoint, bucket: other_bucket, profile: other_profile },
        ) => {
            if endpoint == other_endpoint && bucket == other_bucket {
                report.error(names, format!("both are in the bucket {bucket}: a prefix is no separation"), APART);
                return false;
            }
            if names.contains("mirror") && endpoint == other_endpoint && profile == other_profile {
                report.warning(
                    names,
                    "both are reached with the same credentials",
                    "Give the mirror a `profile` of another account.",
                );
            }
            true
        }
        _ => true,
    }
}

fn directories(names: &str, one: &Path, other: &Path, report: &mut Report) -> bool {
    let (one, other) = (resolved(one), resolved(other));
    if one.starts_with(&other) || other.starts_with(&one) {
        report.error(names, format!("{} and {} are one place, or one lies in the other", one.display(), other.display()), APART);
        return false;
    }
    let device = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.dev());
    if let (Some(first), Some(second)) = (device(&one), device(&other))
        && first == second
    {
        report.warning(
            names,
            format!("{} and {} are on the same disk", one.display(), other.display()),
            "Fine for a trial. For real use put them on different machines or into different accounts.",
        );
    }
    true
}

/// With links followed; as it is where it does not exist.
fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn bucket(name: &str, profile: Option<&str>) -> Place {
        Place::Bucket { endpoint: None, bucket: name.to_owned(), profile: profile.map(str::to_owned) }
    }

    fn levels(names: &str, one: &Place, other: &Place) -> Vec<Level> {
        let mut report = Report::default();
        compare(names, one, other, &mut report);
        report.findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn one_place_is_found_behind_links_and_prefixes() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| Place::Directory(folder.path().join(name));
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::create_dir(folder.path().join("c")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("a"), folder.path().join("link")).unwrap();
        for (one, other) in [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "link"), ("link/b", "a")] {
            assert_eq!(levels("vault and keyring", &place(one), &place(other)), [Level::Error], "{one} {other}");
        }
        assert_eq!(levels("vault and keyring", &place("a"), &place("c")), [Level::Warning]);
        assert_eq!(levels("vault and keyring", &bucket("x", None), &bucket("x", Some("p"))), [Level::Error]);
        assert_eq!(levels("vault and keyring", &bucket("x", None), &bucket("y", None)), []);
        assert_eq!(levels("keyring and mirror 1", &bucket("x", None), &bucket("y", None)), [Level::Warning]);
        assert_eq!(levels("keyring and mirror 1", &bucket("x", None), &bucket("y", Some("p"))), []);
    }
}
