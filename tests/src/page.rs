//! A page of HTML, as a browser reads it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use html5ever::tendril::TendrilSink as _;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// What a page says.
#[derive(Debug)]
pub struct Page {
    /// The file, as it is.
    pub source: String,
    /// What stands between the tags.
    pub text: String,
    /// The rows of its first table, by the names of their columns.
    pub rows: Vec<BTreeMap<String, String>>,
}

impl Page {
    /// Reads one.
    ///
    /// # Panics
    /// If it is not there, or is not as HTML wants it.
    pub fn read(file: &Path) -> Self {
        let source = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let dom = parse_document(RcDom::default(), ParseOpts::default()).one(source.as_str());
        let errors = dom.errors.borrow();
        assert!(errors.is_empty(), "{errors:?}\n{source}");
        let table = found(&dom.document, "table").into_iter().next();
        let cells = |row: &Handle, name| -> Vec<String> { found(row, name).iter().map(text).collect() };
        let rows = table.iter().flat_map(|table| {
            let columns = cells(table, "th");
            let rows = found(table, "tr");
            let row = move |row: &Handle| columns.iter().cloned().zip(cells(row, "td")).collect();
            rows.iter().skip(1).map(row).collect::<Vec<_>>()
        });
        Self {
            text: text(&dom.document),
            rows: rows.collect(),
            source: source.clone(),
        }
    }
}

/// The elements of that name, in order.
fn found(at: &Handle, wanted: &str) -> Vec<Handle> {
    let mut all = Vec::new();
    for child in at.children.borrow().iter() {
        if matches!(&child.data, NodeData::Element { name, .. } if &*name.local == wanted) {
            all.push(child.clone());
        }
        all.extend(found(child, wanted));
    }
    all
}

fn text(at: &Handle) -> String {
    if let NodeData::Text { contents } = &at.data {
        return contents.borrow().to_string();
    }
    at.children.borrow().iter().map(text).collect()
}
