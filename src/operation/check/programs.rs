//! `pg_dump` and `pg_restore` for each server.

use std::collections::BTreeSet;

use super::Report;
use crate::postgres::tools::{Program, Tool, Tools};

/// The night needs a `pg_dump` for every server; a restore needs a `pg_restore` that reads what it wrote.
pub(super) async fn check(tools: &Tools, majors: &[u32]) -> Report {
    let mut report = Report::default();
    let mut seen = BTreeSet::new();
    for major in majors.iter().copied().collect::<BTreeSet<u32>>() {
        let mut dumped_by = major;
        for program in [Program::Dump, Program::Restore] {
            match tools.find(program, dumped_by).await {
                Ok(tool) => {
                    dumped_by = tool.version.major;
                    if tool.version.is_too_new_for(major) {
                        report.error(
                            format!("{} for PostgreSQL {major}", program.name()),
                            format!(
                                "only {} {} was found, and what it writes can be restored to PostgreSQL 17 or newer alone",
                                tool.path.display(),
                                tool.version
                            ),
                            format!(
                                "Install the client programs of PostgreSQL {major} (Debian: postgresql-client-{major}); `{{major}}` in [postgres] bin stands for the version."
                            ),
                        );
                        continue;
                    }
                    if seen.insert(tool.path.clone()) {
                        found(&tool, major, &mut report);
                    }
                }
                Err(error) => report.error(format!("{} for PostgreSQL {major}", program.name()), error.to_string(), error.hint()),
            }
        }
    }
    if majors.is_empty() {
        for program in [Program::Dump, Program::Restore] {
            if let Err(error) = tools.find(program, 0).await {
                report.error(program.name(), error.to_string(), error.hint());
            }
        }
    }
    report
}

fn found(tool: &Tool, major: u32, report: &mut Report) {
    let object = tool.program.name();
    let what = format!("{} {} for PostgreSQL {major}", tool.path.display(), tool.version);
    match tool.version.known_holes() {
        None => report.ok(object, what),
        Some(holes) => report.warning(
            object,
            format!("{what} has known security holes: {}", holes.names.join(", ")),
            format!("Install {} or newer.", holes.fixed_in),
        ),
    }
}
