//! Terms inside a beam file: a module's attributes, and the keys of the struct it defines.
//!
//! Everything else is stepped over. Nothing is allocated on a length's word and nesting is bounded, so a hostile
//! chunk ends as "nothing known", as a stripped one does.
//!
//! Source: External Term Format, ERTS user's guide; `Attr` as `beam_asm.erl` writes it: a list of
//! `{Name, [Value]}`; `defstruct` of Elixir's `Kernel`.

/// The deepest nesting read. Attributes need four; the default values of a struct's fields are what people write,
/// which stays far below.
const MAX_DEPTH: usize = 64;

/// What is read of a term.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Atom(String),
    Integer(String),
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// A float, a fun, an improper list.
    Other,
}

/// What the attributes say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Of `-behaviour` and `-behavior`, in their order.
    pub(crate) behaviours: Vec<String>,
    /// Of `-vsn`, as Erlang writes it.
    pub(crate) vsn: Option<String>,
}

/// Reads the `Attr` chunk; what is not understood is left out.
pub(crate) fn attributes(chunk: &[u8]) -> Attributes {
    let mut attributes = Attributes::default();
    let Some(Value::List(entries)) = decode(chunk) else {
        return attributes;
    };
    for entry in entries {
        let Value::Tuple(entry) = entry else { continue };
        match entry.as_slice() {
            [Value::Atom(name), Value::List(values)] if name == "behaviour" || name == "behavior" => {
                attributes
                    .behaviours
                    .extend(values.iter().filter_map(|value| match value {
                        Value::Atom(name) => Some(name.clone()),
                        _ => None,
                    }))
            }
            [Value::Atom(name), vsn] if name == "vsn" && attributes.vsn.is_none() => {
                // The compiler puts a list around every value that is none: `-vsn("1.0")` stands there as it is.
                attributes.vsn = match vsn {
                    Value::List(values) if values.len() == 1 => values.first().and_then(Value::written),
                    other => other.written(),
                }
            }
            _ => (),
        }
    }
    attributes
}

/// The keys of a literal that is a struct of `module`, sorted, `__struct__` among them; `None` for any other literal.
pub(crate) fn struct_keys(literal: &[u8], module: &str) -> Option<Vec<String>> {
    // Most literals are no maps: those are not decoded at all.
    if literal.get(1) != Some(&MAP) {
        return None;
    }
    let Some(Value::Map(pairs)) = decode(literal) else {
        return None;
    };
    let is_own = |(key, value): &(Value, Value)| key.is_atom("__struct__") && value.is_atom(module);
    if !pairs.iter().any(is_own) {
        return None;
    }
    let name = |(key, _)| match key {
        Value::Atom(name) => Some(name),
        _ => None,
    };
    let mut keys: Vec<String> = pairs.into_iter().map(name).collect::<Option<_>>()?;
    keys.sort_unstable();
    Some(keys)
}

/// Whether a literal is a map in which this atom stands for that one.
pub(crate) fn has_pair(literal: &[u8], key: &str, value: &str) -> bool {
    let Some(Value::Map(pairs)) = decode(literal) else {
        return false;
    };
    pairs
        .iter()
        .any(|(found, of)| found.is_atom(key) && of.is_atom(value))
}

fn decode(term: &[u8]) -> Option<Value> {
    Reader(term.strip_prefix(&[131])?).value(0)
}

const MAP: u8 = 116;

impl Value {
    fn is_atom(&self, name: &str) -> bool {
        matches!(self, Value::Atom(found) if found == name)
    }

