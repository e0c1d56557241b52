//! What a machine boots, as text.

use std::fmt::Write as _;

use flyhot_events::{ArtifactTrust, BootWhat, BootWhy};

use super::artifact;
use super::words::{self, BAD, GOOD};
use crate::options::Screen;

/// What is said of it.
pub(super) struct Boot<'a> {
    pub(super) what: BootWhat,
    pub(super) why: BootWhy,
    pub(super) version: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
    pub(super) code_id: Option<&'a str>,
    pub(super) trust: Option<ArtifactTrust>,
    pub(super) signed_by: Option<&'a str>,
    pub(super) store: Option<&'a str>,
    pub(super) image: Option<&'a str>,
}

impl Boot<'_> {
    pub(super) fn text(&self, screen: Screen) -> String {
        let version = self
            .version
            .map_or(String::new(), |version| format!(" {version}"));
        let what = match self.what {
            BootWhat::Target => format!(
                "the artifact {},{version}, code {}",
                words::short(self.digest),
                words::short(self.code_id)
            ),
            BootWhat::Base => format!("the base,{version}"),
            BootWhat::AsItIs => "what lies there, which cannot be changed".to_owned(),
        };
        let why = match self.why {
            BootWhy::Committed => "it was committed last",
            BootWhy::Trial => "a rollout is under way, and this was committed before",
            BootWhy::NothingDeployed => "nothing was deployed",
            BootWhy::OtherImage => "what was deployed is for another image",
            BootWhy::NoStore => "nobody names a store",
            BootWhy::NotConfigured => "what names its store cannot be read",
            BootWhy::StoreFailed => "the store did not give what it should boot",
            BootWhy::NotTrusted => "the artifact is not signed by a key that this machine trusts",
            BootWhy::NotUsable => "the artifact is damaged, or not for what is installed here",
            BootWhy::NotWritten => "the release's directory could not be read or written",
        };
        let style = match self.why {
            BootWhy::Committed | BootWhy::Trial | BootWhy::NothingDeployed | BootWhy::OtherImage => GOOD,
            BootWhy::NoStore
            | BootWhy::NotConfigured
            | BootWhy::StoreFailed
            | BootWhy::NotTrusted
            | BootWhy::NotUsable
            | BootWhy::NotWritten => BAD,
        };
        let boots = words::paint(screen, style, "boots");
        let mut text = format!("  {boots}        {}: {why}\n", words::plain(&what));
        let trust = self.trust.map(|trust| artifact::trust(trust, self.signed_by));
        for (word, said) in [
            ("signature", trust.as_deref()),
            ("store", self.store),
            ("image", self.image),
        ] {
            if let Some(said) = said {
                let _ = writeln!(text, "  {word:<12} {}", words::plain(said));
            }
        }
        text
    }
}
