//! A backup that is suspiciously small.
//!
//! What is compared is what a restore would bring back: the plaintext that a backup read. What it stored says nothing: an idle night stores
//! next to nothing.

/// How many backups before the newest say what is usual.
const BEFORE: usize = 7;
/// With fewer than this nothing is usual yet.
const AT_LEAST: usize = 3;

/// The newest size and the median of those before it, where it is below half of that. The newest comes first.
pub(super) fn below_half(sizes: impl IntoIterator<Item = u64>) -> Option<(u64, u64)> {
    let mut sizes = sizes.into_iter();
    let newest = sizes.next()?;
    let mut before: Vec<u64> = sizes.take(BEFORE).collect();
    if before.len() < AT_LEAST {
        return None;
    }
    before.sort_unstable();
    // Of an even number the lower of the two in the middle: rather no alarm than one about nothing.
    let usual = before[(before.len() - 1) / 2];
    (newest < usual.div_ceil(2)).then_some((newest, usual))
}

#[cfg(test)]
mod tests {
    use super::below_half;

    #[test]
    fn less_than_half_of_the_median_of_the_last_seven() {
        assert_eq!(below_half([49, 100, 100, 100]), Some((49, 100)));
        assert_eq!(below_half([50, 100, 100, 100]), None);
        assert_eq!(below_half([10, 100, 100]), None, "too few to know");
        assert_eq!(below_half([0; 0]), None);
        // One large night, or one small one, changes nothing.
        assert_eq!(below_half([60, 1_000_000, 100, 100, 1, 100, 100, 100]), None);
        assert_eq!(below_half([40, 1_000_000, 100, 100, 1, 100, 100, 100]), Some((40, 100)));
        // Those before the seven do not count: what stays small becomes usual.
        assert_eq!(below_half([10, 10, 10, 10, 10, 100, 100, 100, 100, 100]), None);
        assert_eq!(below_half([10, 10, 10, 10, 100, 100, 100, 100, 100, 100]), Some((10, 100)));
    }
}
