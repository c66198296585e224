//! Whether a program is linked statically: elf(5), as far as that says so.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// How much of a file is looked at. Linux executes none whose program headers take more, and linkers put them at its beginning.
const LOOKED_AT: u64 = 64 * 1024;

/// The type of the program header that names a dynamic loader.
const PT_INTERP: u64 = 3;

/// Where a class of files has what is read here: offsets into its header, and sizes, in bytes.
struct Layout {
    /// The offset of the program headers.
    phoff: (usize, usize),
    /// The size of one of them.
    phentsize: usize,
    /// Their number.
    phnum: usize,
    /// The size that one of them must have.
    header: usize,
}

const ELF32: Layout = Layout { phoff: (28, 4), phentsize: 42, phnum: 44, header: 32 };
const ELF64: Layout = Layout { phoff: (32, 8), phentsize: 54, phnum: 56, header: 56 };

/// Whether the file is a program that the kernel starts without a dynamic loader. Whatever cannot be read as one is not.
pub(crate) fn is_static_file(path: &Path) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LOOKED_AT).read_to_end(&mut bytes)?;
    Ok(is_static(&bytes).unwrap_or(false))
}

/// `None` for what is no ELF file, or is cut off before its last program header.
fn is_static(file: &[u8]) -> Option<bool> {
    let [class, order] = *file.strip_prefix(b"\x7fELF")?.first_chunk()?;
    let layout = match class {
        1 => ELF32,
        2 => ELF64,
        _ => return None,
    };
    let number = |bytes: &[u8]| {
        let digit = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match order {
            1 => Some(bytes.iter().rev().fold(0, digit)),
            2 => Some(bytes.iter().fold(0, digit)),
            _ => None,
        }
    };
    let field =
        |at: usize, length: usize| usize::try_from(number(file.get(at..at.checked_add(length)?)?)?).ok();
    let (offset, size, count) =
        (field(layout.phoff.0, layout.phoff.1)?, field(layout.phentsize, 2)?, field(layout.phnum, 2)?);
    if size != layout.header || count == 0 {
        return None;
    }
    let headers = file.get(offset..offset.checked_add(size.checked_mul(count)?)?)?;
    let mut types = headers.chunks_exact(size).map(|header| number(header.get(..4)?));
    types.try_fold(true, |is_static, kind| Some(is_static && kind? != PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with program headers of these types.
    fn program(class: u8, order: u8, types: &[u32]) -> Vec<u8> {
        let (layout, length) = if class == 1 { (ELF32, 52) } else { (ELF64, 64) };
        let mut file = vec![0; length];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        let number = |value: u64, size: usize| -> Vec<u8> {
            let big = value.to_be_bytes()[8 - size..].to_vec();
            if order == 1 { big.into_iter().rev().collect() } else { big }
        };
        let fields = [
            (layout.phoff.0, number(length as u64, layout.phoff.1)),
            (layout.phentsize, number(layout.header as u64, 2)),
            (layout.phnum, number(types.len() as u64, 2)),
        ];
        for (at, bytes) in fields {
            file[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        for kind in types {
            file.extend(number(u64::from(*kind), 4));
            file.resize(file.len() + layout.header - 4, 0);
        }
        file
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        for class in [1, 2] {
            for order in [1, 2] {
                let is_static = |types: &[u32]| is_static(&program(class, order, types));
                assert_eq!(is_static(&[1, 2, 6]), Some(true), "{class} {order}");
                for types in [&[3, 1][..], &[6, 1, 3]] {
                    assert_eq!(is_static(types), Some(false), "{class} {order} {types:?}");
                }
                assert_eq!(is_static(&[]), None);
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_static() {
        let good = program(2, 1, &[1]);
        for length in 0..good.len() {
            assert_eq!(is_static(&good[..length]), None, "{length}");
        }
        for (at, byte) in [(0, 0), (4, 0), (4, 3), (5, 0), (5, 3), (39, 0xff), (54, 57), (57, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(is_static(&bad), None, "{at} {byte}");
        }
        assert_eq!(is_static(b"#!/bin/sh\n"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fail(rest in proptest::collection::vec(any::<u8>(), 0..200), class in 0_u8..4, order in 0_u8..4) {
            let _ = is_static(&[&[0x7f, b'E', b'L', b'F', class, order][..], &rest].concat());
        }
    }
}
