//! Settings of the sessions that write rows as COPY text and read them back.
//!
//! A role or a database may carry settings of its own (`ALTER DATABASE … SET`, which its owner may do), so everything that shapes the text,
//! the plan, the rights or a time limit is set, not assumed.

use std::fmt::Write as _;

use postgres_protocol::escape::escape_literal;

/// What shapes the text of values, in both directions: rows must be read back under the settings that they were written under.
/// `lc_monetary` is among them because `money` prints by it.
pub const ROW_TEXT: [(&str, &str); 8] = [
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    ("lc_monetary", "C"),
    // Else `NULL` in an array is read as a word.
    ("array_nulls", "on"),
];

/// No time limit of the server's ends a session of ours: our own limits do.
pub const NO_TIME_LIMITS: [(&str, &str); 4] = [
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
];

/// Reading: rows that a policy hides are an error and not missing; in the file's order, so no workers and no start in the middle; no compilation for short statements;
/// and no view or foreign table is ever read, whatever stands under a table's name by then (servers from August 2024 know the setting).
/// The last two make rows out of damaged pages, or none; only a superuser may change them, so they are changed only where that is needed.
pub const READING: [(&str, &str); 10] = [
    ("synchronize_seqscans", "off"),
    ("row_security", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("jit", "off"),
    ("enable_tidscan", "on"),
    // Else planning calls functions in constraints on constants.
    ("constraint_exclusion", "off"),
    ("client_min_messages", "warning"),
    ("restrict_nonsystem_relation_kind", "view, foreign-table"),
    ("zero_damaged_pages", "off"),
    ("ignore_checksum_failure", "off"),
];

/// Takes off the role that a database gives every session, or this role's in it: it would take the connecting role's rights away, and
/// everything that is made would be another's. One that the connection's own description asks for stays.
const OWN_ROLE: &str = "SELECT pg_catalog.set_config('role', 'none', false)
  WHERE EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
                 CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c(setting)
                 WHERE d.datname = pg_catalog.current_database() AND c.setting = 'role=' || pg_catalog.current_setting('role')
                   AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = session_user)))";

/// Statements that empty the search path, so that no operator or function of the tenant's is found by a bare name, take off the role that a
/// database gives every session, and then set what this server knows of `settings`. To be run as one simple query, outside a transaction.
#[must_use]
pub fn statements(settings: &[&[(&str, &str)]]) -> String {
    let mut sql = String::from(
        // The role's time limit would be that of these statements too.
        "SET statement_timeout = 0; SELECT pg_catalog.set_config('search_path', '', false); ",
    );
    sql.push_str(OWN_ROLE);
    sql.push_str("; SELECT pg_catalog.set_config(s.name, v.value, false) FROM (VALUES ");
    let mut first = true;
    for (name, value) in settings.iter().copied().flatten() {
        let comma = if first { "" } else { ", " };
        first = false;
        write!(sql, "{comma}({}, {})", escape_literal(name), escape_literal(value)).expect("a String takes any text");
    }
    sql.push_str(
        ") AS v(name, value) JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name) \
         AND (s.context <> 'superuser' OR s.setting <> v.value)",
    );
    sql
}

#[cfg(test)]
mod tests {
    use super::{READING, ROW_TEXT, statements};

    #[test]
    fn the_search_path_is_emptied_first() {
        let sql = statements(&[&ROW_TEXT, &READING]);
        assert!(sql.starts_with("SET statement_timeout = 0; SELECT pg_catalog.set_config('search_path', '', false); "));
        assert!(sql.contains("('DateStyle', 'ISO, YMD'), ('IntervalStyle', 'postgres')"));
        assert!(sql.contains("('restrict_nonsystem_relation_kind', 'view, foreign-table'), "));
    }
}
