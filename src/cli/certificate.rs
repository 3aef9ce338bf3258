//! `tenure certificate`.

use std::path::{Path, PathBuf};

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::Installation,
    page,
    table::{count, size, table, time},
};
use crate::{
    config::store::Role,
    format::certificate::{Certificate, Opened, Trace},
    id::NameTag,
    operation::{
        certificate::{
            self, CertificateReport, CertificatesReport,
            export::{ExportReport, export},
            verify::{CertificateVerifyReport, Given, Outcome, VerifyCertificate},
        },
        failure::{Failure, FailureClass},
    },
    printable::{Printable, Word},
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List every certificate, and how far its erasure has come
    List {
        /// Only those of this tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantName>,
    },
    /// Show what is certified of an erasure
    Show {
        /// Its id, or a unique beginning of it
        certificate: String,

        /// Print the very bytes that are signed
        #[arg(long)]
        raw: bool,
    },
    /// Print it as one HTML page, to be read or printed
    Render {
        /// Its id, or a unique beginning of it
        certificate: String,

        /// Print the tenant's name on it; refused where the certificate is another tenant's
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantName>,
    },
    /// Check the signatures, and look again at everything that can be looked at
    Verify {
        /// Its id, or a unique beginning of it; or a file that was exported, with its .sig beside it
        certificate: String,
    },
    /// Write a certificate with its signatures, its inventory and the list of signers into a folder
    Export {
        /// Its id, or a unique beginning of it
        certificate: String,

        /// The folder; it is made where it is missing, and nothing in it is written over
        folder: PathBuf,
    },
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = &Installation::open(edge, Role::Restorer).await?;
    let is_bad = match args.action {
        Action::List { tenant } => {
            let report = certificate::list(vault, tenant.as_ref().map(|tenant| keyring.tag(tenant))).await?;
            edge.output.report("certificate list", &report, list_text)?;
            !report.problems.is_empty()
        }
        Action::Show { certificate, raw: true } => {
            edge.output.raw(&certificate::raw(vault, &certificate).await?)?;
            false
        }
        Action::Show { certificate, raw: false } => {
            let report = certificate::show(vault, &certificate).await?;
            edge.output.report("certificate show", &report, show_text)?;
            !report.problems.is_empty()
        }
        Action::Render { certificate, tenant } => {
            let report = certificate::show(vault, &certificate).await?;
            refuse_to_render(&report, tenant.as_ref().map(|tenant| (tenant, keyring.tag(tenant))))?;
            edge.output.raw(page::certificate::certificate(&report, tenant.as_ref()).as_bytes())?;
            false
        }
        Action::Verify { certificate } => {
            let servers = clusters::servers(config)?;
            let verify = VerifyCertificate { vault, keyring, servers: &servers, now: edge.now() };
            let report = match given(&certificate)? {
                Some(given) => verify.given(&given).await?,
                None => verify.by_id(&certificate).await?,
            };
            edge.output.report("certificate verify", &report, verify_text)?;
            report.checks.iter().any(|check| check.outcome == Outcome::DoesNotHold)
        }
        Action::Export { certificate, folder } => {
            let report = export(vault, &certificate, &folder).await?;
            edge.output.report("certificate export", &report, export_text)?;
            false
        }
    };
    Ok(Ended { worst: is_bad.then_some(FailureClass::Integrity) })
}

/// A page is made of what is whole, and bears the name of nobody else.
fn refuse_to_render(report: &CertificateReport, tenant: Option<(&TenantName, NameTag)>) -> Result<(), Failure> {
    let id = &report.certificate.id;
    if let Some(problem) = report.problems.first() {
        return Err(Failure::new(FailureClass::Integrity, "certificate-damaged", id, format!("certificate {id}: {problem}"))
            .hint(format!("No page is made of it. `tenure certificate verify {id}` says what else is wrong.")));
    }
    match tenant {
        Some((tenant, tag)) if tag != report.certificate.name_tag => {
            let message = format!("certificate {id} is not that of tenant {tenant}");
            Err(Failure::new(FailureClass::Refused, "another-tenant", tenant, message)
                .hint(format!("`tenure certificate list --tenant {}` shows those of it.", Word(tenant.as_str()))))
        }
        _ => Ok(()),
    }
}

/// A file, where the text is not an id.
fn given(text: &str) -> Result<Option<Given>, Failure> {
    if text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let read = |path: &Path| {
        std::fs::read(path).map(Into::into).map_err(|error| {
            Failure::new(FailureClass::Usage, "unreadable-file", path.display(), format!("cannot read {}", path.display()))
                .hint("name a document that `tenure certificate export` wrote; its signature lies beside it as .sig")
                .because(error)
        })
    };
    let path = PathBuf::from(text);
    let (bytes, signature) = (read(&path)?, read(&PathBuf::from(format!("{text}.sig")))?);
    Ok(Some(Given { path, bytes, signature }))
}

fn list_text(report: &CertificatesReport) -> String {
    let mut text = String::new();
    if report.certificates.is_empty() {
        text.push_str("no certificates\n");
    } else {
        let rows = report.certificates.iter().map(|entry| {
            let reference = entry.reference.as_deref().unwrap_or_default();
            [
                entry.id.clone(),
                time(entry.planned_at),
                entry.stage.as_str().to_owned(),
                entry.open.to_string(),
                time(entry.written_at),
                Printable(reference).to_string(),
            ]
        });
        text.push_str(&table(["CERTIFICATE", "PLANNED", "STAGE", "OPEN", "WRITTEN", "REFERENCE"], &[3], rows));
    }
    text.push_str(&problems_text(&report.problems));
    text
}

