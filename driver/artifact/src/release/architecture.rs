//! The processor that the release's ERTS runs on.
//!
//! Source: `e_machine` of the ELF header (System V ABI); the names are those `erlang:system_info(system_architecture)`
//! begins with.

use std::{fs::File, io::Read as _, path::Path};

/// Where `e_machine` stands, and behind it: 4 bytes of magic, class, byte order, 10 more, the type.
const HEADER: usize = 20;

/// Numbers of `e_machine`, in 64 bits and in 32.
const MACHINES: [(u16, &str, &str); 8] = [
    (3, "i686", "i686"),
    (20, "powerpc", "powerpc"),
    (21, "powerpc64", "powerpc64"),
    (22, "s390x", "s390"),
    (40, "arm", "arm"),
    (62, "x86_64", "x86_64"),
    (183, "aarch64", "aarch64"),
    (243, "riscv64", "riscv32"),
];

/// Of the emulator's file; `None` where there is none, or it is of no system or processor that is known here: what
/// cannot be read says nothing against the release.
pub(super) fn of(emulator: &Path) -> Option<String> {
    let mut header = [0; HEADER];
    File::open(emulator).ok()?.read_exact(&mut header).ok()?;
    machine(&header).map(str::to_owned)
}

fn machine(header: &[u8; HEADER]) -> Option<&'static str> {
    if &header[..4] != b"\x7fELF" {
        return None;
    }
    let number = [header[18], header[19]];
    let number = match header[5] {
        1 => u16::from_le_bytes(number),
        2 => u16::from_be_bytes(number),
        _ => return None,
    };
    let (_, wide, narrow) = MACHINES.iter().find(|(known, ..)| *known == number)?;
    match header[4] {
        1 => Some(narrow),
        2 => Some(wide),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let header = |class, order, machine: [u8; 2]| {
            let mut header = [0; HEADER];
            header[..4].copy_from_slice(b"\x7fELF");
            (header[4], header[5]) = (class, order);
            header[18..].copy_from_slice(&machine);
            super::machine(&header)
        };
        assert_eq!(header(2, 1, [62, 0]), Some("x86_64"));
        assert_eq!(header(2, 1, [183, 0]), Some("aarch64"));
        assert_eq!(header(2, 2, [0, 22]), Some("s390x"));
        assert_eq!(header(1, 1, [243, 0]), Some("riscv32"));
        assert_eq!(header(2, 1, [1, 1]), None);
        assert_eq!(header(0, 1, [62, 0]), None);
        assert_eq!(
            super::machine(b"#!/bin/sh\nexec erl $@"[..HEADER].try_into().unwrap()),
            None
        );
    }
}
