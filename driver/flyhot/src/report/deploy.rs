//! A deploy and its orchestrator, as text.

use std::fmt::Write as _;

use super::words;

/// What a deploy does.
pub(super) struct Deploy<'a> {
    pub(super) app: &'a str,
    pub(super) config: &'a str,
    pub(super) image: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) command: &'a [String],
    pub(super) env: &'a [String],
    pub(super) dry_run: bool,
}

impl Deploy<'_> {
    pub(super) fn text(&self) -> String {
        let built = format!("built as {} says", self.config);
        let command = self.command.join(" ");
        let mut rows = vec![
            ("app", self.app),
            ("image", self.image.unwrap_or(&built)),
            ("region", self.region.unwrap_or("as Fly.io decides")),
            ("runs there", &command),
        ];
        let env = self.env.join(", ");
        if !env.is_empty() {
            rows.push(("its env", &env));
        }
        let mut text = String::new();
        for (word, said) in rows {
            let _ = writeln!(text, "  {word:<12} {}", words::plain(said));
        }
        if self.dry_run {
            let _ = writeln!(text, "  nothing of it was done: --dry-run");
        }
        text
    }
}

/// Where the work goes on, whoever goes away.
pub(super) fn orchestrator(machine: &str, name: &str, region: &str, image: &str) -> String {
    let [machine, name, region, image] = [machine, name, region, image].map(words::plain);
    format!("  orchestrator {name}, machine {machine} in {region}, of {image}\n")
}

/// Where a command runs.
pub(super) fn elsewhere(machine: &str, region: &str) -> String {
    let [machine, region] = [machine, region].map(words::plain);
    format!("  This runs on the machine {machine} in {region}, which has what is lacking here.\n")
}

/// The orchestrator is asked to begin nothing more.
pub(super) fn stopping(signal: &str, machine: &str, hint: &str) -> String {
    let [signal, machine, hint] = [signal, machine, hint].map(words::plain);
    format!(
        "  {signal}: the orchestrator on the machine {machine} is asked to begin nothing more.\n    {hint}\n"
    )
}