fn show_text(report: &CertificateReport) -> String {
    let certificate = &report.certificate;
    let request = &certificate.request;
    let mut text = format!("certificate {}: {}\n", certificate.id, certificate.stage.as_str());
    let mut line = |what: &str, value: String| text.push_str(&format!("{what}: {value}\n"));
    line("name tag", certificate.name_tag.to_string());
    line("reference", request.reference.as_ref().map_or("none".to_owned(), |reference| Printable(reference).to_string()));
    line("planned by", format!("{} at {}", Printable(&request.planned_by.principal), time(request.planned_by.at)));
    for approval in &request.approved_by {
        line("approved by", format!("{} at {}", Printable(&approval.principal), time(approval.at)));
    }
    for reached in &certificate.reached {
        line(reached.stage.as_str(), time(reached.at));
    }
    line("tenure was at work for", count(certificate.working_seconds, "second"));
    for node in &certificate.live.nodes {
        let lsn = node.drop_lsn.as_ref().map(|lsn| format!(", dropped at {lsn}"));
        let lsn = lsn.or(node.replay_lsn.as_ref().map(|lsn| format!(", replayed to {lsn}"))).unwrap_or_default();
        let at = node.at.map(|at| format!(", asked at {}", time(at))).unwrap_or_default();
        line(&Printable(&node.node).to_string(), format!("{}{lsn}{at}", Printable(&node.state)));
    }
    line("backups", backups_line(certificate));
    line(
        "a chunk was opened",
        match &certificate.keys.opened {
            Opened::NotTested => "not tested".to_owned(),
            Opened::Opened { backup, at, .. } => format!("of backup {backup} at {}", time(*at)),
        },
    );
    for copy in &certificate.keys.copies {
        let left = match &copy.left {
            Some(left) => format!("{} in its last listing", count(left.len() as u64, "object")),
            None => "it did not answer".to_owned(),
        };
        let destroyed = copy.destroyed_at.map_or("NOT destroyed".to_owned(), |at| format!("destroyed at {}", time(at)));
        line(&format!("keys in {}", copy.store), format!("{destroyed}, {left}"));
    }
    for copy in &certificate.copies {
        let oid = copy.database_oid.map_or("unknown".to_owned(), |oid| oid.to_string());
        let (cluster, state) = (Printable(&copy.cluster), copy.state.as_str());
        let made = time(copy.made_at);
        line("besides", format!("{}, on {cluster} with OID {oid}, since {made}: {state}", copy.what()));
    }
    match &certificate.remains.elsewhere {
        Some(copies) => copies.iter().for_each(|trace| line("elsewhere", trace_line(trace))),
        None => line("elsewhere", "unknown".to_owned()),
    }
    certificate.remains.traces.iter().for_each(|trace| line("remains", trace_line(trace)));
    certificate.remains.always.iter().for_each(|always| line("always", Printable(always).to_string()));
    for open in &certificate.open {
        let object = open.object.as_ref().map(|object| format!(" {}", Printable(object))).unwrap_or_default();
        let until = open.until.map(|until| format!(", until {}", time(until))).unwrap_or_default();
        line("open", format!("{}{object}{until}", open.kind));
    }
    let signed = &report.signed;
    line("document", format!("{}, signed by {} ({})", signed.file, Printable(&signed.principal), signed.fingerprint));
    line("SHA-256", signed.sha256.clone());
    for earlier in &report.earlier {
        line("before it", format!("{} of {}", earlier.file, time(earlier.stored_at)));
    }
    text.push_str(&problems_text(&report.problems));
    text
}

fn backups_line(certificate: &Certificate) -> String {
    let backups = &certificate.backups;
    let mut line = count(backups.count, "backup");
    if let Some((first, last)) = backups.first.zip(backups.last) {
        line.push_str(&format!(" from {} to {}", time(first), time(last)));
    }
    if let Some(inventory) = &backups.inventory {
        line.push_str(&format!(", {} with {}", count(inventory.objects, "object"), size(inventory.bytes)));
    }
    if let Some(left) = &backups.left {
        let locked = left.locked_until.map(|until| format!(", locked until {}", time(until))).unwrap_or_default();
        line.push_str(&format!("; {} left at {}{locked}", count(left.objects, "object"), time(left.at)));
    }
    line
}

fn trace_line(trace: &Trace) -> String {
    let what = Printable(&trace.what);
    match (&trace.gone_after, trace.until) {
        (None, _) => format!("{what}: unknown"),
        (Some(_), Some(until)) => format!("{what}: until {}", time(until)),
        (Some(after), None) => format!("{what}: for {after} after the live database is gone"),
    }
}

fn verify_text(report: &CertificateVerifyReport) -> String {
    let mut text = format!("certificate {}: {}\n", report.id, report.stage.as_str());
    for check in &report.checks {
        let outcome = match check.outcome {
            Outcome::Holds => "holds",
            Outcome::DoesNotHold => "DOES NOT HOLD",
            Outcome::NotTested => "not tested",
        };
        let why = check.why.as_ref().map(|why| format!(": {}", Printable(why))).unwrap_or_default();
        text.push_str(&format!("{outcome}: {} ({}){why}\n", check.what, Printable(&check.object)));
    }
    text
}

fn export_text(report: &ExportReport) -> String {
    let folder = Word(&report.folder);
    format!(
        "certificate {} is in {folder}: {}\nto check it without tenure, there: ssh-keygen -Y verify -f allowed_signers -I {} -n tenure-erasure -s {newest}.sig < {newest}\n",
        report.id,
        count(report.files.len() as u64, "file"),
        Word(&report.principal),
        newest = report.newest,
    )
}

fn problems_text(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("bad: {}\n", Printable(problem))).collect()
}
