//! What an answer says that is a refusal.
//!
//! This file is pure. Bodies are read liberally: as documented, without half of it, as plain text, or not at all.

use serde_json::Value;

/// As much of a text as a line of an error holds.
const SHOWN: usize = 300;

/// Why something was refused, as far as more hangs on it than the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody holds the lease.
    Held {
        holder: Option<String>,
        until: Option<String>,
    },
    /// The image is not in the registry, or not yet where the machine is made.
    NoManifest,
    /// No host has room, or the organization may have no more.
    NoRoom,
    /// The state of the machine does not allow it now.
    NotNow,
    /// Whatever else.
    Other,
}

/// What the body of a refusal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its text, on one line.
    pub(crate) text: String,
    /// The code that stands beside it.
    code: Option<String>,
}

impl Said {
    pub(crate) fn read(body: &[u8]) -> Self {
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let field = |name: &str| {
            let text = json.as_ref()?.get(name)?.as_str()?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let text = field("message")
            .or_else(|| field("error"))
            .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        Self {
            text: words.join(" "),
            code: field("status"),
        }
    }

    /// As much of it as a line of an error holds.
    pub(crate) fn shown(&self) -> String {
        let mut shown: String = self.text.chars().take(SHOWN).collect();
        if shown.len() < self.text.len() {
            shown.push_str(" ...");
        }
        shown
    }

    /// Why, as the status, the code and known texts say.
    pub(crate) fn why(&self, status: u16) -> Why {
        if let Some((_, rest)) = self.text.split_once("lease currently held") {
            let rest = rest.trim_start();
            let (holder, until) = match rest.split_once(", expires at ") {
                Some((holder, until)) => (holder, until.split_whitespace().next()),
                None => (rest, None),
            };
            let holder = holder.strip_prefix("by ").map(str::trim);
            let holder = holder.filter(|holder| !holder.is_empty());
            return Why::Held {
                holder: holder.map(short),
                until: until.map(short),
            };
        }
        let lower = self.text.to_lowercase();
        let has = |word: &str| lower.contains(word);
        if has("manifest_unknown") || has("could not find image") {
            Why::NoManifest
        } else if self.code.as_ref().is_some_and(|code| code.ends_with("capacity"))
            || has("could not reserve resource")
            || has("insufficient ")
            || has("deploys to this host are temporarily disabled")
            || has("machine limit")
            || has("add a payment method")
        {
            Why::NoRoom
        } else if status == 412
            || has("unable to start machine from current state")
            || has("refusing to start")
        {
            Why::NotNow
        } else {
            Why::Other
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// The state that a wait ended in, which was not the one that was waited for.
pub(crate) fn currently(text: &str) -> Option<&str> {
    let (_, state) = text.rsplit_once("currently ")?;
    let end = state.find(|c: char| c != '_' && !c.is_ascii_lowercase());
    Some(&state[..end.unwrap_or(state.len())]).filter(|state| !state.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_found_wherever_it_is() {
        for (body, said) in [
            (r#"{"error":"machine not found"}"#, "machine not found"),
            (r#"{"message":"first","error":"second"}"#, "first"),
            (
                r#"{"error":"","status":"unknown"}"#,
                r#"{"error":"","status":"unknown"}"#,
            ),
            (
                "upstream\r\n  connect error\u{1b}[0m",
                "upstream connect error [0m",
            ),
            ("", ""),
            ("[1]", "[1]"),
            ("null", "null"),
        ] {
            assert_eq!(Said::read(body.as_bytes()).shown(), said, "{body}");
        }
        let long = Said::read("x".repeat(5_000).as_bytes()).shown();
        assert_eq!(long.len(), SHOWN + 4);
    }

    #[test]
    fn why_is_read_from_what_fly_is_known_to_say() {
        let held = |holder: Option<&str>, until: Option<&str>| Why::Held {
            holder: holder.map(str::to_owned),
            until: until.map(str::to_owned),
        };
        for (status, said, reason) in [
            (
                409,
                "machine ID 2879325b42d318 lease currently held by 9af6@tokens.fly.io, expires at 2026-05-14T10:41:08Z",
                held(Some("9af6@tokens.fly.io"), Some("2026-05-14T10:41:08Z")),
            ),
            (
                400,
                "failed to exec on VM 1: lease currently held by a@b",
                held(Some("a@b"), None),
            ),
            (409, "lease currently held", held(None, None)),
            (
                409,
                "could not reserve resource for machine: insufficient memory available to fulfill request on the current host",
                Why::NoRoom,
            ),
            (
                503,
                "unavailable: deploys to this host are temporarily disabled, please try again later",
                Why::NoRoom,
            ),
            (
                422,
                "Your organization has reached its machine limit. Please contact billing",
                Why::NoRoom,
            ),
            (
                412,
                "failed_precondition: unable to start machine from current state: 'created'",
                Why::NotNow,
            ),
            (
                400,
                "failed_precondition: machine getting replaced, refusing to start",
                Why::NotNow,
            ),
            (
                404,
                "failed to get manifest registry.fly.io/shop:deployment-1: MANIFEST_UNKNOWN",
                Why::NoManifest,
            ),
            (
                422,
                "Could not find image \"registry.fly.io/shop:x\"",
                Why::NoManifest,
            ),
            (422, "invalid config.guest.cpu_kind", Why::Other),
            (409, "machine with name flyhot-1 already exists", Why::Other),
        ] {
            let body = serde_json::json!({ "error": said }).to_string();
            assert_eq!(Said::read(body.as_bytes()).why(status), reason, "{said}");
            assert_eq!(Said::read(said.as_bytes()).why(status), reason, "{said}");
        }
        assert_eq!(
            Said::read(br#"{"error":"none left","status":"insufficient_capacity"}"#).why(422),
            Why::NoRoom
        );
    }

    #[test]
    fn the_state_of_a_wait_in_vain_is_read() {
        for (said, state) in [
            (
                "deadline_exceeded: machine failed to reach desired state, started, currently launch_failed",
                Some("launch_failed"),
            ),
            ("currently replaced.", Some("replaced")),
            ("currently ", None),
            ("nothing of it", None),
        ] {
            assert_eq!(currently(said), state, "{said}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_line(status in 0_u16..999, body in prop::collection::vec(any::<u8>(), 0..3_000)) {
            let said = Said::read(&body);
            let line = said.shown();
            prop_assert!(line.chars().count() <= SHOWN + 4);
            prop_assert!(!line.chars().any(char::is_control));
            said.why(status);
            currently(&line);
        }
    }
}
