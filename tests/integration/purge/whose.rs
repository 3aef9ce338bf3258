//! A plan is the word of one operator: what it names must be its tenant's, by what is there besides.

use tenure::{
    format::plan::{Bound, Found, Plan, PlannedAct, PlannedLocker},
    id::{KeyId, RecordId},
};

use super::*;

/// A plan about a tenant that names these lockers and keys, signed by the operator.
async fn put_plan(lockers: &Lockers, about: &Tenant, act: PlannedAct, named: &[(&Tenant, &[KeyId])]) -> Plan {
    let planned = named.iter().map(|(tenant, keys)| PlannedLocker {
        locker: tenant.locker(),
        cluster: Some("here".to_owned()),
        keys: keys.to_vec(),
        manifests: 1,
        backups: Vec::new(),
    });
    let plan = Plan {
        format: 1,
        installation: lockers.installation(),
        id: RecordId::random(),
        name_tag: about.record.name_tag,
        act,
        lockers: planned.collect(),
        databases: Vec::new(),
        created_at: Utc::now(),
        bound: Bound::default(),
    };
    lockers.vault.put_plan(&plan, &lockers.key("operator")).await.unwrap();
    plan
}

async fn put_marks(lockers: &Lockers, plan: &Plan, steps: &[Step]) {
    for step in steps {
        let said = (Utc::now(), Found::default());
        lockers.vault.put_mark(plan.id, *step, said, &lockers.key("eraser")).await.unwrap();
    }
}

/// The next purge of a tenant goes on with the plan that lies there: not where that names a neighbour's, whatever step it has come past.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_names_a_neighbours_locker_or_key_destroys_nothing() {
    let (lockers, acme, neighbours) = three_nights().await;
    let beta = &neighbours[0].0;
    let (its, theirs) = ([beta.record.key_id], [acme.record.key_id]);
    let both = [beta.record.key_id, acme.record.key_id];
    for (named, contradicted) in [
        (vec![(beta, &its[..]), (&acme, &theirs[..])], acme.locker().to_string()),
        (vec![(beta, &its[..]), (&acme, &[])], acme.locker().to_string()),
        (vec![(beta, &both[..])], acme.record.key_id.to_string()),
    ] {
        for steps in
            [&[][..], &[Step::Noted], &[Step::Noted, Step::Destroying], &[Step::Noted, Step::Destroying, Step::KeysDestroyed]]
        {
            let plan = put_plan(&lockers, beta, PlannedAct::PurgeAll, &named).await;
            put_marks(&lockers, &plan, steps).await;
            let before = stored(&lockers);
            for arguments in [&["purge", "acm", "--confirm", "acm"][..], &["purge", "acm", "--dry-run"]] {
                let (code, document, said) = program(&lockers, arguments);
                assert_eq!(
                    (code, document["error"]["kind"].as_str(), document["error"]["object"].as_str()),
                    (5, Some("plan-contradicted"), Some(&*contradicted)),
                    "{steps:?} {arguments:?}: {document}{said}"
                );
            }
            assert_eq!(stored(&lockers), before);
            std::fs::remove_dir_all(lockers.folder().join(format!("vault/plans/{}", plan.id))).unwrap();
        }
    }
}

/// Records of the neighbour's that somebody spoilt or removed in one copy of the keyring protect it by the other, and by their names.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_whose_records_are_spoilt_is_not_the_plans() {
    let (lockers, acme, neighbours) = three_nights().await;
    let beta = &neighbours[0].0;
    let record = format!("t/{}/{}.json", acme.record.name_tag, acme.record.key_id);
    let paths = ["keyring", "mirror"].map(|store| lockers.folder().join(store).join(&record));
    let spoil: [&dyn Fn(); 4] = [
        &|| std::fs::write(&paths[0], "{}").unwrap(),
        &|| std::fs::remove_file(&paths[0]).unwrap(),
        &|| std::fs::write(&paths[1], "{}").unwrap(),
        // Only signatures are left of it.
        &|| std::fs::remove_file(&paths[1]).unwrap(),
    ];
    for spoil in spoil {
        spoil();
        for keys in [&[acme.record.key_id][..], &[]] {
            let plan = put_plan(&lockers, beta, PlannedAct::PurgeAll, &[(beta, &[beta.record.key_id]), (&acme, keys)]).await;
            let before = stored(&lockers);
            let (code, document, said) = program(&lockers, &["purge", "acm", "--confirm", "acm"]);
            assert_eq!((code, document["error"]["kind"].as_str()), (5, Some("plan-contradicted")), "{document}{said}");
            assert_eq!(stored(&lockers), before);
            std::fs::remove_dir_all(lockers.folder().join(format!("vault/plans/{}", plan.id))).unwrap();
        }
    }
}

/// A neighbour that was purged has no key record any more: its notes say whose its locker was. And what nobody knows is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_as_nobodys_or_as_a_purged_neighbours_is_not_the_plans() {
    let (lockers, acme, neighbours) = three_nights().await;
    purge(&lockers, "acme").await.unwrap();
    let beta = &neighbours[0].0;
    let mut stranger = acme.clone();
    stranger.record.locker = tenure::id::Locker::random();
    for (other, keys) in [(&acme, &[][..]), (&stranger, &[]), (beta, &[KeyId::random()])] {
        let plan = put_plan(&lockers, beta, PlannedAct::PurgeAll, &[(beta, &[beta.record.key_id]), (other, keys)]).await;
        let before = stored(&lockers);
        let (code, document, said) = program(&lockers, &["purge", "acm", "--confirm", "acm"]);
        assert_eq!((code, document["error"]["kind"].as_str()), (5, Some("plan-contradicted")), "{document}{said}");
        assert_eq!(stored(&lockers), before);
        std::fs::remove_dir_all(lockers.folder().join(format!("vault/plans/{}", plan.id))).unwrap();
    }
    assert_eq!(program(&lockers, &["purge", "acm", "--confirm", "acm"]).0, 3);
}

/// A worker's key makes a record of the tenant's that claims a neighbour's locker: it is the neighbour's all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_of_the_tenants_own_takes_no_neighbours_locker() {
    let (lockers, acme, neighbours) = three_nights().await;
    let beta = &neighbours[0].0;
    let (name, now) = (&acme.record.tenant, Utc::now());
    let forged = lockers.keyring.begin_key(name, beta.locker(), 1, &lockers.recipients, now).await.unwrap();
    lockers.keyring.publish_key(forged, &lockers.key("worker")).await.unwrap();
    let refused = || {
        let before = stored(&lockers);
        let (code, document, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
        assert_eq!(
            (code, document["error"]["kind"].as_str(), document["error"]["object"].as_str()),
            (5, Some("plan-contradicted"), Some(&*beta.locker().to_string())),
            "{document}{said}"
        );
        assert_eq!(stored(&lockers), before);
    };
    refused();
    let record = format!("t/{}/{}.json", beta.record.name_tag, beta.record.key_id);
    for store in ["keyring", "mirror"] {
        std::fs::write(lockers.folder().join(store).join(&record), "garbage").unwrap();
        refused();
    }
}
