//! The schema archive's way into the new database, step by step.

use super::{Build, logins::Builders};
use crate::{
    operation::{
        failure::Failure,
        restore::{failures, shown},
    },
    postgres::{
        ChildEnvironment, Session,
        restore_plan::{Login, RestorePlan, Step},
        tools::Tool,
    },
};

/// The schema archive's way into one database.
pub(super) struct Schema<'a> {
    pub build: &'a Build<'a>,
    pub tool: &'a Tool,
    pub name: &'a str,
    /// In the maintenance database.
    pub admin: &'a Session,
    pub environment: &'a ChildEnvironment,
    pub builders: &'a Builders,
    pub plan: &'a RestorePlan,
}

impl Schema<'_> {
    pub(super) async fn run(&self, what: &'static str, by: &Login, entries: &[u32]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        match by {
            Login::Admin => self.restore(what, self.environment, entries).await,
            Login::Owners(owners) => {
                let loader = self.builders.of(owners);
                let environment = loader.target().child_environment(self.name).await;
                let environment = environment.map_err(|error| failures::connect(&self.build.request.tenant, error))?;
                self.builders.as_owners(self.build, self.admin, owners, self.restore(what, &environment, entries)).await
            }
        }
    }

    async fn restore(&self, what: &'static str, environment: &ChildEnvironment, entries: &[u32]) -> Result<(), Failure> {
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
            self.run(what, &step.by, &step.entries).await?;
        }
        Ok(())
    }
}
