//! What a hold keeps is there for who restores.

use std::collections::BTreeMap;

use tenure::{
    operation::{
        budget::Budget,
        progress::Silent,
        restore::{self, Restorer, Which},
    },
    postgres::tools::Tools,
};

use super::*;
use crate::restore::latest;

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_backup_under_a_hold_is_there_for_who_names_it() {
    let lockers = Lockers::new().await;
    let (acme, nights) = nights(&lockers, "acme", &days("2026-05-01", 3)).await;
    let (signer, cancel) = (lockers.key("restorer"), CancellationToken::new());
    let restorer = Restorer {
        vault: &lockers.vault,
        keyring: &lockers.keyring,
        clusters: &BTreeMap::new(),
        tools: &Tools::new(None, None),
        signer: &signer,
        jobs: 1,
        budget: &Budget::new(1024 * 1024),
        progress: &Silent,
        cancel: &cancel,
    };
    let named = Which::Backup(nights[1].id().to_string());
    let mut placed_hold = None;
    for (held, which, code) in [
        (false, &named, Some(4)),
        (true, &named, None),
        (true, &Which::Latest, Some(4)),
        (true, &Which::At(at("2026-05-03")), Some(4)),
        (false, &named, Some(4)),
    ] {
        match (held, placed_hold) {
            (true, None) => placed_hold = Some(hold(&lockers, acme.locker(), placed()).await),
            (false, Some(id)) => drop(hold(&lockers, acme.locker(), HoldAct::Released { hold: id }).await),
            _ => {}
        }
        let request = restore::Request { which: which.clone(), ..latest("acme") };
        let chosen = restorer.choose(&request, at("2027-11-01")).await;
        assert_eq!(chosen.as_ref().err().map(|failure| failure.class.code()), code, "{held} {which:?}");
        assert!(chosen.is_err() || chosen.is_ok_and(|chosen| chosen.backup() == nights[1].id()));
    }
}
