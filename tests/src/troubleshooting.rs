//! docs/troubleshooting.md, for the tests that make the mistakes of its rows.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::flyhot::Run;
use crate::workspace;

/// What is seen of a mistake, and what it says to do, both without the marks of code.
#[derive(Debug)]
struct Row {
    /// Part of what is said.
    symptom: String,
    /// Part of the next step that is said.
    fix: String,
}

/// The rows of one test, by their mistakes. It has to make all of them before it ends.
#[derive(Debug)]
pub struct Rows {
    test: String,
    rows: BTreeMap<String, Row>,
    made: RefCell<BTreeSet<String>>,
}

/// Each test that a row names, each of its mistakes, and the row.
fn page() -> BTreeMap<String, BTreeMap<String, Row>> {
    let page = workspace().join("docs/troubleshooting.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let mut tests = BTreeMap::<_, BTreeMap<_, _>>::new();
    for line in page.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [symptom, cause, fix, names] = cells[..] else {
            panic!("{line}")
        };
        assert!(![symptom, cause, fix].contains(&""), "{line}");
        let bare = |cell: &str| cell.replace('`', "");
        for name in bare(names).split("; ") {
            let (test, mistake) = name.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            let row = Row {
                symptom: bare(symptom),
                fix: bare(fix),
            };
            let rows = tests.entry(test.to_owned()).or_default();
            assert!(
                rows.insert(mistake.to_owned(), row).is_none(),
                "{name} is there twice"
            );
        }
    }
    tests
}

impl Rows {
    /// Those of the test that goes by this name on the page.
    ///
    /// # Panics
    /// If the page cannot be read, has a row that is none, or none of this test.
    pub fn of(test: &str) -> Self {
        let rows = page().remove(test);
        Self {
            test: test.to_owned(),
            rows: rows.unwrap_or_else(|| panic!("no row names the test {test}")),
            made: RefCell::default(),
        }
    }

    /// The names that tests have on the page.
    ///
    /// # Panics
    /// As [`Self::of`].
    pub fn tests() -> Vec<String> {
        page().into_keys().collect()
    }

    /// A mistake was answered with this, one sentence, and with this to do.
    ///
    /// # Panics
    /// If that is not what its row says.
    pub fn said(&self, mistake: &str, said: &str, to_do: &str) {
        let row = self.rows.get(mistake);
        let row = row.unwrap_or_else(|| panic!("no row says {}: {mistake}", self.test));
        for (part, whole) in [(&row.symptom, said), (&row.fix, to_do)] {
            assert!(
                whole.replace('`', "").contains(part),
                "{mistake}: {part}\n{whole}"
            );
            assert_eq!(whole.lines().count(), 1, "{mistake}: {whole}");
        }
        self.made.borrow_mut().insert(mistake.to_owned());
    }

    /// A mistake was answered with one error, which is that of its row, and with this exit code.
    ///
    /// # Panics
    /// If it was not.
    pub fn told(&self, mistake: &str, run: &Run, exit_code: i32) {
        assert_eq!(run.exit_code, Some(exit_code), "{mistake}\n{run}");
        let errors: Vec<&Value> = run.events_named("error").map(|event| &event.json).collect();
        let [error] = errors[..] else {
            panic!("{mistake}\n{run}")
        };
        let text = |key: &str| error[key].as_str().expect("an error has it");
        self.said(mistake, text("message"), text("hint"));
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        let made = self.made.get_mut();
        let left: Vec<_> = self
            .rows
            .keys()
            .filter(|mistake| !made.contains(*mistake))
            .collect();
        // A test that fails has said why.
        assert!(
            left.is_empty() || std::thread::panicking(),
            "the test {} does not make {left:?}",
            self.test
        );
    }
}
