//! A drop that other operators must sign.

use super::*;
use crate::approvals::let_ann_in;

#[test]
fn a_drop_waits_with_the_database_open_and_goes_on_with_the_same_plan() {
    let site = Site::new(&Options::default(), &["acme", "acme2"]);
    let_ann_in(site.program.folder());
    site.configure("[cluster.here]\n", "[approvals]\ndrop = 2\n\n[cluster.here]\n");
    let (code, dry) = site.run_drop("acme", &["--dry-run"]);
    assert_eq!((code, &dry["plan"]), (0, &Value::Null), "{dry:#}");
    let mut plans = Vec::new();
    for _ in 0..2 {
        let (code, refused) = site.run_drop("acme", &[]);
        assert_eq!((code, refused["error"]["kind"].as_str()), (4, Some("approvals-wanting")), "{refused:#}");
        assert_eq!(site.state("acme"), Some(true), "it serves its sessions as before");
        plans.push(refused["error"]["object"].as_str().unwrap().to_owned());
    }
    assert_eq!(plans[0], plans[1]);
    let shown = site.program.done(&["plans", "show", &plans[0]]);
    let oid = site.oid("acme");
    assert!(shown["what"] == "drop the LIVE database of tenant acme", "{shown:#}");
    assert!(shown["details"].to_string().contains(&format!("OID {oid} ")), "the approver sees which: {shown:#}");
    site.program.refused(4, &["approve", &plans[0], "--tenant", "acme2", "--key", "ann"]);
    site.program.done(&["approve", &plans[0], "--tenant", "acme", "--key", "ann"]);
    let (code, done) = site.run_drop("acme", &[]);
    assert_eq!((code, done["plan"].as_str()), (0, Some(plans[0].as_str())), "{done:#}");
    assert_eq!((site.state("acme"), site.state("acme2")), (None, Some(true)));
    let shown = site.program.done(&["plans", "show", &plans[0]]);
    assert_eq!(shown["state"], "closed", "{shown:#}");
    let audit = site.program.done(&["audit", "--tenant", "acme"]);
    let acts: Vec<String> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["kind"] == "act")
        .map(|entry| format!("{} {}", entry["what"].as_str().unwrap(), entry["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(acts, ["drop refused", "drop refused", "drop begun", "drop done"], "{audit:#}");
}

/// What was signed is one database: another one that has its name since is none that anybody signed for.
#[test]
fn a_signed_plan_drops_no_other_database() {
    let site = Site::new(&Options::default(), &["acme"]);
    let_ann_in(site.program.folder());
    site.configure("[cluster.here]\n", "[approvals]\ndrop = 2\n\n[cluster.here]\n");
    let (_, refused) = site.run_drop("acme", &[]);
    let plan = refused["error"]["object"].as_str().unwrap().to_owned();
    site.program.done(&["approve", &plan, "--tenant", "acme", "--key", "ann"]);
    site.cluster.sql("postgres", "DROP DATABASE tenant_acme");
    site.create("acme");
    let (code, refused) = site.run_drop("acme", &[]);
    assert_eq!(code, 4, "{refused:#}");
    assert_eq!(site.state("acme"), Some(true), "{refused:#}");
    // Admitted as the tenant's by an operator, it is still not the one that was signed for.
    site.program.done(&["admit", "--source", "acme"]);
    let (code, refused) = site.run_drop("acme", &[]);
    assert_eq!(code, 4, "{refused:#}");
    assert_eq!(site.state("acme"), Some(true), "{refused:#}");
}
