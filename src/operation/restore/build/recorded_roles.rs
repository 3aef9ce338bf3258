//! Roles that the backup refers to: made where the server lacks them, without what reaches beyond the database.

use postgres_protocol::escape::escape_identifier;

use super::{Build, made::Made};
use crate::{
    operation::{
        failure::Failure,
        restore::{preflight::Preflight, shown},
    },
    postgres::{Session, member_of, roles},
};

impl Build<'_> {
    /// Makes the missing ones and gives their memberships. What they had and do not get is noted.
    pub(super) async fn make_roles(&self, admin: &Session, made: &mut Made, found: &mut Preflight) -> Result<(), Failure> {
        let recorded = &self.description.roles;
        let missing = roles::missing(recorded, &found.known_roles);
        roles::create_missing(admin, &missing, &mut made.roles).await.map_err(self.failed())?;
        for role in missing.iter().filter(|role| made.roles.contains(&role.name)) {
            let withheld = roles::withheld(role);
            if withheld.is_empty() {
                continue;
            }
            let name = escape_identifier(&role.name);
            let password = if role.login { format!("; \\password {name}") } else { String::new() };
            found.notes.push(format!(
                "role {} was made without {}, which it had; in psql, `{}` gives it back",
                shown(&role.name),
                withheld.join(", "),
                shown(&format!("ALTER ROLE {name} {}{password}", withheld.join(" ")))
            ));
        }
        let lacking = member_of::give(admin, recorded, &found.known_roles, &made.roles, found.facts.version_num)
            .await
            .map_err(self.failed())?;
        found.notes.extend(lacking.iter().map(ToString::to_string));
        Ok(())
    }
}
