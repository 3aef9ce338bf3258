//! The configuration that `init` writes, and what it says in the end.

use super::{Args, InitReport};

/// A TOML string.
pub(super) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    format!("[{}]", items.into_iter().map(|item| quote(item)).collect::<Vec<_>>().join(", "))
}

/// `tenure.toml`.
pub(super) fn configuration(args: &Args, recipients: &[String]) -> String {
    let mut text = String::from("# tenure.toml: see `tenure config show` for every setting with its default.\n");
    let mut add = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    add("\n[vault]");
    add(&format!("url = {}", quote(&args.vault.to_string())));
    args.settings(&args.vault).iter().for_each(|line| add(line));
    add("lock = \"none\"");
    add("\n[keyring]");
    add(&format!("url = {}", quote(&args.keyring.to_string())));
    args.settings(&args.keyring).iter().for_each(|line| add(line));
    if !args.mirror.is_empty() {
        let mirror = |url| [vec![format!("url = {}", quote(&format!("{url}")))], args.settings(url)].concat().join(", ");
        let mirrors: Vec<String> = args.mirror.iter().map(|url| format!("{{ {} }}", mirror(url))).collect();
        add(&format!("mirrors = [{}]", mirrors.join(", ")));
    }
    add(&format!("recipients = {}", list(recipients)));
    add("\n[signing]");
    add("allowed_signers = \"allowed_signers\"");
    for (role, _) in crate::operation::init::ROLES {
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
