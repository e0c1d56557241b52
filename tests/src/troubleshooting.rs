//! docs/troubleshooting.md, for tests that make the mistakes of its rows.

use std::collections::BTreeMap;

use crate::workspace;

/// A row: what is seen, and what it says to do, both without the marks of code.
#[derive(Debug)]
pub struct Row {
    /// Part of what is said.
    pub symptom: String,
    /// Part of the next step that is said.
    pub fix: String,
}

impl Row {
    /// All rows, by the names of their tests.
    ///
    /// # Panics
    /// If the page cannot be read, or a row is none.
    pub fn all() -> BTreeMap<String, Self> {
        let page = workspace().join("docs/troubleshooting.md");
        let page = std::fs::read_to_string(page).expect("the page is there");
        let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [symptom, cause, fix, test] = cells[..] else {
                panic!("{line}")
            };
            assert!(!cause.is_empty(), "{line}");
            let bare = |cell: &str| cell.replace('`', "");
            let row = Self {
                symptom: bare(symptom),
                fix: bare(fix),
            };
            (bare(test), row)
        })
        .collect()
    }

    /// Whether this is what was said, and what to do.
    ///
    /// # Panics
    /// If it is not.
    pub fn is_said(&self, said: &str, to_do: &str) {
        for (part, whole) in [(&self.symptom, said), (&self.fix, to_do)] {
            assert!(whole.replace('`', "").contains(part), "{part}\n{whole}");
        }
    }
}
