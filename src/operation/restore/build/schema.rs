//! The schema archive's way into the new database, step by step.

use super::Build;
use crate::{
    operation::{
        failure::Failure,
        restore::{failures, shown},
    },
    postgres::{
        ChildEnvironment,
        restore_plan::{Login, RestorePlan, Step},
        tools::Tool,
    },
};

/// The schema archive's way into one database.
pub(super) struct Schema<'a> {
    pub build: &'a Build<'a>,
    pub tool: &'a Tool,
    pub name: &'a str,
    /// The administrator's and the loader's.
    pub environments: [&'a ChildEnvironment; 2],
    pub plan: RestorePlan,
}

impl Schema<'_> {
    pub(super) async fn run(&self, what: &'static str, by: Login, entries: &[u32]) -> Result<(), Failure> {
        let environment = match by {
            Login::Admin => self.environments[0],
            Login::Loader => self.environments[1],
        };
        // What comes before the rows depends on itself too much to be worth several connections.
        let jobs = if what == "post-data" { self.build.connections } else { 1 };
        let warnings = self
            .build
            .archive
            .restore(&self.tool.path, environment, self.name, what, entries, jobs, &[])
            .await
            .map_err(|error| failures::archive(&self.build.request.tenant, error))?;
        for warning in warnings {
            tracing::warn!(tenant.name = %self.build.request.tenant, "pg_restore: {}", shown(&warning));
        }
        Ok(())
    }

    pub(super) async fn steps(&self, what: &'static str, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            self.run(what, step.by, &step.entries).await?;
        }
        Ok(())
    }
}
