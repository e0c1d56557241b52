//! Boot files: where a start looks for code.
//!
//! Only directories are read of one and replaced in it; everything else goes through byte for byte, whatever it says. Nothing is
//! allocated on a length's word.
//!
//! Source: External Term Format, ERTS user's guide; `{script, {Name, Vsn}, [Command]}` as `systools_make` and Mix write it, with
//! `{path, [Directory]}` among the commands.

use std::{
    io::{self, Read as _},
    ops::Range,
};

use flate2::read::ZlibDecoder;

/// The most bytes a boot file may have. It names every module: with a hundred thousand of them it would have 8 MB.
pub const MAX_BOOT: u64 = 32 * 1024 * 1024;

/// Where upgrades and boots keep code, as it stands in the directories of boot files that they wrote.
const OVERLAY: &str = "/flyhot/code/";

/// How consolidated protocols are called beside applications.
pub const CONSOLIDATED: &str = "consolidated";

/// Why bytes are no boot file.
#[derive(Debug, thiserror::Error)]
pub enum BootFileError {
    /// They are no term, or not that of a boot file.
    #[error("it is no boot file: {what} is missing at byte {at}")]
    Shape {
        /// What should be there.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// They cannot be inflated.
    #[error("it cannot be inflated")]
    Deflated(#[source] io::Error),
    /// There are more than any boot file has.
    #[error("it has more than {MAX_BOOT} bytes")]
    TooLarge,
}

/// A boot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    bytes: Vec<u8>,
    name: String,
    paths: Vec<(Range<usize>, String)>,
}

impl BootFile {
    /// Reads one.
    ///
    /// # Errors
    /// [`BootFileError`].
    pub fn read(bytes: &[u8]) -> Result<Self, BootFileError> {
        let bytes = inflated(bytes)?;
        let mut reader = Reader { bytes: &bytes, at: 1 };
        reader.tuple(3, "the script")?;
        reader.atom("script")?;
        reader.tuple(2, "name and version")?;
        let name = reader.text()?;
        reader.skip()?;
        let mut paths = Vec::new();
        let commands = reader.list("the commands")?;
        for _ in 0..commands {
            let before = reader.at;
            if reader.tuple(2, "a command").is_err() || reader.atom("path").is_err() {
                reader.at = before;
                reader.skip()?;
                continue;
            }
            let directories = reader.list("directories")?;
            for _ in 0..directories {
                let from = reader.at;
                let text = reader.text()?;
                paths.push((from..reader.at, text));
            }
            reader.end_of(directories)?;
        }
        reader.end_of(commands)?;
        if reader.at != bytes.len() {
            return Err(reader.lacks("the end"));
        }
        Ok(Self { bytes, name, paths })
    }

    /// The release's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directories, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(|(_, path)| path.as_str())
    }

    /// Whether an upgrade or a boot wrote it: it leads to code that these keep.
    pub fn is_overlaid(&self) -> bool {
        self.paths().any(|path| path.contains(OVERLAY))
    }

    /// The same with other directories.
    ///
    /// # Errors
    /// What `place` answers.
    pub fn placed<E>(&self, mut place: impl FnMut(&str) -> Result<String, E>) -> Result<Vec<u8>, E> {
        let mut bytes = Vec::with_capacity(self.bytes.len() + self.paths.len() * OVERLAY.len());
        let mut from = 0;
        for (range, path) in &self.paths {
            bytes.extend_from_slice(self.bytes.get(from..range.start).unwrap_or_default());
            write(&place(path)?, &mut bytes);
            from = range.end;
        }
        bytes.extend_from_slice(self.bytes.get(from..).unwrap_or_default());
        Ok(bytes)
    }
}

/// Whose a directory is, as the code server takes its name apart: an application's, or [`CONSOLIDATED`].
pub fn owner(path: &str) -> &str {
    directory(path).split('-').next().unwrap_or_default()
}

/// The part of a directory's path that has name and version.
pub fn directory(path: &str) -> &str {
    let path = path.strip_suffix("/ebin").unwrap_or(path);
    path.rsplit('/').next().unwrap_or_default()
}

/// What leads to the release's directory, in the path of one of its own directories: `lib` and `releases` lie in it. `None` for a
/// path that begins with no variable: it leads where the release was built.
pub fn root(path: &str) -> Option<String> {
    let mut up: Vec<&str> = path.split('/').collect();
    if !path.starts_with('$') {
        return None;
    }
    if up.pop() == Some("ebin") {
        up.pop()?;
        return (up.len() > 1 || up.first() == Some(&"$RELEASE_LIB")).then(|| format!("{}/..", up.join("/")));
    }
    up.pop()?;
    (up.pop() == Some("releases")).then(|| up.join("/"))
}

/// The directory `below` of that one, in code of the generation `generation`.
pub fn overlay(root: &str, generation: &str, below: &str) -> String {
    format!("{root}{OVERLAY}{generation}/{below}")
}

