//! The schemas of everything that `--json` prints, and of what webhooks get, made from the report types; `docs/json/` holds a copy of each.

use schemars::{JsonSchema, Schema, schema_for};

use super::{
    config::ConfigReport,
    list::ListAllReport,
    notify::NotifyReport,
    output::{Document, ErrorDocument},
    schedules::SchedulesReport,
    worker::WorkerReport,
};
use crate::{
    observe::notify::message::Message,
    operation::{
        admit::AdmitReport,
        audit::AuditReport,
        backup::BackupReport,
        certificate::{CertificateReport, CertificatesReport, export::ExportReport, verify::CertificateVerifyReport},
        check,
        drop::DropReport,
        erase::EraseReport,
        expire::report::ExpireReport,
        hold::{HoldReport, ReleaseReport},
        init::{InitReport, join::JoinReport},
        keys::{
            KeysCheckReport, KeysReport, prune::PruneReport, repair::RepairReport, rewrap::RewrapReport, rotate::RotateReport,
        },
        list::ListReport,
        night_report::NightReport,
        plans::{
            approve::ApproveReport,
            cancel::CancelReport,
            list::{PlanReport, PlansReport},
        },
        purge::PurgeReport,
        reconcile::ReconcileReport,
        restore,
        restore_all::FleetReport,
        show::ShowReport,
        status::StatusReport,
        tenants::TenantsReport,
        verify::VerifyReport,
    },
};

/// Every schema with the name of its file, without `.schema.json`.
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("admit", of::<AdmitReport>()),
        ("approve", of::<ApproveReport>()),
        ("audit", of::<AuditReport>()),
        ("backup", of::<BackupReport>()),
        ("certificate-export", of::<ExportReport>()),
        ("certificate-list", of::<CertificatesReport>()),
        ("certificate-show", of::<CertificateReport>()),
        ("certificate-verify", of::<CertificateVerifyReport>()),
        ("check", of::<check::Report>()),
        ("config-show", of::<ConfigReport>()),
        ("drop", of::<DropReport>()),
        ("erase", of::<EraseReport>()),
        ("error", schema_for!(ErrorDocument)),
        ("expire", of::<ExpireReport>()),
        ("hold", of::<HoldReport>()),
        ("init", of::<InitReport>()),
        ("init-join", of::<JoinReport>()),
        ("keys-check", of::<KeysCheckReport>()),
        ("keys-list", of::<KeysReport>()),
        ("keys-prune", of::<PruneReport>()),
        ("keys-repair", of::<RepairReport>()),
        ("keys-rewrap", of::<RewrapReport>()),
        ("keys-rotate", of::<RotateReport>()),
        ("list", of::<ListReport>()),
        ("list-all", of::<ListAllReport>()),
        ("notify", of::<NotifyReport>()),
        ("plans-cancel", of::<CancelReport>()),
        ("plans-list", of::<PlansReport>()),
        ("plans-show", of::<PlanReport>()),
        ("purge", of::<PurgeReport>()),
        ("reconcile", of::<ReconcileReport>()),
        ("release", of::<ReleaseReport>()),
        ("report", of::<NightReport>()),
        ("restore", of::<restore::Report>()),
        ("restore-all", of::<FleetReport>()),
        ("schedules", of::<SchedulesReport>()),
        ("show", of::<ShowReport>()),
        ("status", of::<StatusReport>()),
        ("tenants", of::<TenantsReport>()),
        ("verify", of::<VerifyReport>()),
        ("worker", of::<WorkerReport>()),
        ("webhook", schema_for!(Message)),
    ]
}

fn of<R: JsonSchema>() -> Schema {
    schema_for!(Document<R>)
}
