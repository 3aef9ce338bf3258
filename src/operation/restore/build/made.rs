//! What a restore has made so far, and clearing it up when it does not end well.

use super::Build;
use crate::{
    operation::{failure::Failure, restore::shown},
    postgres::{
        Session, beside, leftovers,
        lent::Lent,
        loader, place,
        roles::{self, Joined},
    },
};

/// What was made so far, and must go again when the restore does not end well.
#[derive(Default)]
pub(super) struct Made {
    /// The session that makes databases and roles: whatever it is doing must have ended before anything is looked for.
    pub backend: Option<i32>,
    /// Names of temporary logins.
    pub logins: Vec<String>,
    /// Name of the database.
    pub database: Option<String>,
    /// Roles that were missing.
    pub roles: Vec<String>,
    /// What the administrator was made a member of.
    pub joined: Vec<Joined>,
    /// What a configured loader was made a member of.
    pub lent: Lent,
    /// Database and name of the schema, where a few tables are restored beside others.
    pub schema: Option<(String, String)>,
    /// Whether the database, or the schema, has its final name: then it is nobody's to drop.
    pub in_place: bool,
}

impl Made {
    /// Removes what was made, in the order in which it may go. What stays is named in the hint.
    pub(super) async fn clear_up(self, build: &Build<'_>, mut failure: Failure) -> Failure {
        let tenant = &build.request.tenant;
        let target = &build.place.server.admin;
        // A session of its own: the other one may be what failed.
        let admin = match target.connect(target.maintenance_database(), &leftovers::session_name(build.id)).await {
            Ok(admin) => admin,
            Err(error) => {
                tracing::warn!(tenant.name = %tenant, error = %error, "cannot clear up after the restore of tenant {tenant}");
                let database = self.database.iter().map(|name| format!("database {name}"));
                let logins = self.logins.iter().map(|role| format!("role {role}"));
                let lent = self.lent.list().await;
                let member = lent.iter().map(|joined| format!("a membership, which ends by `{}`", shown(&joined.undo)));
                return say_left(failure, &database.chain(logins).chain(member).collect::<Vec<_>>());
            }
        };
        if let Some(backend) = self.backend
            && let Err(error) = place::end_session(&admin, backend).await
        {
            tracing::warn!(tenant.name = %tenant, error = %error, "the restore's session could not be ended");
        }
        let mut left = Vec::new();
        let keep = build.request.keep_failed && failure.kind == "not-proven";
        if let Some(name) = self.database.as_ref().filter(|_| !self.in_place) {
            if keep {
                failure.hint.push_str(&format!(" The copy was kept as database {name}; drop it when you have seen it."));
                self.take_rights(build, &admin, name).await;
            } else if let Err(error) = place::drop_own(&admin, name).await {
                tracing::warn!(tenant.name = %tenant, error = %error, "database {name} could not be dropped");
                left.push(format!("database {name}"));
            }
        }
        if let Some((database, schema)) = self.schema.as_ref().filter(|_| !self.in_place) {
            let dropped = match build.session(&admin, database).await {
                Ok(session) => beside::drop_own(&session, schema, &self.logins).await.map_err(|error| error.to_string()),
                Err(failure) => Err(failure.one_line()),
            };
            if let Err(error) = dropped {
                tracing::warn!(tenant.name = %tenant, error, "schema {schema} could not be dropped");
                left.push(format!("schema {schema} in database {}", shown(database)));
            }
        }
        let mut memberships = roles::leave(&admin, self.joined).await;
        memberships.extend(self.lent.take_back(&admin).await);
        left.extend(memberships.iter().map(|joined| format!("a membership, which ends by `{}`", shown(&joined.undo))));
        for role in &self.logins {
            if let Err(error) = loader::drop_role(&admin, role).await {
                tracing::warn!(tenant.name = %tenant, error = %error, "role {role} could not be dropped");
                left.push(format!("role {role}"));
            }
        }
        if !self.in_place && !keep {
            left.extend(drop_roles(build, &admin, &self.roles).await);
        }
        say_left(failure, &left)
    }

    /// A copy that is kept shall not keep the temporary logins.
    async fn take_rights(&self, build: &Build<'_>, admin: &Session, database: &str) {
        for role in &self.logins {
            let taken = match build.session(admin, database).await {
                Ok(session) => loader::drop_owned(&session, role).await.map_err(|error| error.to_string()),
                Err(failure) => Err(failure.one_line()),
            };
            if let Err(error) = taken {
                tracing::warn!(error, "role {role} keeps its rights in database {database}");
            }
        }
    }
}

/// Drops roles that were missing, unless another restore is at work, which may count on them by now. Returns those that stay.
async fn drop_roles(build: &Build<'_>, admin: &Session, made: &[String]) -> Vec<String> {
    if made.is_empty() {
        return Vec::new();
    }
    match leftovers::others_at_work(admin, build.id).await {
        Ok(false) => roles::drop_made(admin, made).await.iter().map(|role| format!("role {}", shown(role))).collect(),
        Ok(true) | Err(_) => made.iter().map(|role| format!("role {}, which another restore may need", shown(role))).collect(),
    }
}

fn say_left(mut failure: Failure, left: &[String]) -> Failure {
    if !left.is_empty() {
        failure.hint.push_str(&format!(" Left behind: {}. Drop it when no other restore is running there.", left.join(", ")));
    }
    failure
}
