//! TOML, JSON and YAML as one tree, and what stands in it as Go prints it.
//!
//! A tree does not print itself, and no text of a document is in any error: it may be a secret.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// The key by which the TOML parser hands a date to serde.
const TOML_DATE: &str = "$__toml_private_datetime";

/// So many values may stand for others in a YAML file: a hundred services that share a hundred lines.
const MAX_ALIASED: usize = 10_000;

/// All text of a YAML file, that which stands for others included, bytes: twice the longest file.
const MAX_TEXT: usize = 2 * 1024 * 1024;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// TOML.
    Toml,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Toml => "TOML",
            Self::Json => "JSON",
            Self::Yaml => "YAML",
        })
    }
}

/// A document that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyntaxError {
    /// No UTF-8.
    #[error("line {0} is not text: it has a byte that is no UTF-8")]
    NoText(usize),
    /// Nothing that its parser takes.
    #[error("line {line} is no {format}, or has a key twice")]
    Line {
        /// What it should be.
        format: Format,
        /// From 1.
        line: usize,
    },
    /// What some editors begin a file with, and no eye sees. Go's JSON refuses it, and with it flyctl.
    #[error("it begins with a byte order mark, which JSON may not: save it as UTF-8 without one")]
    Mark,
}

/// A value, and all below it.
#[derive(Clone, PartialEq)]
pub(super) enum Tree {
    Nothing,
    Boolean(bool),
    /// Of 64 bits, with a sign or without one.
    Whole(i128),
    Number(f64),
    Text(String),
    Date,
    List(Vec<Tree>),
    Table(BTreeMap<String, Tree>),
}

impl Tree {
    /// Reads a document.
    pub(super) fn read(bytes: &[u8], format: Format) -> Result<Self, SyntaxError> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            SyntaxError::NoText(line_at(good))
        })?;
        let wrong = |line| SyntaxError::Line { format, line };
        match format {
            Format::Toml => {
                let document = toml::Deserializer::parse(text);
                let tree = document.and_then(|document| Whatever::of_toml().deserialize(document));
                tree.map_err(|error| {
                    let start = error.span().map_or(0, |span| span.start);
                    wrong(line_at(bytes.get(..start).unwrap_or(bytes)))
                })
            }
            Format::Json if text.starts_with('\u{feff}') => Err(SyntaxError::Mark),
            Format::Json => match serde_json::from_str::<Self>(text) {
                Ok(tree) => Ok(tree.in_json()),
                Err(error) => Err(wrong(error.line())),
            },
            Format::Yaml => serde_saphyr::from_str_with_options(text, yaml()).map_err(|error| {
                let line = error.location().map_or(1, |location| location.line());
                wrong(line.try_into().unwrap_or(usize::MAX))
            }),
        }
    }

    /// Go reads every number of JSON as a float, and prints it as one.
    fn in_json(self) -> Self {
        match self {
            Self::Whole(number) => Self::Number(number as f64),
            Self::List(list) => Self::List(list.into_iter().map(Self::in_json).collect()),
            Self::Table(table) => Self::Table(
                table
                    .into_iter()
                    .map(|(key, value)| (key, value.in_json()))
                    .collect(),
            ),
            other => other,
        }
    }

    /// What flyctl makes of a value where text should stand: Go's `%v`. Only text, numbers, true and false are something then.
    pub(super) fn as_go_prints(&self) -> Option<String> {
        match self {
            Self::Boolean(value) => Some(value.to_string()),
            Self::Whole(number) => Some(number.to_string()),
            Self::Number(number) => Some(float(*number)),
            Self::Text(text) => Some(text.clone()),
            Self::Nothing | Self::Date | Self::List(_) | Self::Table(_) => None,
        }
    }

    /// A number without a fraction.
    pub(super) fn whole(&self) -> Option<i64> {
        match self {
            Self::Whole(number) => i64::try_from(*number).ok(),
            Self::Number(number) => {
                let whole = *number as i64;
                (whole as f64 == *number && whole.unsigned_abs() < 1 << f64::MANTISSA_DIGITS).then_some(whole)
            }
            _ => None,
        }
    }

    /// What it is, for a sentence; never what it says.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Boolean(_) => "true or false",
            Self::Whole(_) => "a whole number",
            Self::Number(number) if number.fract() == 0.0 => "a whole number",
            Self::Number(_) => "a number that is not whole",
            Self::Text(_) => "text",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({})", self.kind())
    }
}

