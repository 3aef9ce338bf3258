//! A tenant's functions that run while a query on a table is planned.
//!
//! The planner evaluates calls of immutable functions on constants in the expressions and predicates of a table's indexes, and in those of
//! its statistics objects, in the session of whoever reads the table: `CREATE INDEX ON t ((f(1) + i))` is enough to run `f` as a backup. `COPY t TO` is not
//! planned. So a table with such a function of somebody who is no superuser is read whole and never by pages.

/// A condition: whether planning a query on the table whose OID is `table` may call a function, directly or by an operator, of a role that
/// is no superuser.
#[must_use]
pub fn may_run(table: &str) -> String {
    format!(
        "EXISTS (SELECT FROM (\
           SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid FROM pg_catalog.pg_index i \
            WHERE i.indrelid = {table} AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) \
            UNION ALL \
           SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = {table}\
         ) AS e(classid, objid) \
         JOIN pg_catalog.pg_depend d ON d.classid = e.classid AND d.objid = e.objid \
         LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = d.refobjid \
         JOIN pg_catalog.pg_proc f \
           ON f.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid ELSE o.oprcode::pg_catalog.oid END \
         JOIN pg_catalog.pg_roles r ON r.oid = f.proowner AND NOT r.rolsuper)"
    )
}
