//! Columns for people: aligned with spaces, one row a line, no lines drawn, so that `awk` and `sort` can read them too.

use crate::text::one_line;

/// Between two columns.
const GAP: &str = "  ";

/// To which side the cells of a column go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A header and rows.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row. An empty cell becomes `-`, so that every row has as many words as the header has; only the last column,
    /// which may hold sentences, stays empty.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        let mut column = 0;
        self.rows.push(cells.map(|cell| {
            column += 1;
            if cell.is_empty() && column < N {
                "-".to_owned()
            } else {
                one_line(&cell)
            }
        }));
    }

    /// The table as text, every line with its end and without spaces before it.
    pub(crate) fn render(&self) -> String {
        let header = self.columns.map(|(name, _)| name.to_owned());
        let mut widths = [0; N];
        for row in std::iter::once(&header).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(widths).zip(self.columns) {
                match align {
                    Align::Left => line += &format!("{cell:<width$}"),
                    Align::Right => line += &format!("{cell:>width$}"),
                }
                line += GAP;
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([("NAME", Align::Left), ("N", Align::Right), ("WHY", Align::Left)]);
        table.row(["ü".into(), "1234".into(), "it\nwas".into()]);
        table.row(["longest".into(), String::new(), String::new()]);
        assert_eq!(
            table.render(),
            "\
NAME        N  WHY
ü        1234  it was
longest     -
"
        );
    }

    #[test]
    fn a_table_without_rows_is_its_header() {
        assert_eq!(Table::new([("A", Align::Right), ("B", Align::Left)]).render(), "A  B\n");
    }
}