fn inflated(bytes: &[u8]) -> Result<Vec<u8>, BootFileError> {
    if bytes.len() as u64 > MAX_BOOT {
        return Err(BootFileError::TooLarge);
    }
    let Some(packed) = bytes.strip_prefix(&[131, 80]) else {
        return match bytes.first() {
            Some(131) => Ok(bytes.to_vec()),
            _ => Err(BootFileError::Shape {
                what: "a term",
                at: 0,
            }),
        };
    };
    // Four bytes say how many there will be.
    let mut plain = vec![131];
    ZlibDecoder::new(packed.get(4..).unwrap_or_default())
        .take(MAX_BOOT)
        .read_to_end(&mut plain)
        .map_err(BootFileError::Deflated)?;
    if plain.len() as u64 > MAX_BOOT {
        return Err(BootFileError::TooLarge);
    }
    Ok(plain)
}

/// A string as Erlang writes it: bytes where all characters are some, else a list of numbers.
fn write(text: &str, bytes: &mut Vec<u8>) {
    let codes: Vec<u32> = text.chars().map(u32::from).collect();
    let short: Option<Vec<u8>> = codes.iter().map(|code| u8::try_from(*code).ok()).collect();
    match (short, u16::try_from(codes.len())) {
        (_, Ok(0)) => bytes.push(106),
        (Some(short), Ok(length)) => {
            bytes.push(107);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&short);
        }
        _ => {
            bytes.push(108);
            bytes.extend_from_slice(&u32::try_from(codes.len()).unwrap_or(u32::MAX).to_be_bytes());
            for code in codes {
                bytes.push(98);
                bytes.extend_from_slice(&code.to_be_bytes());
            }
            bytes.push(106);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn lacks(&self, what: &'static str) -> BootFileError {
        BootFileError::Shape { what, at: self.at }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BootFileError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        let taken = taken.ok_or_else(|| self.lacks("the rest of a term"))?;
        self.at += count;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, BootFileError> {
        let taken = self.take(bytes)?;
        Ok(taken
            .iter()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn tuple(&mut self, arity: u8, what: &'static str) -> Result<(), BootFileError> {
        match self.take(2)? {
            [104, found] if *found == arity => Ok(()),
            _ => Err(self.lacks(what)),
        }
    }

    fn atom(&mut self, name: &'static str) -> Result<(), BootFileError> {
        let width = match self.number(1)? {
            115 | 119 => 1,
            100 | 118 => 2,
            _ => return Err(self.lacks(name)),
        };
        let length = self.number(width)?;
        if self.take(length)? == name.as_bytes() {
            Ok(())
        } else {
            Err(self.lacks(name))
        }
    }

    /// How many elements follow; those behind them are [`Reader::end_of`].
    fn list(&mut self, what: &'static str) -> Result<usize, BootFileError> {
        match self.number(1)? {
            106 => Ok(0),
            108 => self.number(4),
            _ => Err(self.lacks(what)),
        }
    }

    fn end_of(&mut self, elements: usize) -> Result<(), BootFileError> {
        match elements {
            0 => Ok(()),
            _ if self.number(1)? == 106 => Ok(()),
            _ => Err(self.lacks("the end of a list")),
        }
    }

    fn text(&mut self) -> Result<String, BootFileError> {
        if self.bytes.get(self.at) == Some(&107) {
            self.at += 1;
            let length = self.number(2)?;
            return Ok(self.take(length)?.iter().copied().map(char::from).collect());
        }
        let length = self.list("a text")?;
        let mut text = String::new();
        for _ in 0..length {
            let code = match self.number(1)? {
                97 => self.number(1)?,
                98 => self.number(4)?,
                _ => return Err(self.lacks("a character")),
            };
            let character = u32::try_from(code).ok().and_then(char::from_u32);
            text.push(character.ok_or_else(|| self.lacks("a character"))?);
        }
        self.end_of(length)?;
        Ok(text)
    }

    /// Steps over a term.
    fn skip(&mut self) -> Result<(), BootFileError> {
        let mut left = 1_usize;
        while left > 0 {
            left -= 1;
            let inside = match self.number(1)? {
                97 => self.skipped(1),
                98 => self.skipped(4),
                70 => self.skipped(8),
                99 => self.skipped(31),
                106 => Ok(0),
                100 | 118 | 107 => self.counted(2, 0),
                115 | 119 => self.counted(1, 0),
                109 => self.counted(4, 0),
                77 => self.counted(4, 1),
                110 => self.counted(1, 1),
                111 => self.counted(4, 1),
                104 => self.number(1),
                105 => self.number(4),
                108 => self.number(4).map(|count| count.saturating_add(1)),
                116 => self.number(4).map(|count| count.saturating_mul(2)),
                113 => Ok(3),
                _ => Err(self.lacks("a term that a boot file may have")),
            }?;
            left = left.saturating_add(inside);
            // Each has one byte at least.
            if left > self.bytes.len() - self.at {
                return Err(self.lacks("the rest of a term"));
            }
        }
        Ok(())
    }

    fn skipped(&mut self, bytes: usize) -> Result<usize, BootFileError> {
        self.take(bytes).map(|_| 0)
    }

    fn counted(&mut self, width: usize, more: usize) -> Result<usize, BootFileError> {
        let length = self.number(width)?;
        self.skipped(length.saturating_add(more))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn string(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(text, &mut bytes);
        bytes
    }

    /// `{script, {"shop", "1.0.0"}, [{progress, preloaded}, {path, Paths}, {apply, {m, f, [#{}]}}, {path, []}]}`
    fn script(paths: &[&str]) -> Vec<u8> {
        let atom = |name: &str| [&[119, name.len() as u8], name.as_bytes()].concat();
        let mut listed = vec![108, 0, 0, 0, paths.len() as u8];
        listed.extend(paths.iter().flat_map(|path| string(path)));
        listed.push(106);
        [
            &[131, 104, 3][..],
            &atom("script"),
            &[104, 2],
            &string("shop"),
            &string("1.0.0"),
            &[108, 0, 0, 0, 4, 104, 2],
            &atom("progress"),
            &atom("preloaded"),
            &[104, 2],
            &atom("path"),
            &listed,
            &[104, 2],
            &atom("apply"),
            &[104, 3],
            &atom("m"),
            &atom("f"),
            &[108, 0, 0, 0, 1, 116, 0, 0, 0, 0, 106, 104, 2],
            &atom("path"),
            &[106, 106],
        ]
        .concat()
    }

    fn again(path: &str) -> Result<String, ()> {
        Ok(path.to_owned())
    }

    #[test]
    fn directories_are_replaced_and_nothing_else() {
        let paths = ["$ROOT/lib/kernel-8.5/ebin", "$RELEASE_LIB/shop-1.0.0/ebin"];
        let boot = BootFile::read(&script(&paths)).unwrap();
        assert_eq!(boot.name(), "shop");
        assert_eq!(boot.paths().collect::<Vec<_>>(), paths);
        assert_eq!(boot.placed(again).unwrap(), script(&paths));
        assert!(!boot.is_overlaid());
        let there = overlay(&root(paths[1]).unwrap(), "boot-1", "lib/shop-1.1.0/ebin");
        assert_eq!(there, "$RELEASE_LIB/../flyhot/code/boot-1/lib/shop-1.1.0/ebin");
        let place = |path: &str| again(if path.contains("shop") { &there } else { "\u{20ac}" });
        let placed = boot.placed(place).unwrap();
        assert_eq!(placed, script(&["\u{20ac}", &there]));
        assert!(BootFile::read(&placed).unwrap().is_overlaid());
    }

    #[test]
    fn a_directory_says_whose_it_is_and_where_the_release_lies() {
        for (path, whose, leads) in [
            ("$ROOT/lib/kernel-8.5/ebin", "kernel", Some("$ROOT/lib/..")),
            (
                "$RELEASE_LIB/shop-1.1.0-rc.1/ebin",
                "shop",
                Some("$RELEASE_LIB/.."),
            ),
            (
                "$RELEASE_LIB/../releases/1.1.0/consolidated",
                "consolidated",
                Some("$RELEASE_LIB/.."),
            ),
            ("/srv/lib/shop-1.1.0/ebin", "shop", None),
            ("$ROOT/ebin", "$ROOT", None),
            ("ebin", "ebin", None),
        ] {
            assert_eq!((owner(path), root(path).as_deref()), (whose, leads), "{path}");
        }
    }

    #[test]
    fn a_deflated_one_is_read_too() {
        let plain = script(&["$ROOT/lib/kernel-8.5/ebin"]);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&plain[1..]).unwrap();
        let size = u32::try_from(plain.len() - 1).unwrap().to_be_bytes();
        let packed = [&[131, 80][..], &size, &zlib.finish().unwrap()].concat();
        assert_eq!(BootFile::read(&packed).unwrap(), BootFile::read(&plain).unwrap());
        assert!(BootFile::read(&packed[..packed.len() - 6]).is_err());
    }

    #[test]
    fn what_is_cut_or_goes_on_is_none() {
        let whole = script(&["$ROOT/lib/kernel-8.5/ebin"]);
        for end in 0..whole.len() {
            assert!(BootFile::read(&whole[..end]).is_err(), "{end}");
        }
        assert!(BootFile::read(&[&whole[..], &[106]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at: usize, byte: u8, noise: Vec<u8>) {
            let mut bent = script(&["$ROOT/lib/kernel-8.5/ebin"]);
            let at = at % bent.len();
            bent[at] = byte;
            let _ = BootFile::read(&bent);
            let _ = BootFile::read(&noise);
        }

        #[test]
        fn any_path_reads_back(paths in proptest::collection::vec("\\PC{0,40}", 0..5)) {
            let boot = BootFile::read(&script(&["a"])).unwrap();
            for path in paths {
                let placed = boot.placed(|_| again(&path)).unwrap();
                let read = BootFile::read(&placed).unwrap();
                prop_assert_eq!(read.paths().collect::<Vec<_>>(), [&path]);
                let _ = (owner(&path), root(&path));
            }
        }
    }
}
