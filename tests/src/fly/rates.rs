//! How often one action may be done to one thing: a bucket of three that fills by one a second; of reading one machine, ten and five.

use std::collections::HashMap;
use std::time::Instant;

/// The buckets: how much is in each, and since when.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<(String, String), (f64, Instant)>);

impl Rates {
    /// Whether this one may be done; not, where the bucket is empty.
    pub(super) fn allow(&mut self, action: &str, of: &str) -> bool {
        let (burst, per_second) = if action == "get machine" {
            (10.0, 5.0)
        } else {
            (3.0, 1.0)
        };
        let now = Instant::now();
        let key = (action.to_owned(), of.to_owned());
        let (left, since) = self.0.entry(key).or_insert((burst, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * per_second).min(burst);
        *since = now;
        let allowed = *left >= 1.0;
        if allowed {
            *left -= 1.0;
        }
        allowed
    }
}
