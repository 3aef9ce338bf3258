//! What this host gives away: identities, signing keys, core dumps, swap.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Report, Request};

/// An identity file has a few lines. Larger files are not looked into.
const LARGEST_IDENTITY: u64 = 64 * 1024;

pub(super) fn check(request: &Request) -> Report {
    let mut report = Report::default();
    identities(request, &mut report);
    signing_keys(request, &mut report);
    core_dumps(&mut report);
    swap(&mut report);
    report
}

/// A host that backs up needs no identity; whoever breaks into it should not find one.
fn identities(request: &Request, report: &mut Report) {
    let found: Vec<PathBuf> =
        request.identity_places.iter().flat_map(|place| files(place)).filter(|file| holds_identity(file)).collect();
    for file in &found {
        report.warning(
            "recovery identity",
            format!(
                "{} holds an identity that this host can read: whoever takes over the host can open every backup",
                file.display()
            ),
            "Move it to an offline place, with a copy in a second one; backups need only the recipients.",
        );
    }
    if found.is_empty() {
        report.ok("recovery identity", "none is readable here");
    }
}

/// The place itself, or the plain files in it.
fn files(place: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(place) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect(),
        Err(_) => vec![place.to_owned()],
    }
}

fn holds_identity(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST_IDENTITY) {
        return false;
    }
    let mut text = zeroize::Zeroizing::new(Vec::new());
    if file.take(LARGEST_IDENTITY).read_to_end(&mut text).is_err() {
        return false;
    }
    let is_identity = |line: &[u8]| line.starts_with(b"AGE-SECRET-KEY-") || line.starts_with(b"AGE-PLUGIN-");
    text.split(|byte| *byte == b'\n').any(|line| is_identity(line.trim_ascii_start()))
}

/// Each role has its own key so that one theft is never all of them.
fn signing_keys(request: &Request, report: &mut Report) {
    let (here, missing): (Vec<_>, Vec<_>) = request.signing_keys.iter().partition(|(_, path)| path.exists());
    for (role, path) in &missing {
        let object = format!("signing key of the {role}");
        let message = format!("{} is missing", path.display());
        if *role == "worker" {
            report.error(object, message, "Backups are signed with it: put it back, or correct [signing].");
        } else {
            report.ok(object, format!("{message}: it is kept elsewhere"));
        }
    }
    let roles: Vec<&str> = here.iter().map(|(role, _)| *role).collect();
    if roles.len() >= 5 {
        report.warning(
            "signing keys",
            format!(
                "the keys of all roles lie on this host ({}): whoever takes it over can also plan and sign an erasure",
                roles.join(", ")
            ),
            "Keep the operator's and the eraser's key elsewhere; `backup` needs only the worker's.",
        );
    } else if !roles.is_empty() {
        report.ok("signing keys", format!("on this host: {}", roles.join(", ")));
    }
}

fn core_dumps(report: &mut Report) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Core).current;
    let dumpable = rustix::process::dumpable_behavior();
    let off = limit == Some(0) || matches!(dumpable, Ok(rustix::process::DumpableBehavior::NotDumpable));
    if off {
        report.ok("core dumps", "off for this process");
    } else {
        report.warning(
            "core dumps",
            "on: a crash may write keys and rows to a disk",
            "Set `ulimit -c 0` or LimitCORE=0 for tenure.",
        );
    }
}

fn swap(report: &mut Report) {
    let Ok(text) = std::fs::read_to_string("/proc/swaps") else {
        report.ok("swap", "not known here: there is no /proc/swaps");
        return;
    };
    let clear: Vec<&str> =
        text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).filter(|device| !stays_secret(device)).collect();
    if clear.is_empty() {
        report.ok("swap", "off, or in memory or encrypted");
    } else {
        report.warning(
            "swap",
            format!("active on {}: keys and rows may be written there in clear", clear.join(", ")),
            "Encrypt the swap device, or turn it off for tenure's cgroup (MemorySwapMax=0).",
        );
    }
}

/// Compressed memory, or a device-mapper device that dm-crypt made.
fn stays_secret(device: &str) -> bool {
    let Some(name) = device.strip_prefix("/dev/") else { return false };
    if name.starts_with("zram") {
        return true;
    }
    let uuid = std::fs::read_to_string(format!("/sys/block/{name}/dm/uuid"));
    uuid.is_ok_and(|uuid| uuid.starts_with("CRYPT-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_found_wherever_the_line_stands() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("kit.txt", "# tenure\nAGE-SECRET-KEY-1XYZ\n");
        write("plugin", "AGE-PLUGIN-YUBIKEY-1XYZ\n");
        write("mention", "# AGE-SECRET-KEY-1 is what it starts with\nage1abc\n");
        let found: Vec<PathBuf> = files(folder.path()).into_iter().filter(|file| holds_identity(file)).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(!holds_identity(Path::new("/nonexistent")));
    }
}
