//! What the bench calls: how a term that comes in is looked at and decoded.

use erl_dist::term::Term;

use crate::control;
use crate::scan;

/// How many of these bytes a term has; none, if they are no term or one that nobody decodes.
pub fn scan(bytes: &[u8]) -> Option<usize> {
    scan::scan(bytes).ok()
}

/// The term, as it is decoded wherever one comes in.
pub fn decoded(bytes: &[u8]) -> Option<Term> {
    control::decode(bytes.get(..scan(bytes)?)?).ok()
}
