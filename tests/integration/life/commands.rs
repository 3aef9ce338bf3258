//! The commands that let go of something or change keys, as the actors of a world give them.

use tenure::{
    operation::{
        expire::{Expire, Request},
        failure::{Failure, FailureClass},
        hold::{self, Holding},
        keys::{
            change::{Change, Which},
            prune::Prune,
            rewrap::Rewrap,
            rotate::Rotate,
        },
        progress::{Progress, Silent},
        purge::{Purge, What},
    },
    tenant::TenantName,
};
use tokio_util::sync::CancellationToken;

use super::world::{Forgets, World, clock};

/// A report's end as the program's: its class, and the kind of what went wrong first.
fn ended(class: Option<FailureClass>, kind: Option<&str>) -> Result<(), Failure> {
    match class {
        None => Ok(()),
        Some(class) => {
            let kind: &'static str = kind.unwrap_or("open").to_owned().leak();
            Err(Failure::new(class, kind, "", ""))
        }
    }
}

/// At each stage of a purge all is forgotten but its plan.
struct Stages {
    forgets: Forgets,
    actor: usize,
    plan: String,
}

impl Progress for Stages {
    fn tenant_started(&self, _: &TenantName, _: u64) {}
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn stage(&self, _: &TenantName, stage: &'static str) {
        self.forgets.lock().unwrap().push((self.actor, format!("{stage}/{}", self.plan)));
    }
    fn tenant_finished(&self, _: &TenantName, _: &str) {}
}

impl World {
    fn change<'a>(&'a self, actor: usize, cancel: &'a CancellationToken) -> Change<'a> {
        let slot = &self.slots[actor];
        Change {
            vault: &slot.vault,
            keyring: &slot.keyring,
            removers: &slot.key_stores,
            signer: &self.operator,
            role: "operator",
            clock: &clock,
            progress: &Silent,
            cancel,
            dry_run: false,
            approvals: None,
        }
    }

    /// `keys rotate`.
    ///
    /// # Errors
    /// The program's.
    pub async fn rotate(&self, actor: usize, tenant: TenantName) -> Result<(), Failure> {
        self.slots[actor].vault.ask_anew().await;
        let (cancel, locks, recipients) = (CancellationToken::new(), self.locks(actor), self.recipients());
        let rotate = Rotate { change: self.change(actor, &cancel), locks: &locks, recipients: &recipients };
        let report = rotate.run(&Which::Named(vec![tenant])).await?;
        let first = report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors).next();
        ended(report.class, first.map(|error| error.kind.as_str()))
    }

    /// `keys rewrap --all`.
    ///
    /// # Errors
    /// The program's.
    pub async fn rewrap(&self, actor: usize) -> Result<(), Failure> {
        self.slots[actor].vault.ask_anew().await;
        let (cancel, identity, recipients) = (CancellationToken::new(), self.identity(), self.recipients());
        let rewrap = Rewrap { change: self.change(actor, &cancel), identity: &identity, recipients: &recipients };
        let report = rewrap.run(&Which::All).await?;
        let first = report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors).next();
        ended(report.class, first.map(|error| error.kind.as_str()))
    }

    /// `keys prune`.
    ///
    /// # Errors
    /// The program's.
    pub async fn prune(&self, actor: usize, tenant: TenantName) -> Result<(), Failure> {
        self.slots[actor].vault.ask_anew().await;
        let (cancel, locks) = (CancellationToken::new(), self.locks(actor));
        let change = Change { signer: &self.eraser, role: "eraser", ..self.change(actor, &cancel) };
        let report = Prune { change, locks: &locks }.run(&Which::Named(vec![tenant])).await?;
        let first = report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors).next();
        ended(report.class, first.map(|error| error.kind.as_str()))
    }

    /// `purge`, of everything or of what was taken before a time; what is left open is an error of its own.
    ///
    /// # Errors
    /// The program's.
    pub async fn purge(&self, actor: usize, tenant: TenantName, what: What) -> Result<(), Failure> {
        self.slots[actor].vault.ask_anew().await;
        let (cancel, locks, slot) = (CancellationToken::new(), self.locks(actor), &self.slots[actor]);
        let mut purge = Purge {
            vault: &slot.vault,
            keyring: &slot.keyring,
            locks: &locks,
            operator: &self.operator,
            eraser: &self.eraser,
            approvals: 0,
            clock: &clock,
            progress: &Silent,
            cancel: &cancel,
        };
        let intent = purge.look(&tenant, what, false).await?;
        if intent.is_empty() {
            return Ok(());
        }
        // A new plan says all that was found. The look wrote nothing; and from stage to stage a purge keeps nothing more, but for counts that
        // nobody goes by.
        let plan = intent.plan.lockers.iter().map(|on| {
            let ids = on.keys.iter().map(ToString::to_string).chain(on.backups.iter().map(|purged| purged.backup.to_string()));
            format!("/{}/{}/{}/{}", on.locker, on.cluster.is_some(), on.manifests, ids.collect::<Vec<_>>().join("/"))
        });
        let plan = format!("{}{}", intent.plan.id, plan.collect::<String>());
        let stages = Stages { forgets: self.forgets.clone(), actor, plan };
        if !intent.is_resumed() {
            stages.stage(&tenant, "planned");
            purge.progress = &stages;
        }
        let report = purge.carry_out(&tenant, &intent).await?;
        match report.open.first() {
            None => Ok(()),
            Some(open) => Err(Failure::new(FailureClass::SomeTenants, open.kind, &open.object, &open.what)),
        }
    }

    fn holding(&self, actor: usize) -> Holding<'_> {
        let slot = &self.slots[actor];
        Holding { vault: &slot.vault, keyring: &slot.keyring, operator: &self.operator, approvals: 0 }
    }

    /// `hold`.
    ///
    /// # Errors
    /// The program's.
    pub async fn hold(&self, actor: usize, tenant: TenantName) -> Result<(), Failure> {
        self.slots[actor].vault.ask_anew().await;
        self.holding(actor).hold(&tenant, "a court wants it", clock()).await.map(drop)
    }

    /// `release --all`.
    ///
    /// # Errors
    /// The program's.
    pub async fn release(&self, actor: usize, tenant: TenantName) -> Result<(), Failure> {
        self.slots[actor].vault.ask_anew().await;
        self.holding(actor).release(&tenant, hold::Which::All, clock()).await.map(drop)
    }

    /// `expire`; what the brakes keep is let go of at once, as by somebody who looked at it.
    ///
    /// # Errors
    /// The program's.
    pub async fn expire(&self, actor: usize) -> Result<(), Failure> {
        self.slots[actor].vault.ask_anew().await;
        let (cancel, slot) = (CancellationToken::new(), &self.slots[actor]);
        let expire =
            Expire { vault: &slot.vault, keyring: &slot.keyring, signer: Some(&self.janitor), at_once: 1, cancel: &cancel };
        let mut report = expire.run(Request::default(), clock()).await?;
        if let Some(run) = report.waiting.as_ref().and_then(|waiting| waiting.run.as_ref()) {
            let confirm = Some(run.parse().expect("an id"));
            report = expire.run(Request { confirm, ..Request::default() }, clock()).await?;
        }
        let first = report.problems.first().map(|problem| format!("{}: {}", problem.object, problem.problem));
        match report.class() {
            None => Ok(()),
            Some(class) => Err(Failure::new(class, "expire", "", first.unwrap_or_default())),
        }
    }
}
