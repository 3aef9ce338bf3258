//! Who signed a plan, and whose signatures count now.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::words;
use crate::{
    id::{RecordId, Sha256Digest},
    object_name::prefix,
    operation::failure::{Failure, FailureClass},
    signature::{
        Namespace, SignatureError,
        allowed_signers::{Person, Signer},
    },
    signed::{self, Whole},
    vault::Vault,
};

/// The signatures of a plan.
#[derive(Debug)]
pub struct Tally {
    /// The plan as it was signed.
    pub plan: Whole,
    /// Signatures that count.
    pub signers: Vec<(Signer, DateTime<Utc>)>,
    /// The persons that they are of; one who signed with several keys is there once.
    pub persons: Vec<Person>,
    /// Signatures of keys that the vault knows and that do not count now, each with the reason.
    pub not_counted: Vec<String>,
    /// What lies there and is no signature of this plan by anybody whom the vault knows: object, and what is wrong.
    pub bad: Vec<(String, String)>,
}

impl Tally {
    /// Counts. Each signature must be of the plan's very bytes, in the plans' namespace, by a key that may sign there now.
    ///
    /// # Errors
    /// The plan itself cannot be read or trusted; a store that cannot be reached.
    pub async fn of(vault: &Vault, plan: RecordId, now: DateTime<Utc>) -> Result<Self, Failure> {
        Self::counted(vault, plan, now, None).await
    }

    /// Counts as of an earlier time: those that were there then, and counted.
    ///
    /// # Errors
    /// As [`Tally::of`].
    pub async fn as_of(vault: &Vault, plan: RecordId, then: DateTime<Utc>) -> Result<Self, Failure> {
        Self::counted(vault, plan, then, Some(then)).await
    }

    async fn counted(
        vault: &Vault,
        plan: RecordId,
        now: DateTime<Utc>,
        stored_by: Option<DateTime<Utc>>,
    ) -> Result<Self, Failure> {
        let was_there = |at: DateTime<Utc>| stored_by.is_none_or(|by| at <= by);
        let whole = vault.signed_plan(plan).await?;
        let mut tally = Self { plan: whole, signers: Vec::new(), persons: Vec::new(), not_counted: Vec::new(), bad: Vec::new() };
        let own = vault.signers().verify(Namespace::Plan, &tally.plan.bytes, &tally.plan.signature, now);
        let object = signed::locate(vault.store(), &format!("{}{plan}/plan.json.sig", prefix::PLANS));
        if was_there(tally.plan.stored_at) {
            tally.add(object, own, tally.plan.stored_at);
        }
        for approval in vault.approvals(plan, &tally.plan.bytes, Some(now)).await? {
            if was_there(approval.stored_at) {
                tally.add(approval.object, approval.signer, approval.stored_at);
            }
        }
        let keys: BTreeSet<Sha256Digest> = tally.signers.iter().map(|(signer, _)| signer.key).collect();
        tally.persons = vault.signers().persons();
        tally.persons.retain(|person| !person.keys.is_disjoint(&keys));
        Ok(tally)
    }

    fn add(&mut self, object: String, signer: Result<Signer, SignatureError>, at: DateTime<Utc>) {
        match signer {
            Ok(signer) => self.signers.push((signer, at)),
            // The vault's own list says that it counts no more, or for other things.
            Err(error @ SignatureError::NotAllowed { reason: Some(_), .. }) => self.not_counted.push(error.to_string()),
            Err(error) => self.bad.push((object, error.to_string())),
        }
    }

    /// How many persons signed.
    #[must_use]
    pub fn have(&self) -> u32 {
        u32::try_from(self.persons.len()).unwrap_or(u32::MAX)
    }

    /// Stops where something that is no signature of this plan lies beside it.
    ///
    /// # Errors
    /// It does, and which.
    pub fn refuse_bad(&self) -> Result<(), Failure> {
        let Some((object, what)) = self.bad.first() else { return Ok(()) };
        let message = format!("{object} is no approval that counts: {what}");
        Err(Failure::new(FailureClass::Integrity, "bad-approval", object, message).hint(
            "Nothing was begun. Find out who put it there, and move it away; or give the plan up by `tenure plans cancel`, and plan anew.",
        ))
    }

    /// `1: operator@db1`, and why others do not count.
    #[must_use]
    pub fn in_words(&self) -> String {
        let names: Vec<String> = self.persons.iter().map(|person| self.name(person)).collect();
        let names = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        let several = self.signers.len() - self.persons.len().min(self.signers.len());
        let same = if several == 0 {
            String::new()
        } else {
            format!(" ({} more of the same persons)", words::signatures(several as u64))
        };
        let not = self.not_counted.iter().map(|why| format!("; not counted: {why}")).collect::<String>();
        format!("{}{names}{same}{not}", self.have())
    }

    /// The names by which a person signed.
    #[must_use]
    pub fn name(&self, person: &Person) -> String {
        let names: BTreeSet<&str> = self
            .signers
            .iter()
            .filter(|(signer, _)| person.keys.contains(&signer.key))
            .map(|(signer, _)| signer.principal.as_str())
            .collect();
        names.into_iter().collect::<Vec<_>>().join(" = ")
    }

    /// Whose signature would count besides.
    #[must_use]
    pub fn who_else(&self, vault: &Vault, now: DateTime<Utc>) -> Vec<String> {
        let counted = |signer: &Signer| self.persons.iter().any(|person| person.keys.contains(&signer.key));
        let may = vault.signers().who_may(Namespace::Plan, now);
        let names: BTreeSet<String> = may.into_iter().filter(|signer| !counted(signer)).map(|signer| signer.principal).collect();
        names.into_iter().collect()
    }
}