/// As Go's yaml reads it where no type is asked for: `yes` and `on` are text. The library limits depth by itself.
fn yaml() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED,
        },
        budget: serde_saphyr::budget! {
            max_total_scalar_bytes: MAX_TEXT,
        },
    }
}

/// The line, from 1, on which what stands behind these bytes begins.
fn line_at(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Go's `%v` of a float64: as few digits as tell it from every other, with an exponent below 1e-4 and from 1e6 on (strconv
/// `formatDigits`, verb `g`, shortest).
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Rust finds the same digits, and writes the exponent without sign and zero.
    let shortest = format!("{number:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Whatever { largest: u64::MAX }.deserialize(deserializer)
    }
}

/// Any value that has no whole number above this one.
#[derive(Clone, Copy)]
struct Whatever {
    largest: u64,
}

impl Whatever {
    /// TOML's are of 64 bits with a sign: what is above them is an error to flyctl.
    fn of_toml() -> Self {
        Self {
            largest: i64::MAX.unsigned_abs(),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Whatever {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whatever {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Boolean(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Whole(number.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Tree, E> {
        if number > self.largest {
            return Err(E::custom("a number that is too large"));
        }
        Ok(Tree::Whole(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut table = BTreeMap::new();
        while let Some((key, value)) = entries.next_entry_seed(PhantomData::<String>, self)? {
            if key == TOML_DATE {
                return Ok(Tree::Date);
            }
            if table.insert(key, value).is_some() {
                return Err(A::Error::custom("a key twice"));
            }
        }
        Ok(Tree::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, format: Format) -> Tree {
        match Tree::read(text.as_bytes(), format).unwrap() {
            Tree::Table(mut table) => table.remove("x").unwrap(),
            other => other,
        }
    }

    #[test]
    fn floats_are_printed_as_go_prints_them() {
        // What `fmt.Sprintf("%v", x)` prints.
        for (number, printed) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (123_456.0, "123456"),
            (123_456.75, "123456.75"),
            (999_999.9, "999999.9"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (12_345_678.9, "1.23456789e+07"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(float(number), printed);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_is_the_number_and_no_shorter_text_is(number in proptest::num::f64::NORMAL) {
            let printed = float(number);
            proptest::prop_assert_eq!(printed.parse::<f64>().unwrap(), number);
            let exponent = number.abs().log10().floor();
            // At the very border the logarithm is not to be relied on.
            if (exponent - number.abs().log10()).abs() > 1e-9 {
                proptest::prop_assert_eq!(printed.contains('e'), !(-4.0..6.0).contains(&exponent));
            }
        }
    }

    #[test]
    fn each_language_has_its_own_types() {
        use Format::{Json, Toml, Yaml};
        let text = |text: &str| Some(text.to_owned());
        for (document, format, printed) in [
            ("x = 8080", Toml, text("8080")),
            ("x = 1000000", Toml, text("1000000")),
            ("x = 1000000.0", Toml, text("1e+06")),
            ("x = inf", Toml, text("+Inf")),
            ("x = nan", Toml, text("NaN")),
            ("x = -9223372036854775808", Toml, text("-9223372036854775808")),
            ("x = 9223372036854775807", Toml, text("9223372036854775807")),
            ("x = 0x10", Toml, text("16")),
            ("x = true", Toml, text("true")),
            ("x = 1979-05-27", Toml, None),
            ("x = [1]", Toml, None),
            (r#"{"x": 8080}"#, Json, text("8080")),
            // Go reads every number of JSON as a float64.
            (r#"{"x": 1000000}"#, Json, text("1e+06")),
            (r#"{"x": 9007199254740993}"#, Json, text("9.007199254740992e+15")),
            (
                r#"{"x": 9223372036854775807}"#,
                Json,
                text("9.223372036854776e+18"),
            ),
            (
                r#"{"x": 18446744073709551615}"#,
                Json,
                text("1.8446744073709552e+19"),
            ),
            (r#"{"x": "1000000"}"#, Json, text("1000000")),
            (r#"{"x": null}"#, Json, None),
            ("x: 8080", Yaml, text("8080")),
            ("x: 1000000", Yaml, text("1000000")),
            ("x: 1e6", Yaml, text("1e+06")),
            ("x: -9223372036854775808", Yaml, text("-9223372036854775808")),
            ("x: 9223372036854775807", Yaml, text("9223372036854775807")),
            ("x: 18446744073709551615", Yaml, text("18446744073709551615")),
            // Beyond 64 bits it is a float to Go's yaml too.
            ("x: 18446744073709551616", Yaml, text("1.8446744073709552e+19")),
            ("x: .nan", Yaml, text("NaN")),
            ("x: .inf", Yaml, text("+Inf")),
            ("x: +.INF", Yaml, text("+Inf")),
            ("x: -.Inf", Yaml, text("-Inf")),
            ("x: '.inf'", Yaml, text(".inf")),
            ("\u{feff}x: 8080", Yaml, text("8080")),
            ("x: '1e6'", Yaml, text("1e6")),
            ("x: true", Yaml, text("true")),
            ("x: yes", Yaml, text("yes")),
            ("x: off", Yaml, text("off")),
            ("x: 1.10.2", Yaml, text("1.10.2")),
            ("x: 2001-01-01", Yaml, text("2001-01-01")),
            ("x: ~", Yaml, None),
            ("x:", Yaml, None),
            ("x: &a [1]", Yaml, None),
            ("y: &a 5\nx: *a", Yaml, text("5")),
            ("x: {8080: a}", Yaml, None),
        ] {
            assert_eq!(value(document, format).as_go_prints(), printed, "{document}");
        }
        assert_eq!(value("", Yaml), Tree::Nothing);
        assert_eq!(value(r#"{"x": 8080}"#, Json).whole(), Some(8080));
        assert_eq!(value("x = 1.5", Toml).whole(), None);
    }

    #[test]
    fn a_document_that_is_none_is_told_by_its_line_and_none_of_its_words() {
        use Format::{Json, Toml, Yaml};
        for (document, format, line) in [
            ("a = 1\nb = tsec_1", Toml, 2),
            ("a = 1\na = 2", Toml, 2),
            ("a = \"\ntsec_1", Toml, 2),
            ("a = 1\nb = [9223372036854775808]", Toml, 2),
            ("a = 1\nb = 18446744073709551616", Toml, 2),
            ("{\n\"a\": tsec_1}", Json, 2),
            ("{\"a\": 1,\n\"a\": 2}", Json, 2),
            ("{} {}", Json, 1),
            ("", Json, 1),
            ("a: 1\na: 2", Yaml, 2),
            ("a: 'tsec_1", Yaml, 1),
            ("a: 1\n  b: tsec_1\n", Yaml, 2),
            ("a: *tsec_1", Yaml, 1),
            ("a: 1\n---\nb: 1", Yaml, 3),
        ] {
            let error = Tree::read(document.as_bytes(), format).unwrap_err();
            assert_eq!(error, SyntaxError::Line { format, line }, "{document}");
            assert!(!error.to_string().contains("tsec"), "{error}");
        }
        let marked = Tree::read("\u{feff}{}".as_bytes(), Json);
        assert_eq!(marked.unwrap_err(), SyntaxError::Mark);
        let error = Tree::read(b"a = 1\n\xff", Toml).unwrap_err();
        assert_eq!(error, SyntaxError::NoText(2));
        let deep = "[".repeat(100_000);
        assert!(Tree::read(format!("a = {deep}").as_bytes(), Toml).is_err());
        for format in [Json, Yaml] {
            assert!(Tree::read(deep.as_bytes(), format).is_err());
        }
    }

    #[test]
    fn what_stands_for_much_more_than_there_is_is_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        assert!(Tree::read(laughs.as_bytes(), Format::Yaml).is_err());
        let shared = |value: &str, aliases: usize| {
            let aliases = vec!["*a"; aliases].join(", ");
            let document = format!("a: &a {value}\nb: [{aliases}]\n");
            Tree::read(document.as_bytes(), Format::Yaml)
        };
        let list = format!("[{}]", vec!["x"; 1_000].join(", "));
        assert!(shared(&list, 5).is_ok());
        assert!(shared(&list, 20).is_err());
        let text = "x".repeat(500_000);
        assert!(shared(&text, 2).is_ok());
        assert!(shared(&text, 5).is_err());
    }
}
