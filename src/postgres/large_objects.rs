//! Large objects, in blocks of 1,024 OIDs, as COPY text of `(oid, piece number, bytea)`.
//!
//! They are read with `lo_get`, which their owner may call: `pg_largeobject` itself is for superusers. Holes read as zeros; a piece that
//! is all zeros is left out, unless it is the last one, which says how long the object is.

/// OIDs of one block.
pub const BLOCK_OIDS: u32 = 1024;
/// Bytes of one piece: 128 pages of `pg_largeobject`.
pub const PIECE_BYTES: u32 = 262_144;

/// Condition on `pg_largeobject_metadata m`: the session's role may read the object. Superusers are members of every role.
/// `pg_read_all_data` does not cover large objects.
pub const READABLE: &str = "(pg_catalog.pg_has_role(m.lomowner, 'USAGE') \
     OR EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT' \
        AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))) \
     OR pg_catalog.current_setting('lo_compat_privileges')::bool)";

/// One block of large objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeObjectRead {
    /// A multiple of [`BLOCK_OIDS`].
    pub first_oid: u32,
    /// Those that the role may not read, as the description says. One that it may not read any more when it comes to it is an error,
    /// and not left out too.
    pub left_out: Vec<u32>,
}

impl LargeObjectRead {
    /// First OID after the block; the last block ends beyond the last OID.
    #[must_use]
    pub fn end_oid(&self) -> u64 {
        u64::from(self.first_oid) + u64::from(BLOCK_OIDS)
    }

    /// The COPY statement.
    pub(super) fn copy(&self) -> String {
        let left_out = self.left_out.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        copy(self.first_oid, &format!("m.oid <> ALL ('{{{left_out}}}'::oid[])"))
    }
}

/// The COPY statement of a block's objects `m` for which `condition` holds.
///
/// Each object is opened, measured and closed in this order, because each step takes the value of the one before; `OFFSET 0` keeps the
/// planner from merging them. The pieces follow in the order of object and number, as nested loops give them: nothing is sorted, so
/// nothing is held.
pub(super) fn copy(first: u32, condition: &str) -> String {
    // An OID has 32 bits: the end of the last block is one more than fits, so the last OID is named instead.
    let last = u64::from(first) + u64::from(BLOCK_OIDS) - 1;
    format!(
        "COPY (SELECT piece.oid, piece.n, piece.data FROM ( \
           SELECT sized.oid, p.n, p.n = sized.last AS is_last, pg_catalog.lo_get(sized.oid, p.n * {PIECE_BYTES}, {PIECE_BYTES}) AS data FROM ( \
             SELECT measured.oid, (measured.size - 1) / {PIECE_BYTES} AS last FROM ( \
               SELECT opened.oid, pg_catalog.lo_lseek64(opened.fd, 0, 2) AS size, opened.fd FROM ( \
                 SELECT m.oid, pg_catalog.lo_open(m.oid, 262144) AS fd FROM pg_catalog.pg_largeobject_metadata m \
                 WHERE m.oid >= {first} AND m.oid <= {last} AND {condition} ORDER BY m.oid OFFSET 0) opened OFFSET 0) measured \
             WHERE pg_catalog.lo_close(measured.fd) = 0 AND measured.size > 0 OFFSET 0) sized \
           CROSS JOIN LATERAL pg_catalog.generate_series(0::bigint, sized.last) AS p(n) OFFSET 0) piece \
         WHERE piece.is_last OR piece.data <> pg_catalog.decode(pg_catalog.repeat('00', {PIECE_BYTES}), 'hex')) TO STDOUT WITH (FORMAT text)"
    )
}
