//! Taking `-o` lists apart: separators, backslashes, quotes, and words that are nearly right.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The items of a list, empty ones left out. Backslashes stay for who reads the value.
pub(super) fn split_list(list: &[u8]) -> Vec<&[u8]> {
    let mut quoted = false;
    let mut items = split(list, |byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    });
    items.retain(|item| !item.is_empty());
    items
}

/// Splits at separators that no backslash precedes.
fn split(text: &[u8], mut separates: impl FnMut(u8) -> bool) -> Vec<&[u8]> {
    let mut escaped = false;
    let mut ends = |byte: &u8| {
        if escaped {
            escaped = false;
            return false;
        }
        escaped = *byte == b'\\';
        separates(*byte)
    };
    text.split(|byte| ends(byte)).collect()
}

/// A value without its backslashes: one before any byte stands for that byte.
pub(super) fn plain(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            other => out.push(*other),
        }
    }
    out
}

/// A path.
pub(super) fn path(value: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(plain(value)))
}

/// `lowerdir`'s value: the layers, and behind the first `::` the data-only ones.
pub(super) fn lowers(value: &[u8]) -> Result<(Vec<PathBuf>, Vec<PathBuf>), String> {
    let mut lowers = Vec::new();
    let mut data = Vec::new();
    let mut parts = split(value, |byte| byte == b':').into_iter().peekable();
    while let Some(part) = parts.next() {
        if !part.is_empty() {
            if !data.is_empty() {
                return Err("a layer after a data-only one: put :: before it".into());
            }
            lowers.push(path(part));
            continue;
        }
        match parts.next() {
            Some(part) if !part.is_empty() && !lowers.is_empty() => data.push(path(part)),
            _ => return Err("an empty directory name".into()),
        }
    }
    Ok((lowers, data))
}

/// The known word that is nearest to one, if it is near.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let nearest = known
        .map(|known| (distance(known, word), known))
        .min_by_key(|(far, _)| *far)?;
    let near = 2.max(word.len() / 3);
    (nearest.0 <= near && nearest.0 < word.len()).then_some(nearest.1)
}

/// How many letters have to be changed, added or removed to make one word the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut above = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (d, up) in b.iter().zip(row.iter().skip(1)) {
            left = (above + usize::from(c != *d)).min(up + 1).min(left + 1);
            above = *up;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
