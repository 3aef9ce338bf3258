//! What the commands that change keys have in common: whose keys, with which rights, and what is said in the end.

use std::sync::Arc;

use serde::Serialize;

use crate::{
    cli::{
        clusters,
        edge::{Edge, Ended},
        installation::{Installation, open_removers, read_signing_key},
    },
    config::store::Role,
    format::act::ActCommand,
    id::NameTag,
    operation::{
        failure::{Failure, FailureClass},
        fleet::Cluster,
        keys::{KeysFailure, Which, change::Change},
        lost,
        progress::Progress,
        refused,
    },
    printable::Printable,
    signature::SigningKey,
    store::Store,
    tenant::TenantName,
};

/// Arguments of all of them.
#[derive(Debug, clap::Args)]
pub(super) struct Whose {
    /// Tenants whose keys are meant
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Every tenant's
    #[arg(long)]
    all: bool,

    /// Go on with what is there although the keyring lost keys
    #[arg(long)]
    accept_lost_keys: bool,

    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// What a change of keys borrows from.
pub(super) struct Opened<'a> {
    /// The stores, with the role's credentials.
    pub(super) installation: Installation,
    /// Whose keys.
    pub(super) which: Which,
    role: &'static str,
    signer: SigningKey,
    removers: Vec<Arc<dyn Store>>,
    progress: Arc<dyn Progress>,
    dry_run: bool,
    approvals: Option<(u32, SigningKey)>,
    edge: &'a Edge,
}

impl<'a> Opened<'a> {
    /// Opens everything. Stops where the keyring lost keys: a new one would take the number of one that may come back.
    pub(super) async fn open(whose: Whose, (role, name): (Role, &'static str), edge: &'a Edge) -> Result<Self, Failure> {
        let installation = Installation::open(edge, role).await?;
        if !whose.accept_lost_keys {
            let Installation { vault, keyring, .. } = &installation;
            lost::refuse(vault, keyring, "no key was changed", "goes on with the keys that are there").await?;
        }
        let needed = installation.config.approvals.needed("keys");
        let planner = (needed > 0).then(|| read_signing_key(&installation.config, "operator")).transpose()?;
        Ok(Self {
            approvals: planner.map(|operator| (needed, operator)),
            which: if whose.all { Which::All } else { Which::Named(whose.tenants) },
            role: name,
            signer: read_signing_key(&installation.config, name)?,
            removers: open_removers(&installation.config).await,
            progress: edge.progress(),
            dry_run: whose.dry_run,
            installation,
            edge,
        })
    }

    /// What every change of keys works with.
    pub(super) fn change(&self) -> Change<'_> {
        Change {
            vault: &self.installation.vault,
            keyring: &self.installation.keyring,
            removers: &self.removers,
            signer: &self.signer,
            role: self.role,
            clock: &chrono::Utc::now,
            progress: &*self.progress,
            cancel: &self.edge.stop,
            dry_run: self.dry_run,
            approvals: self.approvals.as_ref().map(|(needed, operator)| (*needed, operator)),
        }
    }

    /// The same outcome, after a refusal of all of it was written down.
    pub(super) async fn noted<R>(&self, command: ActCommand, outcome: Result<R, Failure>) -> Result<R, Failure> {
        let Installation { vault, keyring, .. } = &self.installation;
        let about: Vec<NameTag> = match &self.which {
            Which::Named(names) => names.iter().map(|name| keyring.tag(name)).collect(),
            Which::All => Vec::new(),
        };
        let signer = Some(&self.signer).filter(|_| !self.dry_run);
        refused::noted(vault, command, &about, signer, self.edge.now(), outcome).await
    }

    /// Where the tenants' locks are taken.
    pub(super) fn clusters(&self) -> Result<Vec<Cluster>, Failure> {
        clusters::fleet(&self.installation.config)
    }

    /// Prints the report, and says on standard error what failed.
    pub(super) fn told<'r, R: Serialize>(
        &self,
        command: &str,
        report: &'r R,
        text: impl FnOnce(&R) -> String,
        failures: impl Iterator<Item = &'r KeysFailure>,
        worst: Option<FailureClass>,
    ) -> Result<Ended, Failure> {
        self.edge.output.report(command, report, |report| text(report))?;
        for failure in failures {
            self.edge.output.complain(&Printable(&failure.object).to_string(), &failure.message, &failure.hint);
        }
        Ok(Ended { worst })
    }
}
