//! The configuration that `init` writes, and what it says in the end.

use super::{Args, InitReport};
use crate::operation::init::{join::JoinReport, kit::KitStore};

/// A TOML string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    format!("[{}]", items.into_iter().map(|item| quote(item)).collect::<Vec<_>>().join(", "))
}

/// What the configuration says besides the arguments.
pub(super) struct Written<'a> {
    pub(super) stores: &'a [KitStore],
    pub(super) recipients: &'a [String],
    pub(super) roles: &'a [&'a str],
}

/// `tenure.toml`.
pub(super) fn configuration(args: &Args, written: &Written<'_>) -> String {
    let mut text =
        String::from("# tenure.toml: `tenure config show` fills in the defaults; every setting is in docs/configuration.md.\n");
    let mut add = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    let lines = |store: &KitStore| [vec![format!("url = {}", quote(&store.url))], store.settings.clone()].concat();
    let named = |what: &str| written.stores.iter().filter(move |store| store.what == what).map(lines).collect::<Vec<_>>();
    add("\n[vault]");
    named("vault").concat().iter().for_each(|line| add(line));
    add("lock = \"none\"");
    add("\n[keyring]");
    named("keyring").concat().iter().for_each(|line| add(line));
    let mirrors: Vec<String> = named("mirror").iter().map(|lines| format!("{{ {} }}", lines.join(", "))).collect();
    if !mirrors.is_empty() {
        add(&format!("mirrors = [{}]", mirrors.join(", ")));
    }
    add(&format!("recipients = {}", list(written.recipients)));
    add("\n[signing]");
    add("allowed_signers = \"allowed_signers\"");
    for role in written.roles {
        add(&format!("{role} = \"keys/{role}\""));
    }
    let (name, connection) = &args.cluster;
    // A name with a dot in it would otherwise be two tables.
    let name = if name.contains('.') { quote(name) } else { name.clone() };
    add(&format!("\n[cluster.{name}]"));
    add(&format!("primary = {}", quote(connection)));
    if !args.replica.is_empty() {
        add(&format!("replicas = {}", list(&args.replica)));
    }
    add(&format!("databases = {}", quote(&args.databases)));
    add("\n[limits]");
    add("jobs = 4");
    add("\n[[policy]]");
    add("keep = \"6 months\"");
    add("late_after = \"26h\"");
    text
}

/// What `init --join` says.
pub(super) fn join_report(report: &JoinReport) -> String {
    let mut text = format!("This host has keys and a configuration for installation {}:\n\n", report.installation);
    for file in [&report.config, &report.allowed_signers].into_iter().chain(&report.keys) {
        text.push_str(&format!("  {file}\n"));
    }
    let Some(file) = &report.signers_file else {
        text.push_str(&format!("\nIts keys count from now on: {} says so.\n\nNext: `tenure check`.\n", report.signers));
        return text;
    };
    let copy = if report.signers.starts_with("s3://") { "aws s3 cp" } else { "cp" };
    let to = report.signers.strip_prefix("file://").unwrap_or(&report.signers);
    text.push_str(&format!(
        "\nListing, verifying and showing work now. Its backups and restores count once an operator, wherever that key is kept, has\n\
         looked at {file}, signed it, and stored both files, the signature first:\n\n  \
         ssh-keygen -Y sign -f keys/operator -n tenure-root {file}\n  \
         {copy} {file}.sig {to}.sig\n  \
         {copy} {file} {to}\n\nThen: `tenure check`. Policies are each host's own: copy [[policy]] from where backups ran before.\n"
    ));
    text
}

/// What `init` says.
pub(super) fn report(report: &InitReport) -> String {
    let mut text = format!("Made a vault at {} and a keyring at {}", report.vault, report.keyring);
    if !report.mirrors.is_empty() {
        text.push_str(&format!(" (mirrored to {})", report.mirrors.join(", ")));
    }
    text.push_str(".\n\n");
    let folder = report.keys.first().and_then(|key| key.rsplit_once('/')).map_or("keys", |(folder, _)| folder);
    let kit = if report.identity_made {
        "the only way to read a backup: take it off this host, keep two copies"
    } else {
        "addresses and public keys for a recovery: keep it with your identities"
    };
    let rows = [
        (report.config.as_str(), "the configuration"),
        (report.recovery_kit.as_str(), kit),
        (folder, "signing keys of this host; operator and eraser belong offline as well"),
        (report.allowed_signers.as_str(), "whose signature counts for what"),
    ];
    let width = rows.iter().map(|(path, _)| path.chars().count()).max().unwrap_or_default();
    for (path, what) in rows {
        text.push_str(&format!("  {path:width$}  {what}\n"));
    }
    text.push_str("\nNext: `tenure check`, then `tenure backup --all`.\n");
    text
}
