//! `tenure verify`.

use std::path::PathBuf;

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_identity, read_signing_key},
    table::{count, size},
};
use crate::{
    config::store::Role,
    operation::{
        failure::{Failure, FailureClass},
        verify::{Verify, VerifyReport, Which},
    },
    printable::Printable,
    seal::RecoveryIdentity,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenants whose backups to look at
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Every backup in the vault
    #[arg(long)]
    all: bool,

    /// Recovery kit or age identity file; also opens every chunk and counts its rows
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// Verifies, with the restorer's credentials; with an identity it also opens everything.
///
/// # Errors
/// Stores out of reach; a tenant that nobody knows.
pub async fn perform(
    installation: &Installation,
    edge: &Edge,
    which: &Which,
    identity: Option<&RecoveryIdentity>,
) -> Result<VerifyReport, Failure> {
    let signer = match installation.config.signing.restorer {
        Some(_) => read_signing_key(&installation.config, "restorer").map_err(|failure| failure.one_line()),
        None => Err("the configuration has no `signing.restorer`".to_owned()),
    };
    let verify = Verify {
        vault: &installation.vault,
        keyring: &installation.keyring,
        identity,
        signer: signer.as_ref().map_err(Clone::clone),
        progress: &*edge.progress(),
        cancel: &edge.stop,
    };
    verify.run(which, edge.now()).await
}

/// What was looked at, in a line.
#[must_use]
pub fn summary(report: &VerifyReport) -> String {
    let checked = &report.checked;
    let how =
        if report.opened { "every chunk was opened and its rows counted" } else { "digests and signatures; nothing was opened" };
    let all = (count(checked.manifests, "backup"), count(checked.chunks, "chunk"), size(checked.bytes));
    format!("checked {}, {}, {} ({how})", all.0, all.1, all.2)
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let identity = args.identity.as_deref().map(read_identity).transpose()?;
    let installation = Installation::open(edge, Role::Restorer).await?;
    let which = if args.all { Which::All } else { Which::Tenants(args.tenants) };
    let report = perform(&installation, edge, &which, identity.as_ref()).await?;
    edge.output.outcome("verify", &report, report.problems.is_empty(), text)?;
    Ok(Ended { worst: (!report.problems.is_empty()).then_some(FailureClass::Integrity) })
}

fn text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let tenant = problem.tenant.as_deref().map_or("unknown tenant".to_owned(), |tenant| Printable(tenant).to_string());
        let backup = problem.backup.as_deref().map(|backup| format!(" {backup}")).unwrap_or_default();
        text.push_str(&format!("bad: {tenant}{backup}: {}: {}\n", problem.object, problem.problem));
    }
    for leftover in &report.leftovers {
        text.push_str(&format!("leftover, harmless: {leftover}\n"));
    }
    for finding in &report.findings {
        text.push_str(&format!("recorded: {finding}\n"));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    for name in &report.unknown {
        text.push_str(&format!("unknown, not looked at: {}\n", Printable(name)));
    }
    for place in &report.not_looked_at {
        text.push_str(&format!("not looked at: {place}: these credentials may not read it\n"));
    }
    if !report.unknown.is_empty() {
        text.push_str(&format!("{} that tenure does not know\n", count(report.unknown.len() as u64, "object")));
    }
    text.push_str(&format!("{}\n", summary(report)));
    text.push_str(&match report.problems.len() {
        0 => "all good\n".to_owned(),
        n => format!("{}; backups that are not named are whole{}\n", count(n as u64, "problem"), mended(report)),
    });
    text
}

/// What a backup mends of it, and nobody has to put back: chunks and pages.
fn mended(report: &VerifyReport) -> &'static str {
    let is_mended = |object: &str| matches!(object.rsplit('/').nth(2), Some("c" | "p"));
    match report.problems.iter().any(|problem| is_mended(&problem.object)) {
        true => ". The next `tenure backup` stores missing and damaged chunks and pages anew, and depends on none of them",
        false => "",
    }
}