    /// As Erlang writes it (`~w`, strings as strings).
    fn written(&self) -> Option<String> {
        let all = |values: &[Value]| {
            values
                .iter()
                .map(Value::written)
                .collect::<Option<Vec<_>>>()
                .map(|values| values.join(","))
        };
        Some(match self {
            Value::Atom(name)
                if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_name) =>
            {
                name.clone()
            }
            Value::Atom(name) => format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")),
            Value::Integer(number) => number.clone(),
            Value::Text(bytes) => {
                let text: String = bytes.iter().copied().map(char::from).collect();
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            }
            Value::Binary(bytes) => {
                let bytes: Vec<_> = bytes.iter().map(u8::to_string).collect();
                format!("<<{}>>", bytes.join(","))
            }
            Value::Tuple(values) => format!("{{{}}}", all(values)?),
            Value::List(values) => format!("[{}]", all(values)?),
            Value::Map(_) | Value::Other => return None,
        })
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '@')
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, width: usize) -> Option<usize> {
        Some(
            self.take(width)?
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    fn sized(&mut self, width: usize) -> Option<&'a [u8]> {
        let size = self.number(width)?;
        self.take(size)
    }

    fn values(&mut self, count: usize, depth: usize) -> Option<Vec<Value>> {
        // Grows as values come: a count costs nothing until its bytes are there.
        (0..count).map(|_| self.value(depth + 1)).collect()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth == MAX_DEPTH {
            return None;
        }
        let tag = *self.take(1)?.first()?;
        Some(match tag {
            97 => Value::Integer(self.number(1)?.to_string()),
            98 => Value::Integer(i32::from_be_bytes(self.take(4)?.try_into().ok()?).to_string()),
            70 => self.take(8).map(|_| Value::Other)?,
            106 => Value::List(vec![]),
            107 => Value::Text(self.sized(2)?.to_vec()),
            109 => Value::Binary(self.sized(4)?.to_vec()),
            110 | 111 => {
                let size = self.number(if tag == 110 { 1 } else { 4 })?;
                let sign = self.number(1)?;
                let digits = self.take(size)?;
                if digits.len() > 16 {
                    return Some(Value::Other);
                }
                let number = digits
                    .iter()
                    .rev()
                    .fold(0_u128, |number, digit| number << 8 | u128::from(*digit));
                Value::Integer(format!("{}{number}", if sign == 0 { "" } else { "-" }))
            }
            118 | 119 | 100 | 115 => {
                let name = self.sized(if matches!(tag, 118 | 100) { 2 } else { 1 })?;
                Value::Atom(match tag {
                    118 | 119 => std::str::from_utf8(name).ok()?.into(),
                    _ => name.iter().copied().map(char::from).collect(),
                })
            }
            104 | 105 => {
                let arity = self.number(if tag == 104 { 1 } else { 4 })?;
                Value::Tuple(self.values(arity, depth)?)
            }
            108 => {
                let count = self.number(4)?;
                let values = self.values(count, depth)?;
                match self.value(depth + 1)? {
                    Value::List(tail) if tail.is_empty() => Value::List(values),
                    _ => Value::Other,
                }
            }
            MAP => {
                let pairs = self.number(4)?;
                Value::Map(
                    (0..pairs)
                        .map(|_| Some((self.value(depth + 1)?, self.value(depth + 1)?)))
                        .collect::<Option<_>>()?,
                )
            }
            // fun Module:Function/Arity
            113 => self.values(3, depth).map(|_| Value::Other)?,
            // A bitstring whose last byte is cut.
            77 => {
                let size = self.number(4)?;
                self.take(size.checked_add(1)?).map(|_| Value::Other)?
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn atom(name: &str) -> Vec<u8> {
        [&[119, name.len() as u8], name.as_bytes()].concat()
    }

    fn chunk(entries: &[(&str, &[Vec<u8>])]) -> Vec<u8> {
        let mut bytes = vec![131, 108];
        bytes.extend((entries.len() as u32).to_be_bytes());
        for (name, values) in entries {
            bytes.extend([104, 2]);
            bytes.extend(atom(name));
            bytes.push(108);
            bytes.extend((values.len() as u32).to_be_bytes());
            bytes.extend(values.concat());
            bytes.push(106);
        }
        bytes.push(106);
        bytes
    }

    #[test]
    fn behaviours_of_both_spellings() {
        let chunk = chunk(&[
            ("behaviour", &[atom("gen_server"), atom("Elixir.Plug")]),
            (
                "dialyzer",
                &[vec![116, 0, 0, 0, 1, 97, 1, 70, 0, 0, 0, 0, 0, 0, 0, 0]],
            ),
            ("behavior", &[atom("gen_event")]),
        ]);
        assert_eq!(
            attributes(&chunk).behaviours,
            ["gen_server", "Elixir.Plug", "gen_event"]
        );
    }

    #[test]
    fn a_vsn_of_any_kind() {
        let mut md5 = vec![110, 16, 0];
        md5.extend([0xff; 16]);
        for (value, written) in [
            (vec![97, 7], Some("7")),
            (vec![98, 0xff, 0xff, 0xff, 0xff], Some("-1")),
            (vec![110, 1, 1, 5], Some("-5")),
            (md5, Some("340282366920938463463374607431768211455")),
            (vec![107, 0, 3, b'1', b'.', b'"'], Some("\"1.\\\"\"")),
            (vec![109, 0, 0, 0, 2, 1, 2], Some("<<1,2>>")),
            (atom("v1"), Some("v1")),
            (atom("V 1"), Some("'V 1'")),
            (vec![104, 2, 97, 1, 108, 0, 0, 0, 1, 97, 2, 106], Some("{1,[2]}")),
            (vec![70, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(attributes(&chunk(&[("vsn", &[value])])).vsn.as_deref(), written);
        }
    }

    fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![131, MAP];
        bytes.extend((pairs.len() as u32).to_be_bytes());
        for (key, value) in pairs {
            bytes.extend(atom(key));
            bytes.extend(value);
        }
        bytes
    }

    #[test]
    fn a_struct_is_a_map_that_names_its_module() {
        let inner = map(&[
            ("__struct__", atom("Elixir.B")),
            ("deep", vec![77, 0, 0, 0, 1, 1, 8]),
        ])
        .split_off(1);
        let fun = [vec![113], atom("m"), atom("f"), vec![97, 2]].concat();
        let literal = map(&[("name", fun), ("__struct__", atom("Elixir.A")), ("b", inner)]);
        let keys = ["__struct__", "b", "name"].map(String::from).to_vec();
        assert_eq!(struct_keys(&literal, "Elixir.A"), Some(keys));
        assert_eq!(struct_keys(&literal, "Elixir.B"), None);
        assert_eq!(struct_keys(&map(&[("a", atom("__struct__"))]), "Elixir.A"), None);
        assert_eq!(struct_keys(&literal[..literal.len() - 1], "Elixir.A"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left_out(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            bytes.insert(0, 131);
            attributes(&bytes);
            struct_keys(&bytes, "a");
        }

        #[test]
        fn any_tags_are_read_or_left_out(
            tags in prop::collection::vec(prop::sample::select(vec![97, 98, 104, 105, 106, 107, 108, 109, 110, 111, 116, 118, 119, 0, 1, 2, 255]), 0..64),
        ) {
            let mut bytes = vec![131];
            bytes.extend(tags);
            attributes(&bytes);
            struct_keys(&bytes, "a");
        }
    }

    #[test]
    fn nesting_and_counts_do_not_exhaust_anything() {
        assert_eq!(
            attributes(&[vec![131], [104, 1].repeat(1_000_000)].concat()),
            Attributes::default()
        );
        assert_eq!(
            attributes(&[131, 108, 255, 255, 255, 255, 105, 255, 255, 255, 255]),
            Attributes::default()
        );
    }
}
