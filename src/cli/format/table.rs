//! Columns, as Go's tabwriter aligns them for Docker: at least ten wide, three spaces between.

/// The least width of a column, its padding included.
const LEAST: usize = 10;
/// Spaces after the widest cell.
const PADDING: usize = 3;

/// Aligns lines whose cells end in tabs. What follows the last tab of a line is not part of a
/// column; a column is as long as lines that have it follow each other.
pub(super) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths = vec![Vec::new(); lines.len()];
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for at in 0..columns {
        column(&lines, &mut widths, at);
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (at, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(at) {
                let gap = usize::saturating_sub(*width, cell.chars().count());
                out.extend(std::iter::repeat_n(' ', gap));
            }
        }
        out.push('\n');
    }
    out
}

/// Finds the widths of the cells at `at`, block of lines by block of lines.
fn column(lines: &[Vec<&str>], widths: &mut [Vec<usize>], at: usize) {
    let mut block: Vec<usize> = Vec::new();
    let mut widest = 0;
    let mut end = |block: &mut Vec<usize>, widest: &mut usize| {
        let width = (*widest + PADDING).max(LEAST);
        for line in block.drain(..) {
            if let Some(widths) = widths.get_mut(line) {
                widths.push(width);
            }
        }
        *widest = 0;
    };
    for (line, cells) in lines.iter().enumerate() {
        match cells.get(at) {
            Some(cell) if cells.len() > at + 1 => {
                block.push(line);
                widest = widest.max(cell.chars().count());
            }
            _ => end(&mut block, &mut widest),
        }
    }
    end(&mut block, &mut widest);
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_are_docker_wide() {
        assert_eq!(
            align("REPOSITORY\tTAG\tSIZE\nlocalhost/node-app\tlatest\t564MB\n"),
            "REPOSITORY           TAG       SIZE\nlocalhost/node-app   latest    564MB\n"
        );
        assert_eq!(
            align("A\tB\na much longer one\tb\n"),
            "A                   B\na much longer one   b\n"
        );
    }

    #[test]
    fn lines_without_a_column_end_it() {
        assert_eq!(
            align("a long first cell\tx\nplain\nb\ty\n"),
            "a long first cell   x\nplain\nb         y\n"
        );
        assert_eq!(align(""), "");
    }

    #[test]
    fn many_columns_do_not_exhaust_the_stack() {
        let line = "\t".repeat(20_000);
        assert_eq!(align(&line).len(), 20_000 * 10 + 1);
    }
}
