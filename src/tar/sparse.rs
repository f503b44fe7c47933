//! Maps of sparse files: GNU's old format and its PAX formats, checked.

use std::io::Read;

use super::Segment;
use super::pax::{MAX_RUNS, number};

/// Turns (offset, length) pairs into segments.
///
/// # Errors
/// What is wrong, as half a sentence: runs that overlap, run backwards or past the file's size, or
/// need more data than is stored.
pub(super) fn segments(
    runs: impl IntoIterator<Item = (u64, u64)>,
    size: u64,
    stored_size: u64,
) -> Result<Vec<Segment>, String> {
    let mut segments = Vec::new();
    let (mut end, mut stored) = (0_u64, 0_u64);
    for (offset, len) in runs {
        let run_end = offset.checked_add(len).filter(|e| *e <= size);
        let Some(run_end) = run_end.filter(|_| offset >= end) else {
            return Err("the sparse map overlaps itself or goes past the file's end".into());
        };
        if len > 0 {
            segments.push(Segment {
                offset,
                len,
                stored,
            });
        }
        stored += len;
        end = run_end;
    }
    if stored > stored_size {
        return Err("the sparse map needs more data than the member has".into());
    }
    Ok(segments)
}

/// Pairs up the numbers of a PAX map.
///
/// # Errors
/// An odd number of numbers.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, String> {
    let pair = |pair: &[u64]| match pair {
        [offset, len] => Ok((*offset, *len)),
        _ => Err("the sparse map has an offset without a length".to_owned()),
    };
    numbers.chunks(2).map(pair).collect()
}

/// Reads the map that format 1.0 puts before the data: decimal numbers, one a line, padded to a
/// block. Returns the pairs and how many bytes the map took.
///
/// # Errors
/// What is wrong, as half a sentence.
pub(super) fn read_leading_map(data: &mut dyn Read) -> Result<(Vec<(u64, u64)>, u64), String> {
    let mut lines = Lines {
        data,
        block: [0; 512],
        at: 512,
        taken: 0,
    };
    let count = lines.number()?;
    if count > MAX_RUNS as u64 {
        return Err("the sparse map has too many runs".into());
    }
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push((lines.number()?, lines.number()?));
    }
    Ok((runs, lines.taken))
}

struct Lines<'d> {
    data: &'d mut dyn Read,
    block: [u8; 512],
    at: usize,
    taken: u64,
}

impl Lines<'_> {
    fn number(&mut self) -> Result<u64, String> {
        let mut digits = Vec::new();
        loop {
            if self.at == self.block.len() {
                self.data
                    .read_exact(&mut self.block)
                    .map_err(|_| "the sparse map is cut off")?;
                self.at = 0;
                self.taken += 512;
            }
            let byte = self.block.get(self.at).copied().unwrap_or(0);
            self.at += 1;
            match byte {
                b'\n' => break,
                _ if digits.len() < 20 => digits.push(byte),
                _ => return Err("the sparse map is malformed".into()),
            }
        }
        number(&digits).ok_or_else(|| "the sparse map is malformed".to_owned())
    }
}
