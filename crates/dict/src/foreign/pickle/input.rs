//! Bytes, numbers and texts of a pickle.

use super::{Result, Value, shown};

/// A number in text, as the oldest pickles have it; `00` and `01` are booleans.
pub(super) fn whole(line: &[u8]) -> Result<Value> {
    let text = String::from_utf8_lossy(line);
    match text.as_ref() {
        "00" => Ok(Value::Bool(false)),
        "01" => Ok(Value::Bool(true)),
        text => text
            .trim_end_matches('L')
            .parse()
            .map(Value::Int)
            .map_err(|_| format!("its pickle has the number `{}`", shown(text))),
    }
}

/// A two's complement number of any length, least byte first.
pub(super) fn long(bytes: &[u8]) -> Result<Value> {
    if bytes.len() > 8 {
        return Err(format!("its pickle has a number of {} bytes", bytes.len()));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(Value::Int(i64::from_le_bytes(wide)))
}

/// Bytes not read yet.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let taken = rest.get(..n).ok_or("its pickle ends too early")?;
        self.at += n;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N as u64)?;
        Ok(taken.try_into().expect("as many bytes were taken"))
    }

    pub(super) fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(n.ok_or("its pickle ends too early")? as u64)?;
        self.at += 1;
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    pub(super) fn text(&mut self, n: u64) -> Result<Value> {
        Ok(Value::Text(
            String::from_utf8_lossy(self.take(n)?).into_owned(),
        ))
    }
}
