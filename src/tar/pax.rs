//! PAX extended headers (pax(1), "pax Extended Header"): records of `LENGTH KEY=VALUE\n`.

use std::collections::BTreeMap;

use super::MAX_XATTR_VALUE;
use crate::stat::Timespec;

/// Prefix of the keys that carry extended attributes (star's; GNU tar, Docker and podman use it).
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// What extended headers say of a member.
#[derive(Debug, Clone, Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link_path: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Timespec>,
    pub atime: Option<Timespec>,
    pub ctime: Option<Timespec>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse: PaxSparse,
}

/// GNU's records of sparse files, formats 0.0, 0.1 and 1.0.
#[derive(Debug, Clone, Default)]
pub(super) struct PaxSparse {
    pub major: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Offsets and lengths of formats 0.0 (in records of their own) and 0.1 (in one).
    pub map: Vec<u64>,
    pub mapped: bool,
}

/// The longest map of a sparse file, in runs of data.
pub(super) const MAX_RUNS: usize = 1 << 20;

impl Pax {
    /// Takes the records of one extended header; later ones win.
    ///
    /// # Errors
    /// What is wrong, as half a sentence.
    pub fn read(&mut self, mut data: &[u8]) -> Result<(), String> {
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or("malformed PAX record")?;
            self.take(key, value)?;
            data = rest;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || number(value).ok_or_else(|| bad(key));
        let time = || Timespec::from_pax(value).ok_or_else(|| bad(key));
        if let Some(name) = key.strip_prefix(XATTR) {
            return self.take_xattr(&decode_name(name), value);
        }
        match key {
            // An empty value takes a record of a global header back.
            b"path" => self.path = (!value.is_empty()).then(|| value.into()),
            b"linkpath" => self.link_path = (!value.is_empty()).then(|| value.into()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(number()?),
            b"gid" => self.gid = Some(number()?),
            b"mtime" => self.mtime = Some(time()?),
            b"atime" => self.atime = Some(time()?),
            b"ctime" => self.ctime = Some(time()?),
            b"GNU.sparse.major" => self.sparse.major = Some(number()?),
            b"GNU.sparse.name" => self.sparse.name = Some(value.into()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = Some(number()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.mapped = true;
                self.push_run(number()?)?;
            }
            b"GNU.sparse.map" => {
                self.sparse.mapped = true;
                self.sparse.map.clear();
                for n in value.split(|b| *b == b',').filter(|n| !n.is_empty()) {
                    self.push_run(crate::tar::pax::number(n).ok_or_else(|| bad(key))?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn push_run(&mut self, n: u64) -> Result<(), String> {
        if self.sparse.map.len() >= 2 * MAX_RUNS {
            return Err("the sparse map has too many runs".into());
        }
        self.sparse.map.push(n);
        Ok(())
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let shown = name
            .get(..name.len().min(100))
            .unwrap_or_default()
            .escape_ascii();
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(format!(
                "extended attribute \"{shown}\": not a possible name"
            ));
        }
        if value.len() > MAX_XATTR_VALUE {
            return Err(format!(
                "extended attribute \"{shown}\": its value is over 64 KiB"
            ));
        }
        self.xattrs.insert(name.into(), value.into());
        Ok(())
    }
}

fn bad(key: &[u8]) -> String {
    let shown = key
        .get(..key.len().min(100))
        .unwrap_or_default()
        .escape_ascii();
    format!("PAX record {shown}: not a possible value")
}

/// An attribute's name in a record's key, where `=` can't stand: GNU tar writes `%3D`, and `%25`
/// for `%`.
pub(super) fn encode_name(name: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => encoded.extend_from_slice(b"%3D"),
            b'%' => encoded.extend_from_slice(b"%25"),
            other => encoded.push(*other),
        }
    }
    encoded
}

/// The inverse of [`encode_name`]; other uses of `%` stay as they are.
fn decode_name(key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, after),
        };
        name.push(byte);
        rest = after;
    }
    name
}

/// The first record: its key and value, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(21).position(|b| *b == b' ')?;
    let len = usize::try_from(number(data.get(..space)?)?).ok()?;
    let (record, rest) = data.split_at_checked(len)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    let key = body.get(..equals)?;
    if key.is_empty() {
        return None;
    }
    Some((key, body.get(equals + 1..)?, rest))
}

/// A decimal number without sign.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Timespec {
    /// A PAX time: decimal seconds, perhaps negative, perhaps with a fraction (digits past the
    /// ninth are dropped).
    pub(super) fn from_pax(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
        let (whole, fraction) = text.split_at_checked(dot)?;
        let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let sec = i64::try_from(number(whole)?).ok()?;
        let digits = fraction
            .iter()
            .map(|b| u32::from(b - b'0'))
            .chain(std::iter::repeat(0));
        let nsec = digits.take(9).fold(0, |n, d| n * 10 + d);
        Some(match (negative, nsec) {
            (false, nsec) => Self { sec, nsec },
            (true, 0) => Self { sec: -sec, nsec: 0 },
            (true, nsec) => Self {
                sec: -sec - 1,
                nsec: 1_000_000_000 - nsec,
            },
        })
    }

    /// The inverse of [`Timespec::from_pax`]; no fraction when there is none.
    pub(super) fn to_pax(self) -> String {
        if self.nsec == 0 {
            return self.sec.to_string();
        }
        let (sign, sec, nsec) = if self.sec < 0 {
            ("-", -(self.sec + 1), 1_000_000_000 - self.nsec)
        } else {
            ("", self.sec, self.nsec)
        };
        let text = format!("{sign}{sec}.{nsec:09}");
        text.trim_end_matches('0').to_owned()
    }
}

/// Appends one record.
pub(super) fn write_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let body = key.len() + value.len() + 3;
    let mut len = body + body.to_string().len();
    len = body + len.to_string().len();
    out.extend_from_slice(format!("{len} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, sec, nsec) in [
            ("0", 0, 0),
            ("1500000000.5", 1_500_000_000, 500_000_000),
            ("-1.25", -2, 750_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("-7", -7, 0),
        ] {
            let time = Timespec::from_pax(text.as_bytes()).unwrap();
            assert_eq!(time, Timespec { sec, nsec }, "{text}");
            assert_eq!(time.to_pax(), text);
        }
        let long = Timespec::from_pax(b"1.1234567899").unwrap();
        assert_eq!(long.nsec, 123_456_789);
        for bad in ["", "-", "1e5", "1.x", "--1", "99999999999999999999"] {
            assert_eq!(Timespec::from_pax(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        for len in [0, 1, 80, 90, 91, 92, 93, 94, 95, 96, 985, 990, 995, 5000] {
            let mut data = Vec::new();
            let value = vec![b'v'; len];
            write_record(&mut data, b"path", &value);
            write_record(&mut data, b"x=y", b"kept out");
            let mut pax = Pax::default();
            pax.read(&data).unwrap();
            assert_eq!(pax.path.unwrap_or_default(), value);
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"5"[..],
            b"x path=a\n",
            b"9 path=a\nz",
            b"99 path=a\n",
            b"8 path=a\n",
            b"3 =\n",
            b"0 \n",
            b"10 path=ab",
            b"11 size=-1\n",
            b"12 mtime=x1\n",
            b"\n",
            b"24 SCHILY.xattr.=value\n",
            b"999999999999999999999999 a=b\n",
        ] {
            assert!(Pax::default().read(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
