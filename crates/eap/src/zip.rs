//! Zip archives whose entries are stored as they are: what `torch.save` writes and `torch.load` reads.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// `torch.load` maps tensors at this alignment.
const ALIGNMENT: usize = 64;

/// Writes entries in order, each aligned as torch aligns its tensors. No clock in it: the same entries, the same bytes.
pub fn write(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let start = out.len();
        let padding = (start + 30 + name.len() + 4).next_multiple_of(ALIGNMENT)
            - (start + 30 + name.len() + 4);
        let header = |extra: usize| {
            let mut header = Vec::new();
            // Version 2.0, no flags, stored; 1980-01-01, the first date a zip knows.
            for short in [20_u16, 0, 0, 0, 0x21] {
                header.extend(short.to_le_bytes());
            }
            header.extend(checksum(data).to_le_bytes());
            for _ in 0..2 {
                header.extend((data.len() as u32).to_le_bytes());
            }
            header.extend((name.len() as u16).to_le_bytes());
            header.extend((extra as u16).to_le_bytes());
            header
        };
        out.extend(LOCAL.to_le_bytes());
        out.extend(header(padding + 4));
        out.extend(name.as_bytes());
        // A field that readers skip, as long as the padding takes: `FB`, length, filler.
        out.extend(b"FB");
        out.extend((padding as u16).to_le_bytes());
        out.resize(out.len() + padding, b'Z');
        out.extend(data);
        central.extend(CENTRAL.to_le_bytes());
        central.extend(20_u16.to_le_bytes());
        central.extend(header(0));
        // No comment, disk 0, no attributes.
        central.extend([0; 10]);
        central.extend((start as u32).to_le_bytes());
        central.extend(name.as_bytes());
    }
    let start = out.len();
    out.extend(&central);
    out.extend(END.to_le_bytes());
    out.extend([0; 4]);
    for _ in 0..2 {
        out.extend((entries.len() as u16).to_le_bytes());
    }
    out.extend((central.len() as u32).to_le_bytes());
    out.extend((start as u32).to_le_bytes());
    out.extend([0; 2]);
    out
}

/// Reads the entries of an archive by name.
///
/// # Errors
/// When it is no zip, is damaged, or compresses an entry.
pub fn read(bytes: &[u8]) -> anyhow::Result<BTreeMap<String, &[u8]>> {
    let end = (0..bytes.len().saturating_sub(21))
        .rev()
        .take(1 << 16)
        .find(|&at| u32_at(bytes, at) == Some(END))
        .context("not a zip archive")?;
    let n = u16_at(bytes, end + 10).context(DAMAGED)?;
    let mut at = u32_at(bytes, end + 16).context(DAMAGED)? as usize;
    let mut entries = BTreeMap::new();
    for _ in 0..n {
        ensure!(u32_at(bytes, at) == Some(CENTRAL), DAMAGED);
        let short = |offset: usize| u16_at(bytes, at + offset).map(usize::from).context(DAMAGED);
        let long = |offset: usize| {
            u32_at(bytes, at + offset)
                .map(|x| x as usize)
                .context(DAMAGED)
        };
        let (name_length, skipped) = (short(28)?, short(30)? + short(32)?);
        let name = bytes.get(at + 46..at + 46 + name_length).context(DAMAGED)?;
        let name = std::str::from_utf8(name).context(DAMAGED)?.to_owned();
        let data = entry(bytes, long(42)?, long(20)?)?;
        if short(10)? != 0 {
            bail!("entry {name} is compressed");
        }
        ensure!(
            checksum(data) == long(16)? as u32,
            "entry {name} is damaged"
        );
        entries.insert(name, data);
        at += 46 + name_length + skipped;
    }
    Ok(entries)
}

const DAMAGED: &str = "the zip archive is damaged";

/// Data of the entry whose local header is at `at`.
fn entry(bytes: &[u8], at: usize, length: usize) -> anyhow::Result<&[u8]> {
    ensure!(u32_at(bytes, at) == Some(LOCAL), DAMAGED);
    let short = |offset: usize| u16_at(bytes, at + offset).map(usize::from).context(DAMAGED);
    let start = at + 30 + short(26)? + short(28)?;
    bytes
        .get(start..start.saturating_add(length))
        .context(DAMAGED)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let word = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(word.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// CRC-32 of the zip format.
fn checksum(data: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| {
            (0..8).fold(byte, |c, _| {
                if c & 1 == 1 {
                    0xedb8_8320 ^ (c >> 1)
                } else {
                    c >> 1
                }
            })
        })
        .collect();
    let step = |crc: u32, &byte: &u8| table[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8);
    !data.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_lie_aligned() {
        let entries = [
            ("a/data.pkl".to_owned(), vec![1, 2, 3]),
            ("a/data/0".to_owned(), vec![7; 300]),
        ];
        let bytes = write(&entries);
        let read = read(&bytes).unwrap();
        for (name, data) in &entries {
            assert_eq!(read[name], data.as_slice());
            let place = read[name].as_ptr() as usize - bytes.as_ptr() as usize;
            assert!(place.is_multiple_of(ALIGNMENT));
        }
    }

    #[test]
    fn the_checksum_is_that_of_every_zip() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = write(&[("a".to_owned(), vec![5; 40])]);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err());
        }
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x55;
            // What is damaged may be a byte nobody reads, but the data is as it was or refused.
            if let Ok(entries) = read(&damaged) {
                assert!(entries.values().all(|data| *data == [5; 40]));
            }
        }
    }
}
