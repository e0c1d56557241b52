//! How an artifact is cut into parts. No request is made here.
//!
//! Source: S3 user guide, "Amazon S3 multipart upload limits": parts of 5 MiB and more but for the last, 10 000 of them.

/// The most parts of one upload.
const MOST_PARTS: u64 = 10_000;

/// Bytes of a part. S3 takes none below 5 MiB; a part that breaks off is sent again whole, and a link of 1 Mbit/s has this one
/// over in a minute. 10 000 of them are 78 GiB, ten times what an artifact may unpack to.
pub(super) const PART: u64 = 8 << 20;

/// Parts grow by as much at a time.
const STEP: u64 = 1 << 20;

/// Bytes in memory, of parts that are under way at once. Four parts fill a link on which an answer takes a quarter of a second.
const IN_FLIGHT: u64 = 4 * PART;

/// How one upload is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    /// Bytes of each part but the last.
    pub(super) bytes: u64,
    /// How many are sent at once.
    pub(super) at_once: usize,
}

/// How an artifact of so many bytes is cut.
pub(super) fn parts(size: u64) -> Parts {
    let least = size.div_ceil(MOST_PARTS).max(PART);
    let bytes = least.div_ceil(STEP) * STEP;
    Parts {
        bytes,
        at_once: usize::try_from(IN_FLIGHT / bytes).unwrap_or(1).max(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What S3 takes as one object at the most.
    const LARGEST: u64 = 5 << 40;

    proptest! {
        #[test]
        fn every_object_that_s3_takes_fits_and_memory_is_bounded(size in prop_oneof![0..=LARGEST, 0..(200_u64 << 30), 0..(64_u64 << 20)]) {
            let cut = parts(size);
            prop_assert!(cut.bytes >= 5 << 20);
            prop_assert!(size.div_ceil(cut.bytes) <= MOST_PARTS);
            prop_assert!(cut.at_once >= 1);
            // What is larger than any artifact may take one part's memory.
            prop_assert!(cut.at_once as u64 * cut.bytes <= IN_FLIGHT.max(cut.bytes));
            prop_assert!(cut.bytes == PART || size > MOST_PARTS * PART);
        }
    }

    #[test]
    fn parts_grow_where_ten_thousand_are_not_enough() {
        assert_eq!(parts(0).bytes, PART);
        assert_eq!(
            parts(MOST_PARTS * PART),
            Parts {
                bytes: PART,
                at_once: 4
            }
        );
        assert_eq!(
            parts(MOST_PARTS * PART + 1),
            Parts {
                bytes: PART + STEP,
                at_once: 3
            }
        );
        assert_eq!(parts(LARGEST).at_once, 1);
        assert_eq!(parts(u64::MAX).at_once, 1);
    }
}
