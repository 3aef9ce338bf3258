//! The header of `pg_dump`'s custom format, as far as it differs between two dumps of one database.
//!
//! `PGDMP`, version (three bytes), size of an integer, size of an offset, format, compression, creation time (seven integers: second,
//! minute, hour, day, month from 0, year from 1900, daylight saving), database name, and so on. An integer is a sign byte and then its
//! bytes, little-endian. Compression is an integer up to version 1.14 and one byte from 1.15 (PostgreSQL 16) on. From
//! `src/bin/pg_dump/pg_backup_archiver.c`.

/// Longest prefix that [`normalise`] looks at.
pub const HEADER_BYTES: usize = 11 + (1 + 8) + 7 * (1 + 8);

/// Midnight of 1 January 2000: second, minute, hour, day, month, year, daylight saving.
const CREATED: [u8; 7] = [0, 0, 0, 1, 0, 100, 0];

/// A header that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Too short, or another format.
    #[error("pg_dump did not write an archive in custom format")]
    NotCustom,
    /// A version that may look otherwise.
    #[error("pg_dump wrote archive version {major}.{minor}, and versions 1.12 to 1.16 are known")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
}

/// Overwrites the creation time in the first bytes of an archive with a constant.
///
/// # Errors
/// If the archive is not one that is known: nothing is guessed.
pub fn normalise(archive: &mut [u8]) -> Result<(), HeaderError> {
    let [b'P', b'G', b'D', b'M', b'P', major, minor, _revision, integer_bytes, _offset_bytes, format, ..] = *archive else {
        return Err(HeaderError::NotCustom);
    };
    if major != 1 || !(12..=16).contains(&minor) {
        return Err(HeaderError::Version { major, minor });
    }
    let integer = 1 + usize::from(integer_bytes);
    if format != 1 || integer_bytes == 0 || integer_bytes > 8 {
        return Err(HeaderError::NotCustom);
    }
    let time = 11 + if minor >= 15 { 1 } else { integer };
    let fields = archive.get_mut(time..time + 7 * integer).ok_or(HeaderError::NotCustom)?;
    for (field, value) in fields.chunks_exact_mut(integer).zip(CREATED) {
        field.fill(0);
        field[1] = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(minor: u8, second: u8) -> Vec<u8> {
        let mut bytes = b"PGDMP\x01".to_vec();
        bytes.extend([minor, 0, 4, 8, 1]);
        bytes.extend(if minor >= 15 { vec![0] } else { vec![0, 0, 0, 0, 0] });
        for value in [second, 59, 23, 31, 11, 126, 1] {
            bytes.extend([0, value, 0, 0, 0]);
        }
        bytes.extend(b"\0\x04\0\0\0name");
        bytes
    }

    #[test]
    fn the_time_becomes_a_constant_and_nothing_else_changes() {
        for minor in 12..=16 {
            let mut first = archive(minor, 1);
            let mut second = archive(minor, 2);
            assert_ne!(first, second);
            normalise(&mut first).unwrap();
            normalise(&mut second).unwrap();
            assert_eq!(first, second);
            assert!(first.ends_with(b"\0\x04\0\0\0name"));
            assert_eq!(first[..11], archive(minor, 0)[..11]);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(normalise(&mut []), Err(HeaderError::NotCustom));
        assert_eq!(normalise(&mut b"-- PostgreSQL database dump".to_vec()), Err(HeaderError::NotCustom));
        assert_eq!(normalise(&mut archive(17, 0)), Err(HeaderError::Version { major: 1, minor: 17 }));
        assert_eq!(normalise(&mut archive(11, 0)), Err(HeaderError::Version { major: 1, minor: 11 }));
        assert_eq!(normalise(&mut archive(14, 0)[..40]), Err(HeaderError::NotCustom));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_and_the_length_stays(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120), known: bool) {
            if known && bytes.len() > 11 {
                bytes[..11].copy_from_slice(&archive(14, 0)[..11]);
            }
            let length = bytes.len();
            drop(normalise(&mut bytes));
            proptest::prop_assert_eq!(bytes.len(), length);
        }
    }
}
