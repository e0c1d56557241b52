//! An artifact as text.

use std::fmt::Write as _;

use flyhot_events::{ArtifactFacts, ArtifactTrust, Unit};

use super::words;

/// What it is, and what was done with it.
pub(super) fn text(artifact: &ArtifactFacts, directory: Option<&str>, signature: Option<&str>) -> String {
    let ArtifactFacts {
        file,
        digest,
        size,
        release,
        version,
        contents,
        files,
        files_size,
        code_id,
        manifest_digest,
        trust,
        signed_by,
    } = artifact;
    let trust = self::trust(*trust, signed_by.as_deref());
    let held = format!(
        "{} of {release} {version} ({contents}), {}",
        words::count(*files, Unit::Files),
        words::bytes(*files_size)
    );
    let artifact = format!("{file}, {}", words::bytes(*size));
    let mut rows = vec![
        ("artifact", artifact),
        ("holds", held),
        ("digest", digest.clone()),
        ("manifest", manifest_digest.clone()),
        ("code", code_id.clone()),
        ("signature", trust),
    ];
    if let Some(directory) = directory {
        rows.push(("unpacked to", directory.to_owned()));
    }
    if let Some(signature) = signature {
        rows.push(("written to", signature.to_owned()));
    }
    let mut text = String::new();
    for (word, what) in rows {
        let _ = writeln!(text, "  {word:<12} {}", words::plain(&what));
    }
    text
}

/// Why it is taken.
pub(super) fn trust(trust: ArtifactTrust, signed_by: Option<&str>) -> String {
    match trust {
        ArtifactTrust::Signed => format!("signed by {}", signed_by.unwrap_or("nobody")),
        ArtifactTrust::AnyTaken => {
            "none asked for: this machine takes whatever is whole; set FLYHOT_PUBLIC_KEYS to change it (flyhot keygen)"
                .to_owned()
        }
        ArtifactTrust::NotAsked => "not signed yet (flyhot sign)".to_owned(),
    }
}
